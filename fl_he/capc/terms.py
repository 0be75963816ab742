"""Terms of a CaPC run, agreed beforehand: each party reads them from its own configuration.

Nothing here comes from another node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from fl_he.crypto.comparison.argmax import largest_difference, tie_bits
from fl_he.crypto.comparison.relu import COMPARED_BITS
from fl_he.crypto.comparison.slot_layout import STATISTICAL_BITS, SlotLayout
from fl_he.crypto.encoding.fields import Natural, between, check_fields
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.voting.answering import AnsweringModel
from fl_he.learning.voting.integer_model import IntegerModel, in_integers

#: Counts are compared as numbers of this many bits, ties included. With their masks they then fill
#: a slot of the packing, 64 bits.
VOTE_BITS = 62 - STATISTICAL_BITS
#: The votes are summed as any update is; a slot has room for the noise, too.
VOTE_PACKING = Packing(fraction_bits=0, integer_bits=54, max_contributors=512)
#: A feature in fixed point is a signed integer of 64 bits.
_FIXED_POINT_BITS = 62


@dataclass(frozen=True, slots=True)
class Terms:
    """Numbers of an agreement that the protocol's steps compute with.

    Parameters
    ----------
    classes : int
        At least 2.
    features : int
        Of a query, after the public feature map.
    fraction_bits, integer_bits : int
        Fixed point of a feature: below ``2**integer_bits`` in size.
    value_bits : int
        l: logits are compared as numbers of this many bits.
    threshold : int or None
        The noisy count that the largest one must reach; None: every query is answered.
    variance_gnmax, variance_threshold : Fraction or None
        Of the guardian's noise on each count and of the threshold test; None for none.
    key_bits : int
        Of all keys, Paillier and DGK.
    key_kind : KeyKind
        Of the Paillier keys that simulated nodes make; those of deployed nodes are in files.

    Raises
    ------
    CryptoError
        If a value is out of range.
    """

    classes: Annotated[int, between(2, 128)]
    features: Natural
    fraction_bits: int = 12
    integer_bits: int = 5
    value_bits: int = 32
    threshold: int | None = None
    variance_gnmax: Fraction | None = None
    variance_threshold: Fraction | None = None
    key_bits: int = 2048
    key_kind: KeyKind = KeyKind.short

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.fraction_bits <= _FIXED_POINT_BITS - self.integer_bits:
            raise CryptoError(
                f"fraction_bits + integer_bits must be at most {_FIXED_POINT_BITS}, got "
                f"{self.fraction_bits} and {self.integer_bits}"
            )
        _ = self.logit_layout  # refuses what no slot has room for
        if self.value_bits <= (ties := tie_bits(self.classes) + 1):
            raise CryptoError(
                f"value_bits must be above {ties} for {self.classes} classes, got {self.value_bits}"
            )
        if self.threshold is None and self.variance_threshold is not None:
            raise CryptoError("variance_threshold needs a threshold")
        if self.threshold is not None and abs(self.threshold) > self.largest_count:
            raise CryptoError(
                f"the threshold must be at most {self.largest_count} in size, got {self.threshold}"
            )

    @property
    def logit_layout(self) -> SlotLayout:
        """Layout of features and logits under the querying party's key."""
        return SlotLayout(self.value_bits, self.key_bits)

    @property
    def vote_layout(self) -> SlotLayout:
        """Layout of counts under the guardian's key."""
        return SlotLayout(VOTE_BITS, self.key_bits)

    def in_integers(self, model: AnsweringModel, integer_bits: int | Sequence[int]) -> IntegerModel:
        """Return a model in integers, for features below ``2**integer_bits`` in size."""
        return in_integers(
            model,
            fraction_bits=self.fraction_bits,
            integer_bits=integer_bits,
            compared_bits=COMPARED_BITS,
            largest_difference=largest_difference(self.classes, self.value_bits),
        )

    @property
    def largest_count(self) -> int:
        """Noisy counts must not exceed it in size, or comparing them would go wrong."""
        return largest_difference(self.classes, VOTE_BITS) // 2


def variance_of(sigma: float | None) -> Fraction | None:
    """Return the variance of a standard deviation as it was written, not as the nearest float."""
    return None if sigma is None else Fraction(str(sigma)) ** 2
