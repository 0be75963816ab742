"""A model of two classes at thresholds of its forecast, from the bins that company X gives out.

At the border of two bins the patients above it are known by class, and nowhere else: nothing here
is smoothed or read between borders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

#: A border that is this near to a risk is the risk: borders are computed from log-odds.
_NEAR = 1e-9
_DEVIATE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Counts of patients by class above and up to a forecast; a share of nobody is ``None``.

    Attributes
    ----------
    risk : float
        The forecast above which a patient counts as positive.
    true_positives, false_positives, false_negatives, true_negatives : int
    """

    risk: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def examples(self) -> int:
        """All patients."""
        return self.positives + self.false_positives + self.true_negatives

    @property
    def positives(self) -> int:
        """Patients of the class that is forecast."""
        return self.true_positives + self.false_negatives

    @property
    def flagged(self) -> int:
        """Patients above the threshold."""
        return self.true_positives + self.false_positives

    @property
    def sensitivity(self) -> float | None:
        """Share of the positives that are flagged, the recall."""
        return share(self.true_positives, self.positives)

    @property
    def specificity(self) -> float | None:
        """Share of the negatives that are not flagged."""
        return share(self.true_negatives, self.examples - self.positives)

    @property
    def precision(self) -> float | None:
        """Share of the flagged that are positive, the positive predictive value."""
        return share(self.true_positives, self.flagged)

    @property
    def net_benefit(self) -> float:
        """Net benefit: Vickers and Elkin 2006, "Decision curve analysis"."""
        return net_benefit(self.true_positives, self.false_positives, self.examples, self.risk)


def net_benefit(true: float, false: float, examples: int, risk: float) -> float:
    """Return true positives less false ones, these weighted by the odds of the risk, per patient.

    Examples
    --------
    >>> net_benefit(20, 30, 100, 0.25)
    0.1
    """
    return (true - false * risk / (1.0 - risk)) / examples


def share(part: int, whole: int) -> float | None:
    """Return a proportion; ``None`` of nobody."""
    return part / whole if whole else None


def wilson(part: int, whole: int) -> tuple[float, float]:
    """Return the 95% interval of a proportion.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Examples
    --------
    >>> [round(end, 4) for end in wilson(16, 99)]
    [0.102, 0.2465]
    """
    square, found = _DEVIATE**2, part / whole
    middle = found + square / (2 * whole)
    reach = _DEVIATE * math.sqrt(found * (1 - found) / whole + square / (4 * whole**2))
    scale = 1 + square / whole
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def thresholds(bins: Sequence[Mapping[str, Any]]) -> list[Threshold]:
    """Return counts at each border of the bins, in ascending order.

    Parameters
    ----------
    bins : sequence of mapping
        ``evaluation.calibration`` of metrics.json, of two classes. They follow each other, but for
        bins that are empty.

    Returns
    -------
    list of Threshold
        The first flags all, at the lower end of the first bin, and the last flags nobody.

    Examples
    --------
    >>> bins = [
    ...     {"lower": 0.0, "upper": 0.5, "examples": 8, "observed": 0.25},
    ...     {"lower": 0.5, "upper": 1.0, "examples": 4, "observed": 0.75},
    ... ]
    >>> [(one.risk, one.sensitivity, one.specificity) for one in thresholds(bins)]
    [(0.0, 1.0, 0.0), (0.5, 0.6, 0.8571428571428571), (1.0, 0.0, 1.0)]
    """
    by_class = []
    for one in bins:
        positive = round(one["observed"] * one["examples"])
        by_class.append((positive, one["examples"] - positive))
    above = [sum(each) for each in zip(*by_class, strict=True)]
    below = [0, 0]
    found = [Threshold(bins[0]["lower"], above[0], above[1], 0, 0)]
    for one, held in zip(bins, by_class, strict=True):
        above = [whole - part for whole, part in zip(above, held, strict=True)]
        below = [whole + part for whole, part in zip(below, held, strict=True)]
        found.append(Threshold(one["upper"], above[0], above[1], below[0], below[1]))
    return found


def at_risks(found: Sequence[Threshold], risks: Sequence[float]) -> list[Threshold | None]:
    """Return the threshold at each risk; ``None`` where no border of bins is."""
    return [
        next((one for one in found if math.isclose(one.risk, risk, rel_tol=_NEAR)), None)
        for risk in risks
    ]
