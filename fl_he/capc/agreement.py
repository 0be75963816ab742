"""Agreement of the parties of a deployed CaPC: one file, the same on every node.

It says what a query is, what noise the guardian adds, what an answering party's patients are
promised, and whose keys are used. Like the federation manifest it reaches every node by another
way than the coordinator's, and everybody compares its fingerprint. Nothing in it is secret.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from fl_he.capc.terms import Terms, variance_of
from fl_he.crypto.encoding.fields import (
    Fingerprint,
    Limit,
    Natural,
    Number,
    Whole,
    constant,
    form_of,
    kind_of,
    left_out,
    optional,
)
from fl_he.crypto.encoding.strict_json import Document, Documented
from fl_he.crypto.envelopes.public_identity import check_name
from fl_he.crypto.errors import CryptoError
from fl_he.learning.voting.gnmax import ConfidentGNMax, VotingBudget

_Positive = Annotated[Number, Limit("be above 0", lambda number: number > 0.0, shown=True)]
_Share = Annotated[
    Number, Limit("be between 0 and 1", lambda number: 0.0 < number < 1.0, shown=True)
]


@dataclass(frozen=True, slots=True)
class KeyPins:
    """Fingerprints of the two public keys of a node, 64 hexadecimal digits each."""

    paillier: Fingerprint
    dgk: Fingerprint


@dataclass(frozen=True, slots=True)
class Agreement(Documented):
    """The agreement. Whoever may write its file decides what a node agrees to.

    Attributes
    ----------
    classes : tuple of str
        The labels, at least 2, all different.
    features : dict of str to (float, float)
        Declared (public) lower and upper bounds of each feature, by its name, in their order.
        Values may lie beyond. A query holds features scaled: these bounds become -1 and 1.
    fraction_bits, integer_bits, value_bits, key_bits : int
        See `Terms`.
    min_contributors : int
        Fewest votes that may be counted.
    sigma_gnmax : float
        Standard deviation of the noise on each count, above 0.
    threshold : int or None
        The count that the largest one must reach, noise included.
    sigma_threshold : float or None
        Standard deviation of the noise of that test, above 0; None if there is no threshold.
    epsilon, delta : float
        What each answering party's patients are promised, over all queries ever.
    keys : dict of str to KeyPins
        By the names of the nodes that own keys: the guardian's, and of those that may query.
    schema : str or None
        Digest of the schema whose terms are the features; ``None``: the features are columns of
        tables.

    Raises
    ------
    CryptoError
        If a member is out of range, or two members do not fit each other.
    """

    classes: tuple[str, ...]
    features: dict[str, tuple[Number, Number]]
    fraction_bits: Whole
    integer_bits: Natural
    value_bits: Natural
    key_bits: Natural
    min_contributors: Natural
    sigma_gnmax: _Positive
    threshold: Whole | None
    sigma_threshold: _Positive | None
    epsilon: _Positive
    delta: _Share
    keys: dict[str, KeyPins] = field(repr=False)
    schema: Annotated[str | None, left_out(optional(kind_of(Fingerprint)), None)] = None

    def __post_init__(self) -> None:
        _check_names("classes", self.classes)
        _check_names("features", tuple(self.features))
        for name, (low, high) in self.features.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise CryptoError(f"the bounds of {name!r:.80} must be finite, the lower one first")
        if (self.threshold is None) != (self.sigma_threshold is None):
            raise CryptoError("threshold and sigma_threshold must both be set, or both be null")
        for name in self.keys:
            check_name(name)
        if len(self.keys) < 2:
            raise CryptoError("keys must include the guardian's and at least one querying party's")
        _ = self.terms
        object.__setattr__(self, "keys", dict(sorted(self.keys.items())))  # one text for everybody

    @property
    def terms(self) -> Terms:
        """Terms of the protocol, from the agreement."""
        return Terms(
            classes=len(self.classes),
            features=len(self.features),
            fraction_bits=self.fraction_bits,
            integer_bits=self.integer_bits,
            value_bits=self.value_bits,
            threshold=self.threshold,
            variance_gnmax=variance_of(self.sigma_gnmax),
            variance_threshold=variance_of(self.sigma_threshold),
            key_bits=self.key_bits,
        )

    @property
    def noise(self) -> ConfidentGNMax:
        """Noise that the guardian adds to a vote."""
        return ConfidentGNMax(self.sigma_gnmax, self.sigma_threshold)

    def budget(self, own: float | None = None) -> VotingBudget:
        """Return the whole budget of an answering party's patients.

        Parameters
        ----------
        own : float, optional
            The epsilon that this party promises its patients, at most that of the agreement.

        Raises
        ------
        CryptoError
            If its own epsilon is larger, or not above 0.
        """
        if own is not None and not 0.0 < own <= self.epsilon:
            raise CryptoError(
                "capc-epsilon in the node configuration must be above 0 and at most the "
                f"agreement's epsilon, {self.epsilon:g}"
            )
        return VotingBudget(self.noise, self.epsilon if own is None else own, self.delta)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole agreement as 64 hexadecimal digits."""
        text = replace(self.DOCUMENT, indent=None).dumps(self)
        return hashlib.sha256(text.encode()).hexdigest()

    def pins(self, name: str) -> KeyPins:
        """Return the pinned keys of a node; CryptoError if there are none."""
        if name not in self.keys:
            raise CryptoError(
                f"the agreement pins no keys of {name!r:.80}: the guardian and each party that "
                "queries need an entry in keys"
            )
        return self.keys[name]

    @classmethod
    def from_terms_json(
        cls, text: str, keys: Mapping[str, KeyPins], schema: str | None = None
    ) -> Agreement:
        """Read an agreement without keys and schema, as people write it, and add these."""
        found = _TERMS.loads(text, lambda *terms: dict(zip(_TERMS.members, terms, strict=True)))
        return cls(**found, keys=dict(keys), schema=schema)


_MEMBERS = form_of(Agreement).members
Agreement.DOCUMENT = Document(
    "a CaPC agreement",
    {"format": constant("fl-he capc agreement 1"), **_MEMBERS},
    limit=1 << 21,  # characters
    indent=1,
)
#: The members that people write; keys and a schema's digest make an agreement of them.
_TERMS = Document(
    "the terms of CaPC",
    {name: _MEMBERS[name] for name in _MEMBERS if name not in ("keys", "schema")},
    Agreement.DOCUMENT.limit,
)


def _check_names(what: str, names: tuple[object, ...]) -> None:
    # People compare what a terminal shows of them: no name may move the cursor or hide a line.
    if not all(isinstance(name, str) and name.strip() and name.isprintable() for name in names) or (
        len(set(names)) != len(names)
    ):
        raise CryptoError(f"{what} must be names of printable characters, all different")
