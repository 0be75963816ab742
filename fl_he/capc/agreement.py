"""What the parties of a deployed CaPC have agreed on: one file, the same on every node.

It says what a query is, what noise the guardian adds, what an answering party's patients are
promised, and whose keys are used. Like the federation manifest it reaches every node by another
way than the coordinator's, and everybody compares its fingerprint. Nothing in it is secret.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from fl_he.capc.terms import Terms
from fl_he.crypto.encoding.strict_json import parse_object, require_equal, require_members
from fl_he.crypto.envelopes.public_identity import check_name
from fl_he.crypto.errors import CryptoError

_FORMAT = "fl-he capc agreement 1"
_JSON_LIMIT = 1 << 21  # characters
_KEYS = ("paillier", "dgk")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_WHOLE = ("fraction_bits", "integer_bits", "value_bits", "key_bits", "min_contributors")
#: What `from_terms_json` reads; a manifest of keys makes an agreement of it.
TERMS = (
    *("classes", "features", *_WHOLE, "sigma_gnmax", "threshold", "sigma_threshold"),
    *("epsilon", "delta"),
)


@dataclass(frozen=True, slots=True)
class KeyPins:
    """Fingerprints of the two public keys of a node, 64 hexadecimal digits each."""

    paillier: str
    dgk: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement.

    Attributes
    ----------
    classes : tuple of str
        The labels, at least 2, all different.
    features : dict of str to (float, float)
        Names of the features in their order; between what most of their values are by public
        knowledge. A query holds them scaled: these bounds become -1 and 1.
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

    Raises
    ------
    CryptoError
        If it is not one that can be kept.
    """

    classes: tuple[str, ...]
    features: dict[str, tuple[float, float]]
    fraction_bits: int
    integer_bits: int
    value_bits: int
    key_bits: int
    min_contributors: int
    sigma_gnmax: float
    threshold: int | None
    sigma_threshold: float | None
    epsilon: float
    delta: float
    keys: dict[str, KeyPins] = field(repr=False)

    def __post_init__(self) -> None:
        _check_names("classes", self.classes)
        _check_names("features", tuple(self.features))
        for name, (low, high) in self.features.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise CryptoError(f"the bounds of {name!r:.80} must be finite, the lower one first")
        for name in (*_WHOLE, *(() if self.threshold is None else ("threshold",))):
            value = getattr(self, name)
            if type(value) is not int or value < (name in _WHOLE and name != "fraction_bits"):
                raise CryptoError(f"{name} must be a whole number, got {value!r:.40}")
        for name in ("sigma_gnmax", "epsilon"):
            _check_positive(name, getattr(self, name))
        if not 0.0 < _number("delta", self.delta) < 1.0:
            raise CryptoError(f"delta must be between 0 and 1, got {self.delta!r:.40}")
        if (self.threshold is None) != (self.sigma_threshold is None):
            raise CryptoError("threshold and sigma_threshold must both be set, or both be null")
        if self.sigma_threshold is not None:
            _check_positive("sigma_threshold", self.sigma_threshold)
        for name, pins in self.keys.items():
            check_name(name)
            for kind in _KEYS:
                if not _FINGERPRINT.fullmatch(str(getattr(pins, kind))):
                    raise CryptoError(
                        f"the {kind} key of {name} must be a fingerprint of 64 lower-case "
                        "hexadecimal digits"
                    )
        if len(self.keys) < 2:
            raise CryptoError("keys must be the guardian's and of one who queries at least")
        _ = self.terms

    @property
    def terms(self) -> Terms:
        """What the protocol itself has to know."""
        return Terms(
            classes=len(self.classes),
            features=len(self.features),
            fraction_bits=self.fraction_bits,
            integer_bits=self.integer_bits,
            value_bits=self.value_bits,
            threshold=self.threshold,
            variance_gnmax=_variance(self.sigma_gnmax),
            variance_threshold=_variance(self.sigma_threshold),
            key_bits=self.key_bits,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole agreement as 64 hexadecimal digits."""
        text = json.dumps(self._members(), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def pins(self, name: str) -> KeyPins:
        """Return the keys of a node; CryptoError if it has none."""
        if name not in self.keys:
            raise CryptoError(
                f"keys in the agreement must be pinned for whoever owns keys in CaPC, and for "
                f"{name!r:.80} there are none"
            )
        return self.keys[name]

    def to_json(self) -> str:
        """Return the agreement as JSON."""
        return json.dumps(self._members(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Agreement:
        """Read what `to_json` wrote; CryptoError for anything else."""
        members = parse_object(text, "a CaPC agreement", ("format", *TERMS, "keys"), _JSON_LIMIT)
        require_equal(members["format"], _FORMAT, "format")
        keys = _mapping("keys", members["keys"])
        pins = {}
        for name, pair in keys.items():
            found = _mapping(f"the keys of {name!r:.80}", pair)
            require_members(found, "a node's keys", _KEYS)
            pins[name] = KeyPins(str(found["paillier"]), str(found["dgk"]))
        return cls._of(members, pins)

    @classmethod
    def from_terms_json(cls, text: str, keys: Mapping[str, KeyPins]) -> Agreement:
        """Read an agreement without keys, as people write it, and add the keys."""
        return cls._of(parse_object(text, "the terms of CaPC", TERMS, _JSON_LIMIT), dict(keys))

    @classmethod
    def load(cls, path: Path) -> Agreement:
        """Read an agreement's file; whoever may write it decides what this node agrees to.

        Raises
        ------
        CryptoError
            If it is none.
        OSError
            If it cannot be read.
        """
        with path.open("rb") as file:
            data = file.read(_JSON_LIMIT + 1)
        return cls.from_json(data.decode("utf-8", errors="replace"))

    @classmethod
    def _of(cls, members: Mapping[str, Any], keys: dict[str, KeyPins]) -> Agreement:
        classes = members["classes"]
        if not isinstance(classes, list):
            raise CryptoError("classes must be a list of names")
        features = {}
        for name, bounds in _mapping("features", members["features"]).items():
            if not isinstance(bounds, list) or len(bounds) != 2:
                raise CryptoError(f"the feature {name!r:.80} must have two bounds")
            features[name] = (_number(name, bounds[0]), _number(name, bounds[1]))
        rest = {name: members[name] for name in TERMS if name not in ("classes", "features")}
        for name in ("sigma_gnmax", "sigma_threshold", "epsilon", "delta"):
            if name != "sigma_threshold" or rest[name] is not None:
                rest[name] = _number(name, rest[name])
        return cls(classes=tuple(classes), features=features, keys=keys, **rest)

    def _members(self) -> dict[str, Any]:
        terms = {name: getattr(self, name) for name in TERMS}
        keys = {
            name: {"paillier": pins.paillier, "dgk": pins.dgk}
            for name, pins in sorted(self.keys.items())
        }
        features = {name: list(bounds) for name, bounds in self.features.items()}
        classes = list(self.classes)
        return {
            "format": _FORMAT,
            **terms,
            "classes": classes,
            "features": features,
            "keys": keys,
        }


def _mapping(what: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise CryptoError(f"{what} must be a JSON object")
    return value


def _number(what: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise CryptoError(f"{what!r:.80} must be a number, got {type(value).__name__}")
    if not abs(value) <= 1e300:  # an integer may be too large for a float, and NaN is none
        raise CryptoError(f"{what!r:.80} must be a number of at most 1e300 in size")
    return float(value)


def _check_positive(what: str, value: float) -> None:
    if not (math.isfinite(_number(what, value)) and value > 0.0):
        raise CryptoError(f"{what} must be above 0 and finite, got {value!r:.40}")


def _check_names(what: str, names: tuple[object, ...]) -> None:
    # People compare what a terminal shows of them: no name may move the cursor or hide a line.
    if not all(isinstance(name, str) and name.strip() and name.isprintable() for name in names) or (
        len(set(names)) != len(names)
    ):
        raise CryptoError(f"{what} must be names of printable characters, all different")


def _variance(sigma: float | None) -> Fraction | None:
    # as it was written, not as the nearest float
    return None if sigma is None else Fraction(str(sigma)) ** 2
