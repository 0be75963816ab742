"""Encrypted sums before the first round: pooled mean, variance and class counts.

One round for the sums and counts, and one for the squares about the mean. See
:mod:`fl_he.learning.tables.moments` for how the numbers travel. If another set of hospitals answers
the second time, the variance is theirs, about the first ones' mean.

With privacy it is one round of noisy sums within declared ranges: see
:mod:`fl_he.learning.privacy.scaling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Whole, form_of
from fl_he.learning.privacy.scaling import scaling_of_sums
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.learning.tables.moments import Limbs, balanced_weights
from fl_he.learning.tables.scaling import Scaling, from_moments
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import MOMENTS, NUM_EXAMPLES
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.model import read_named_array
from fl_he.wire.records import CONFIG, KEPT, ProtocolError, refused_as


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is known of the pooled data before the first round.

    Attributes
    ----------
    rounds : int
        Sums that were opened so far.
    terms : LearningTerms
        What the hospitals are told; after the first of two sums the scale is missing.
    """

    rounds: Whole = 0
    terms: LearningTerms = field(default_factory=LearningTerms)

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return form_of(Preparation).write(self)

    @classmethod
    def from_members(cls, members: object) -> Preparation:
        """Read what `to_members` returned; raises ProtocolError."""
        return form_of(cls).read(members, KEPT)


@dataclass(frozen=True, slots=True)
class PrivateScaling:
    """How hospitals with privacy are asked for mean and variance.

    Attributes
    ----------
    ranges : Ranges
        To which they clip their values.
    members : mapping
        The terms of privacy, as their train configs say them.
    """

    ranges: Ranges
    members: Mapping[str, float | int]


def prepare(
    strategy: SequentialPaillier,
    grid: Grid,
    known: Preparation,
    *,
    balanced: bool,
    classes: int,
    private: PrivateScaling | None = None,
    keep: Callable[[Preparation], None] = lambda _: None,
) -> LearningTerms:
    """Have the hospitals' data summed up as far as it is needed and not known yet.

    Parameters
    ----------
    strategy : SequentialPaillier
        Sums up in its topology and packing.
    grid : Grid
    known : Preparation
        At first nothing but the scaling that is wanted.
    balanced : bool
        Whether class weights are wanted that make up for rare classes.
    classes : int
        Number of classes.
    private : PrivateScaling or None
        How mean and variance are asked for under privacy.
    keep : callable
        Is handed what is known after each sum.

    Raises
    ------
    ProtocolError
        If a sum is refused, or a class or a feature is such that nothing can be made of it.
    """
    sums = known.terms.scaling == "federated" and not known.terms.scale
    if sums and private is not None:
        request = MomentsRequest(
            low=tuple(private.ranges.low.tolist()), high=tuple(private.ranges.high.tolist())
        )
        scaling = _Totals(strategy, grid, 1, request, private.members).within(private.ranges)
        terms = replace(
            known.terms, mean=tuple(scaling.mean.tolist()), scale=tuple(scaling.scale.tolist())
        )
        keep(Preparation(1, terms))
        return terms
    if known.rounds < 1 and (sums or balanced):
        request = MomentsRequest(sums=sums, counts=balanced)
        totals = _Totals(strategy, grid, 1, request)
        terms = known.terms
        if sums:
            mean = totals.digits("sums") / totals.examples
            terms = replace(terms, mean=tuple(mean.tolist()))
        if balanced:
            terms = replace(terms, class_weights=totals.weights(classes))
        known = Preparation(1, terms)
        keep(known)
    if known.rounds < 2 and sums:
        mean = np.array(known.terms.mean)
        totals = _Totals(strategy, grid, 2, MomentsRequest(mean=known.terms.mean))
        variance = totals.digits("squares") / totals.examples
        with refused_as("the pooled"):
            scaling = from_moments(mean, variance, totals.examples)
        known = Preparation(2, replace(known.terms, scale=tuple(scaling.scale.tolist())))
        keep(known)
    return known.terms


class _Totals:
    """What one sum came to."""

    def __init__(
        self,
        strategy: SequentialPaillier,
        grid: Grid,
        number: int,
        request: MomentsRequest,
        members: Mapping[str, float | int] = MappingProxyType({}),
    ) -> None:
        content = request.to_content()
        content.config_records[CONFIG].update(members)
        self._mean = strategy.sum_up(grid, "prepare", number, MOMENTS, content)
        packing = strategy.packing
        self._fraction_bits = packing.fraction_bits
        self._limbs = Limbs(packing.fraction_bits, packing.integer_bits)
        metrics = next(iter(self._mean.metric_records.values()))
        self.examples = int(cast(int, metrics[NUM_EXAMPLES]))

    def digits(self, name: str) -> NDArray[np.float64]:
        total = self._total(name)
        with refused_as(f"the hospitals' {name}:"):
            return self._limbs.join(total)

    def within(self, ranges: Ranges) -> Scaling:
        integers = np.rint(np.ldexp(self._total("within"), self._fraction_bits)).astype(np.int64)
        with refused_as("the hospitals'"):
            return scaling_of_sums(integers, self.examples, ranges, self._fraction_bits)

    def weights(self, classes: int) -> tuple[float, ...]:
        counts = np.rint(self._total("counts"))
        if counts.shape != (classes,):
            raise ProtocolError(f"the hospitals must count {classes} classes, got {len(counts)}")
        with refused_as("the hospitals'"):
            return tuple(balanced_weights(counts).tolist())

    def _total(self, name: str) -> NDArray[np.float64]:
        return read_named_array(self._mean, name) * self.examples
