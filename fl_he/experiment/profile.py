"""Profile likelihood intervals of a run: their figures, and the words for bounds not found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fl_he.config.constraints import ConfigError
from fl_he.config.rules import two_classes_only
from fl_he.config.run import Config
from fl_he.experiment.inference import SINGULAR
from fl_he.learning.optimizers import profile
from fl_he.learning.optimizers.profile import Bound, Estimate, Search
from fl_he.learning.optimizers.training import Training
from fl_he.learning.tables.scaling import Scaling

_BEYOND = (
    f"beyond {profile.FURTHEST:g} standard errors: the likelihood has not dropped far enough there"
)


class ProfileIntervals:
    """Intervals for the columns that ``inference.profile`` names.

    Parameters
    ----------
    config : Config
    classes : int

    Raises
    ------
    ConfigError
        If there are more than two classes.
    """

    def __init__(self, config: Config, classes: int) -> None:
        self._columns = config.inference.profile
        check_classes(config, classes)

    def figures(
        self,
        training: Training,
        seconds: float,
        scaling: Scaling,
        left_out: Mapping[str, str] | None = None,
        separated: str | None = None,
    ) -> dict[str, Any] | None:
        """Return the member ``profile`` of ``inference`` in metrics.json; ``None`` without columns.

        Parameters
        ----------
        training : Training
            At the end.
        seconds : float
            Of all sums of the search.
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
        found, estimate, reason = training.searching(), training.estimate(), None
        if found is None or estimate is None:
            reason = SINGULAR if training.converged else "training ended before it converged"
        if separated is not None:
            reason = f"{separated}, so that no optimum is finite; penalty=firth has intervals"
        if reason is not None or found is None or estimate is None:
            return {"iterations": 0, "seconds": 0.0, "withheld": reason, "intervals": []}
        rows, ends = [], (found.bounds[::2], found.bounds[1::2])
        for name, lower, upper in zip(self._columns, *ends, strict=True):
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
            "seconds": seconds,
            "withheld": None,
            "intervals": rows,
        }

    def _reason(self, bound: Bound, found: Search, estimate: Estimate) -> str | None:
        if bound.state == profile.FOUND:
            return None
        if bound.state == profile.NONE:
            return _BEYOND
        if not estimate.error(bound.column) > 0.0:
            return "not found: the column has no estimate"
        if found.lost_hospitals:
            return "not found: other hospitals answered than in the last round of training"
        if bound.state in (profile.OPEN, profile.REACHED):
            return f"not found in {found.iterations} iterations: raise rounds"
        return "not found: the search led nowhere"


def check_classes(config: Config, classes: int) -> None:
    """Refuse Firth's penalty and profile likelihoods for more than two classes; ConfigError."""
    if words := two_classes_only(config, classes):
        raise ConfigError(words)


def _odds(logarithm: float | None) -> float | None:
    """Return the exponential, ``None`` where it is no float64."""
    try:
        return None if logarithm is None else math.exp(logarithm)
    except OverflowError:
        return None
