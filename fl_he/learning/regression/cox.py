"""Cox regression stratified by hospital: times to an event, whose rate is a ratio of a baseline.

Each hospital is a stratum with a baseline rate and risk sets that never leave it. Only sums of
losses, gradients and Hessians are added up over hospitals, so the sum is that of the stratified
partial likelihood. Source: Therneau and Grambsch 2000, "Modeling Survival Data: Extending the Cox
Model", sections 3.1 to 3.3.

The label of an example is the time at which its event was seen. The time of an example without an
event has a minus sign, which -0.0 has too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression.glm import GlmFamily, GlmModel, OutcomeMoments
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.run_files.metrics_contract import BRESLOW, COX

#: Margins may be so far above the one that exponentials refer to.
_REACH = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class CoxModel(GlmModel):
    """A Cox model, whose intercept is 0; see GlmModel."""

    FORMAT = "fl-he cox model"
    HOW_TO_USE = (
        "relative risk = exp(sum over features i of coefficients[i] * (x[i] - mean[i]) / "
        "scale[i]), x in the order of feature_names: the hazard as a multiple of that at the "
        "means of the training data"
    )
    PREDICTED: ClassVar[str] = "relative_risk"
    HAS_EXPOSURE = False


class _Cox(GlmFamily):
    trained = CoxModel
    has_dispersion = False
    has_intercept = False
    ratio = "hazard_ratio"
    may_separate = True
    #: Share of its own tied events that an event is compared with, by the order of Efron or not.
    _by_efron: ClassVar[bool]

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return the mean over tied events of the logarithm of the sums at risk, less the margin.

        Without an event it is 0.
        """
        return _RiskSets(margins, labels, efron=self._by_efron).losses()

    def residuals(self, margins: Array, means: Array, labels: Array) -> Array:
        """Return the expected events of each example less those seen."""
        sets = _RiskSets(margins, labels, efron=self._by_efron)
        return (sets.expected() - sets.events)[:, None]

    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        """Return the expected events; see `beside_curvature` for the rest of the Hessian."""
        return weights * _RiskSets(margins, labels, efron=self._by_efron).expected()

    def design(self, features: Array, labels: Array) -> Array:
        """See Family: about the mean of the examples that are ever at risk, and a zero.

        A column without any variation among them is exactly 0, as its information is.
        """
        at_risk = features[_ever_at_risk(labels)]
        if len(at_risk):
            features = features - at_risk[0]
            features = features - (at_risk - at_risk[0]).mean(axis=0)
        return np.column_stack([features, np.zeros(len(labels))])

    def beside_curvature(self, margins: Array, labels: Array, design: Array) -> tuple[Array, Array]:
        """See Family: the means at risk at each event are taken.

        The intercept, whose derivatives are 0, gets the number of events as its information: no
        other parameter depends on it, and the matrix has an inverse.
        """
        sets = _RiskSets(margins, labels, efron=self._by_efron)
        added = np.zeros((1, design.shape[1]))
        added[0, -1] = np.sqrt(np.count_nonzero(sets.events))
        return added, sets.means_at_risk(design)

    def gaps(self, margins: Array, labels: Array, terms: Array) -> tuple[Array, Array]:
        """See GlmFamily: an event is against a direction that has a larger margin at risk.

        The partial likelihood rises for ever along a direction if each event has the largest margin
        of all that are at risk with it, and margins at risk differ. Source: Bryson and Johnson
        1981, "The incidence of monotone likelihood in the Cox model".
        """
        sets = _RiskSets(margins, labels, efron=self._by_efron)
        found, largest = sets.behind_the_largest()
        return np.where(sets.events, found, np.inf), terms + terms[largest]

    def start(self, features: int, moments: OutcomeMoments) -> Array:
        """Return the model without any effect; raises DataError without any event."""
        self.link(moments.mean)
        return np.zeros(features + 1)

    def outcome_sums(self, labels: Array, exposure: Array) -> Array:
        """Return the number of events, twice, and zeros."""
        events = float(np.count_nonzero(~np.signbit(labels)))
        return np.array([events, events, 0.0, 0.0, 0.0])

    def pearson(self, means: Array, labels: Array) -> Array:
        """Return zeros: there is no such statistic."""
        return np.zeros(len(labels))

    def check_values(self, features: int) -> int:
        """See Family."""
        return 1 + trend_values(features)

    def checks(self, margins: Array, means: Array, labels: Array, design: Array) -> Array:
        """See GlmFamily: a zero, and the sums of `fl_he.learning.regression.hazards`."""
        sets = _RiskSets(margins, labels, efron=self._by_efron)
        return np.append(0.0, sets.trends(design[:, :-1]))

    def link(self, mean: float) -> float:
        """Return 0, the margin of no effect; raises DataError where no event was seen."""
        if not mean > 0.0:
            raise DataError("there is no event in any hospital's rows")
        return 0.0

    def variance(self, means: Array) -> Array:
        """Return ones."""
        return np.ones(len(means))

    def saturated(self, labels: Array) -> Array:
        """Return zeros."""
        return np.zeros(len(labels))

    def base(self, labels: Array) -> Array:
        """Return zeros."""
        return np.zeros(len(labels))

    def log_likelihood(self, loss: float, moments: OutcomeMoments) -> float:
        """See GlmFamily: the partial likelihood's."""
        return -loss

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """Yield nothing: scikit-learn has no such model."""
        return iter(())


class _Efron(_Cox):
    name = COX
    _by_efron = True


class _Breslow(_Cox):
    name = BRESLOW
    _by_efron = False


EFRON_COX, BRESLOW_COX = _Efron(), _Breslow()


def trend_values(features: int) -> int:
    """Return how many sums of :mod:`fl_he.learning.regression.hazards` there are."""
    return features * (features + 2)


def concordance(margins: Array, labels: Array) -> tuple[float, int]:
    """Return how many pairs of a hospital's examples a model orders rightly, and of how many.

    A pair is known if the earlier time is an event's; equal margins count one half. Source:
    Harrell, Lee and Mark 1996, "Multivariable prognostic models", section 5.5.

    Parameters
    ----------
    margins, labels
        Shape (m,).

    Examples
    --------
    >>> pairs, all_pairs = concordance(np.array([2.0, 1.0, 1.0]), np.array([1.0, 2.0, -3.0]))
    >>> float(pairs), all_pairs
    (2.5, 3)
    """
    times, right, known = np.abs(labels), 0.0, 0
    for event in np.flatnonzero(~np.signbit(labels)).tolist():
        later = (times > times[event]) | ((times == times[event]) & np.signbit(labels))
        known += int(np.count_nonzero(later))
        others = margins[later]
        right += float(np.count_nonzero(others < margins[event]))
        right += np.count_nonzero(others == margins[event]) / 2.0
    return right, known


def _ever_at_risk(labels: Array) -> NDArray[np.bool_]:
    """Return which examples are at risk at some event of the hospital."""
    times, seen = np.abs(labels), ~np.signbit(labels)
    found: NDArray[np.bool_] = times >= np.min(times, where=seen, initial=np.inf)
    return found


class _RiskSets:
    """Sums over the examples at risk at each time of a hospital with events.

    Examples are ordered by time, the latest first, so that a risk set is the beginning of the
    order. Of d tied events the k-th one, from 0, leaves out k / d of all of them (Efron 1977, "The
    efficiency of Cox's likelihood function for censored data"), or none of them (Breslow 1974).

    Exponentials are of margins less a reference, which is the largest margin so far, but for
    `_REACH`: no sum overflows, and none at risk is 0, however far margins are apart.
    """

    def __init__(self, margins: Array, labels: Array, *, efron: bool) -> None:
        self.events: NDArray[np.bool_] = ~np.signbit(labels)
        self._order = np.argsort(-np.abs(labels), kind="stable")
        self._margins, self._seen = margins[self._order, 0], self.events[self._order]
        times = np.abs(labels)[self._order]
        new = np.append(True, times[1:] != times[:-1])
        self._first, self._last = np.flatnonzero(new), np.flatnonzero(np.append(new[1:], True))
        self._tie = np.cumsum(new) - 1
        self._trend = np.log1p(times[new])
        self._parts, self._reference = self._divided()
        deaths = np.bincount(self._tie, self._seen).astype(np.intp)
        self._at = np.repeat(np.arange(len(deaths)), deaths)
        before = np.arange(len(self._at)) - np.repeat(np.cumsum(deaths) - deaths, deaths)
        self._share = efron * before / deaths[self._at]
        self._deaths = deaths
        self._weights = np.exp(self._margins - self._reference[self._tie])
        self._sums = self._at_risk(self._weights[:, None])[:, 0]

    def losses(self) -> Array:
        """Return each example's part of the negative logarithm of the partial likelihood."""
        logs = np.bincount(self._at, np.log(self._sums), minlength=len(self._deaths))
        means = logs / np.maximum(self._deaths, 1)
        compared = means[self._tie] - (self._margins - self._reference[self._tie])
        return self._back(np.where(self._seen, compared, 0.0))

    def expected(self, factors: Array | float = 1.0) -> Array:
        """Return the events that each example is expected to have, shape (m,).

        An event counts by its factor; factors have shape (events,), in the order of time.
        """
        ties, rate = len(self._deaths), factors / self._sums
        rates = np.bincount(self._at, rate, minlength=ties)
        left_out = np.bincount(self._at, self._share * rate, minlength=ties)
        until, carried, last = np.empty(ties), 0.0, self._reference[-1]
        for part in reversed(self._parts):
            reference = self._reference[part.start]
            carried *= np.exp(reference - last)
            until[part] = np.cumsum(rates[part][::-1])[::-1] + carried
            carried, last = until[part.start], reference
        return self._back(self._weights * (until[self._tie] - self._seen * left_out[self._tie]))

    def means_at_risk(self, columns: Array) -> Array:
        """Return weighted means of columns at risk at each event, shape (events, columns)."""
        weighted = self._weights[:, None] * columns[self._order]
        return self._at_risk(weighted) / self._sums[:, None]

    def trends(self, columns: Array) -> Array:
        """Return sums of residuals and variances by a function of time.

        Source: Grambsch and Therneau 1994, "Proportional hazards tests and diagnostics based on
        weighted residuals".

        Returns
        -------
        NDArray[np.float64]
            With g the function ``log(1 + t)`` of the time of an event: sums over events of g times
            the Schoenfeld residuals, and the upper triangles of those of g and of g^2 times the
            variances of the columns at risk.
        """
        times, means = self._trend[self._at], self.means_at_risk(columns)
        own = np.where(self.events, self._back(self._trend[self._tie]), 0.0)
        parts = [columns.T @ (own - self.expected(times))]
        for factors in (times, times**2):
            squares = columns.T @ (self.expected(factors)[:, None] * columns)
            variance = squares - means.T @ (factors[:, None] * means)
            parts.append(variance[np.triu_indices(len(variance))])
        return np.concatenate(parts)

    def behind_the_largest(self) -> tuple[Array, NDArray[np.intp]]:
        """Return each margin less the largest at risk then, and the example that has it."""
        largest = np.maximum.accumulate(self._margins)
        found = np.where(self._margins == largest, np.arange(len(largest)), 0)
        place = np.maximum.accumulate(found)[self._last][self._tie]
        examples = np.empty_like(self._order)
        examples[self._order] = self._order[place]
        return self._back(self._margins - self._margins[place]), examples

    def _divided(self) -> tuple[list[slice], Array]:
        """Divide the different times where the reference changes; return it for each time."""
        largest = np.maximum.accumulate(self._margins)[self._last]
        parts, reference, start = list[slice](), np.empty(len(largest)), 0
        while start < len(largest):
            above = largest[start:] > largest[start] + _REACH
            end = start + int(np.argmax(above)) if above.any() else len(largest)
            parts.append(slice(start, end))
            reference[start:end] = largest[start]
            start = end
        return parts, reference

    def _at_risk(self, values: Array) -> Array:
        """Return sums of values, in the order of time, over the examples at risk at each event."""
        sums = np.empty((len(self._last), values.shape[1]))
        carried, last = np.zeros(values.shape[1]), self._reference[0]
        for part in self._parts:
            rows = slice(self._first[part.start], self._last[part.stop - 1] + 1)
            reference = self._reference[part.start]
            so_far = np.cumsum(values[rows], axis=0) + carried * np.exp(last - reference)
            sums[part] = so_far[self._last[part] - rows.start]
            carried, last = so_far[-1], reference
        tied = np.add.reduceat(values * self._seen[:, None], self._first, axis=0)
        return np.asarray(sums[self._at] - self._share[:, None] * tied[self._at])

    def _back(self, values: Array) -> Array:
        found = np.empty(len(values))
        found[self._order] = values
        return found
