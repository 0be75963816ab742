"""Encrypted sums beside the rounds: of the data before the first, of predictions after the last.

Mean, variance and class counts take one sum of values and counts, and one of the squares about the
mean. See :mod:`fl_he.learning.tables.moments` for how the numbers travel. If another set of
hospitals answers the second time, the variance is theirs, about the first ones' mean. With privacy
there is one noisy sum within declared ranges: see :mod:`fl_he.learning.privacy.scaling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Whole
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.privacy.scaling import scaling_of_sums
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.learning.tables.moments import Limbs, balanced_weights
from fl_he.learning.tables.scaling import from_moments, is_constant
from fl_he.strategies.encrypted_sum import Kept
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import MOMENTS, NUM_EXAMPLES, SEPARATION, printable
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest, privacy_members
from fl_he.wire.model import model_message_content, read_arrays, read_named_array
from fl_he.wire.records import CONFIG, ProtocolError, refused_as


@dataclass(frozen=True, slots=True)
class Preparation(Kept):
    """What is known of the pooled data before the first round.

    Attributes
    ----------
    rounds : int
        Sums that were opened so far.
    terms : LearningTerms
        What the hospitals are told; after the first of two sums the scale is missing.
    constant : tuple of int or None
        Numbers of the features that do not vary, if the sums tell.
    """

    rounds: Whole = 0
    terms: LearningTerms = field(default_factory=LearningTerms)
    constant: tuple[Whole, ...] | None = None


def prepare(
    strategy: SequentialPaillier,
    known: Preparation,
    *,
    balanced: bool,
    classes: int,
    ranges: Ranges | None,
    privacy: GaussianPrivacy | None,
    keep: Callable[[Preparation], None],
) -> Preparation:
    """Have the hospitals' data summed up as far as it is needed and not known yet.

    Parameters
    ----------
    strategy : SequentialPaillier
        Sums up in its topology and packing.
    known : Preparation
        At first nothing but the scaling that is wanted.
    balanced : bool
        Whether class weights are wanted that make up for rare classes.
    classes : int
        Number of classes.
    ranges : Ranges or None
        To which hospitals with privacy clip their values.
    privacy : GaussianPrivacy or None
        The terms of privacy.
    keep : callable
        Is handed what is known after each sum.

    Raises
    ------
    ProtocolError
        If a sum is refused, or a class or a feature is such that nothing can be made of it.
    """

    def totals(number: int, request: MomentsRequest) -> _Totals:
        content = request.to_content()
        if request.low:
            content.config_records[CONFIG].update(privacy_members(privacy))
        return _Totals(strategy.sum_up("prepare", number, MOMENTS, content), strategy.packing)

    terms = known.terms
    sums = terms.scaling == "federated" and not terms.scale
    if sums and privacy is not None and ranges is not None:
        low, high = tuple(ranges.low.tolist()), tuple(ranges.high.tolist())
        noisy, bits = totals(1, MomentsRequest(low=low, high=high)), strategy.packing.fraction_bits
        integers = np.rint(np.ldexp(noisy["within"], bits)).astype(np.int64)
        with refused_as("the hospitals'"):
            scaling = scaling_of_sums(integers, noisy.examples, ranges, bits)
        mean, scale = tuple(scaling.mean.tolist()), tuple(scaling.scale.tolist())
        terms = replace(terms, mean=mean, scale=scale)
        known = Preparation(1, terms)
        keep(known)
        return known
    if known.rounds < 1 and (sums or balanced):
        first = totals(1, MomentsRequest(sums=sums, counts=balanced))
        if sums:
            terms = replace(terms, mean=tuple(first.mean("sums").tolist()))
        if balanced:
            terms = replace(terms, class_weights=_weights(first["counts"], classes))
        known = Preparation(1, terms)
        keep(known)
    if known.rounds < 2 and sums:
        second = totals(2, MomentsRequest(mean=terms.mean))
        variance = second.mean("squares")
        with refused_as("the pooled"):
            scaling = from_moments(np.array(terms.mean), variance, second.examples)
        constant = np.flatnonzero(is_constant(scaling.mean, variance, second.examples))
        terms = replace(terms, scale=tuple(scaling.scale.tolist()))
        known = Preparation(2, terms, tuple(constant.tolist()))
        keep(known)
    return known


def pooled_figures(
    strategy: SequentialPaillier, number: int, model: ArrayRecord, config: ConfigRecord
) -> dict[str, Any]:
    """Have the hospitals count what a model predicts right, and company X say what may be said.

    Parameters
    ----------
    strategy : SequentialPaillier
        Sums up in its topology and packing.
    number : int
        Of the evaluation, from 1.
    model : ArrayRecord
    config : ConfigRecord
        The terms under which it was trained.

    Returns
    -------
    dict
        Members of :class:`fl_he.learning.regression.disclosure.Figures`, with the number of
        ``hospitals``.

    Raises
    ------
    ProtocolError
        If too few hospitals hold data out, or too few patients are.
    """
    found = strategy.figures(number, model_message_content(model, config))
    reasons = {printable(name): printable(reason) for name, reason in found.withheld.items()}
    hospitals = strategy.sums[-1].contributors
    return {**asdict(found), "withheld": reasons, "hospitals": hospitals}


def taken_sides(
    strategy: SequentialPaillier, model: ArrayRecord, config: ConfigRecord
) -> tuple[bool, bool]:
    """Have the hospitals count examples against a model, and on it; learn whether there are any.

    Parameters
    ----------
    strategy : SequentialPaillier
        Sums up in its topology and packing.
    model : ArrayRecord
        See :func:`fl_he.learning.regression.separation.sides`.
    config : ConfigRecord
        The terms of training.

    Raises
    ------
    ProtocolError
        If too few hospitals answer, or company X does not.
    """
    content = model_message_content(model, config)
    mean = strategy.sum_up("separation", 1, SEPARATION, content)
    sides = _Totals(mean, strategy.packing)["sides"]
    if sides.shape != (2,):
        raise ProtocolError("the hospitals must count two sides of a model, and they do not")
    against, on = (sides > 0.0).tolist()
    return against, on


class _Totals:
    """Sums of named arrays over the hospitals, beside the wrapped strategy's rounds."""

    def __init__(self, mean: RecordDict, packing: Packing) -> None:
        self._mean = mean
        self._limbs = Limbs(packing.fraction_bits, packing.integer_bits)
        self.metrics = next(iter(mean.metric_records.values()))
        self.examples = int(cast(int, self.metrics[NUM_EXAMPLES]))

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return read_named_array(read_arrays(self._mean), name) * self.examples

    def mean(self, name: str) -> NDArray[np.float64]:
        """Return the mean of sums that travel as digits."""
        digits = self[name]
        with refused_as(f"the hospitals' {name}:"):
            return self._limbs.join(digits) / self.examples


def _weights(counts: NDArray[np.float64], classes: int) -> tuple[float, ...]:
    if counts.shape != (classes,):
        raise ProtocolError(f"the hospitals must count {classes} classes, got {len(counts)}")
    with refused_as("the hospitals'"):
        return tuple(balanced_weights(np.rint(counts)).tolist())
