"""Profile likelihood intervals of a run: the search after the last round, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config, Penalty
from fl_he.crypto.encoding.fields import Number, Whole
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import profile
from fl_he.learning.optimizers.profile import Bound, Estimate
from fl_he.learning.regression import firth, likelihood
from fl_he.learning.tables.scaling import Scaling
from fl_he.run_files.checkpoint import Checkpoint, CheckpointError
from fl_he.strategies.encrypted_sum import Kept
from fl_he.strategies.model_sums import ModelSums
from fl_he.wire.events import ProfileAdvanced

#: Iterations in a row with other hospitals than the estimate's, after which the search ends.
_MOST_MISSED = 3
_INFINITE = (
    f"infinite: the likelihood does not drop far enough within {profile.FURTHEST:g} standard errors"
)


@dataclass(frozen=True, slots=True)
class _Search(Kept):
    """The search between two iterations.

    Attributes
    ----------
    iterations : int
        Sums of derivatives that were opened.
    missed : int
        How many of the last of them were of other hospitals.
    seconds : float
        Of all sums.
    bounds : list of dict
    """

    iterations: Whole = 0
    missed: Whole = 0
    seconds: Number = 0.0
    bounds: list[dict[str, Any]] | None = None


class ProfileIntervals:
    """Intervals for the columns that ``inference.profile`` names.

    Parameters
    ----------
    config : Config
    features : sequence of str
        Names of the features.
    classes : int

    Raises
    ------
    ConfigError
        If there are more than two classes.
    """

    def __init__(self, config: Config, features: Sequence[str], classes: int) -> None:
        self._config, self._columns = config, config.inference.profile
        self._firth = config.penalty is Penalty.firth
        if classes > 2 and (self._columns or self._firth):
            setting = "penalty=firth" if self._firth else "inference.profile"
            raise ConfigError(
                f"{setting} must be left out for more than two classes, got {classes}"
            )
        self._places = [list(features).index(column) for column in self._columns]

    def search(
        self, state: Callable[[], Checkpoint], sums: ModelSums, keep: Callable[..., None]
    ) -> Iterator[ProfileAdvanced]:
        """Search for all bounds together; yield after each iteration, once it is kept.

        Parameters
        ----------
        state : callable
            Returns the checkpoint, which may hold a search that was cut off.
        sums : ModelSums
        keep : callable
            Changes members of the checkpoint.

        Raises
        ------
        ProtocolError
            If a sum is refused; the search can be resumed.
        """
        if not self._columns or self._withheld(state()) is not None:
            return
        sums.take_seconds()  # those of the rounds are in the entries
        estimate, found = self._estimate(state()), self._read(state())
        bounds = self._bounds(found, estimate)
        while profile.still_open(bounds) and self._may_go_on(found):
            number, rounds = found.iterations + 1, len(state().rounds)
            points = sums.points(number, [bound.theta for bound in profile.still_open(bounds)])
            same = {point.examples for point in points} == {estimate.examples}
            evaluated = sums.penalised(rounds + number, points) if self._firth and same else points
            if same and evaluated is not None:
                profile.advance(bounds, evaluated, estimate, self._config.tolerance)
            missed = 0 if same and evaluated is not None else found.missed + 1
            spent = found.seconds + sums.take_seconds()
            found = _Search(number, missed, spent, [bound.to_members() for bound in bounds])
            keep(profile=found.to_members(), unopened=None, first_sum=None)
            ended = sum(bound.state != profile.OPEN for bound in bounds)
            yield ProfileAdvanced(number, ended, len(bounds))

    def figures(
        self,
        state: Checkpoint,
        scaling: Scaling,
        left_out: Mapping[str, str] | None = None,
        separated: str | None = None,
    ) -> dict[str, Any] | None:
        """Return the member ``profile`` of ``inference`` in metrics.json; ``None`` without columns.

        Parameters
        ----------
        state : Checkpoint
        scaling : Scaling
        left_out : mapping of str to str, optional
            Reasons, by the names of features that have no coefficient.
        separated : str or None
            What separates the classes, if that is proved, as a clause.

        Returns
        -------
        dict or None
            ``iterations``, ``seconds``, ``withheld`` (why there are no intervals, or ``None``) and
            ``intervals``: list of ``name``, ``lower`` and ``upper`` (log odds for one unit more),
            ``odds_ratio_lower``, ``odds_ratio_upper``, and ``lower_reason`` and ``upper_reason``,
            which say why a bound is ``None``.
        """
        if not self._columns:
            return None
        found = self._read(state)
        reason = self._withheld(state)
        if separated is not None:
            reason = f"{separated}, so that no optimum is finite; penalty=firth has intervals"
        if reason is not None:
            return {"iterations": 0, "seconds": 0.0, "withheld": reason, "intervals": []}
        estimate = self._estimate(state)
        bounds = self._bounds(found, estimate)
        rows = []
        for name, lower, upper in zip(self._columns, bounds[::2], bounds[1::2], strict=True):
            row: dict[str, Any] = {"name": name}
            for end, bound in (("lower", lower), ("upper", upper)):
                reason = (left_out or {}).get(name) or self._reason(bound, found, estimate)
                value = None
                if reason is None:
                    value = float(bound.theta[bound.column] / scaling.scale[bound.column])
                row |= {end: value, f"{end}_reason": reason, f"odds_ratio_{end}": _odds(value)}
            rows.append(row)
        return {
            "iterations": found.iterations,
            "seconds": found.seconds,
            "withheld": None,
            "intervals": rows,
        }

    def _withheld(self, state: Checkpoint) -> str | None:
        """Return why there is nothing to search from; ``None`` if there is."""
        if not state.rounds[-1]["converged"]:
            return "training ended before it converged"
        if not math.isfinite(self._estimate(state).log_likelihood):
            return (
                "the information is singular: columns are linear combinations of others, or the "
                "classes can be separated"
            )
        return None

    def _may_go_on(self, found: _Search) -> bool:
        return found.iterations < self._config.rounds and found.missed < _MOST_MISSED

    def _reason(self, bound: Bound, found: _Search, estimate: Estimate) -> str | None:
        if bound.state == profile.FOUND:
            return None
        if bound.state == profile.NONE:
            return _INFINITE
        if not estimate.error(bound.column) > 0.0:
            return "not found: the column has no estimate"
        if found.missed >= _MOST_MISSED:
            return "not found: other hospitals answered than in the last round of training"
        if bound.state == profile.OPEN:
            return f"not found in {found.iterations} iterations: raise rounds"
        return "not found: the search led nowhere"

    def _estimate(self, state: Checkpoint) -> Estimate:
        theta = np.array(state.parameters)
        try:
            mean = likelihood.from_upper_triangle(np.array(state.hessian or []), len(theta))
        except DataError as error:
            raise CheckpointError(f"the checkpoint: {error}") from error
        information = state.examples * mean
        log_likelihood = -state.examples * float(state.rounds[-1]["loss"])
        _, log_determinant = firth.whitening(information, theta)
        if self._firth or not math.isfinite(log_determinant):
            log_likelihood += log_determinant / 2
        cov = firth.inverse(information, theta)
        return Estimate(theta, log_likelihood, cov, state.examples)

    def _read(self, state: Checkpoint) -> _Search:
        return _Search() if state.profile is None else _Search.from_members(state.profile)

    def _bounds(self, found: _Search, estimate: Estimate) -> list[Bound]:
        if found.bounds is None:
            return estimate.bounds(self._places)
        try:
            return [Bound.from_members(members) for members in found.bounds]
        except DataError as error:
            raise CheckpointError(f"the checkpoint: {error}") from error


def _odds(logarithm: float | None) -> float | None:
    """Return the exponential, ``None`` where it is no float64."""
    try:
        return None if logarithm is None else math.exp(logarithm)
    except OverflowError:
        return None
