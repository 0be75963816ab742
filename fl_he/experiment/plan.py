"""A run and its study plan: drafting one from a configuration, and holding a run to one."""

from __future__ import annotations

from typing import Any

from fl_he.config.constraints import ConfigError
from fl_he.config.groups import BUILT_IN
from fl_he.config.run import ClassWeight, Config, Scaling
from fl_he.experiment.data import whole_table
from fl_he.experiment.private_settings import require_private_settings
from fl_he.experiment.terms import chosen_optimizer, declared_ranges, privacy_of
from fl_he.learning.regression.evaluation import BINS
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.wire.study_plan import WITH_RATE, Outcome, StudyPlan

#: Largest coefficient for a standard deviation, and how many of these half a range is taken to be.
_LARGEST, _DEVIATIONS = 10.0, 5.0


def drafted(
    config: Config, *, most_sessions: int, max_step: float, max_coefficient: float | None
) -> StudyPlan:
    """Return the plan that allows exactly what a configuration asks for.

    Parameters
    ----------
    config : Config
        Its ``data`` name a table with the hospitals' columns.
    most_sessions : int
    max_step : float
    max_coefficient : float or None
        ``None``: 10 for each standard deviation.

    Raises
    ------
    FlHeError
        If there is no plan for such a run, or the table cannot be used.
    """
    data = config.data
    if config.capc.enabled or data.name in BUILT_IN or config.scaling is Scaling.local:
        found = "capc.enabled=true" if config.capc.enabled else f"scaling={config.scaling}"
        found = f"data={data.name}" if data.name in BUILT_IN else found
        raise ConfigError(
            "a study plan must be of training on a table with the hospitals' columns (data=csv "
            "data.path=FILE data.target=COLUMN), with scaling=federated, ranges or none, got "
            f"{found}"
        )
    require_private_settings(config)
    table = whole_table(data)
    names, classes = table.feature_names, len(table.classes) or 2
    if max_coefficient is None:
        max_coefficient = _LARGEST * (_DEVIATIONS if config.scaling is Scaling.ranges else 1.0)
    optimizer = chosen_optimizer(config, len(names), classes)["name"]
    return StudyPlan(
        **_asked(config, declared_ranges(config, names)),
        family="softmax" if table.classes else "logistic",
        features=names,
        outcome=Outcome(data.target or "", data.positive, data.threshold, tuple(data.classes)),
        C=(config.C,),
        profile=bool(config.inference.profile),
        optimizers=(optimizer,),
        lr=(config.optimizer.lr,) if optimizer in WITH_RATE else (),
        bins=BINS if config.evaluate else 0,
        most_rounds=config.rounds,
        most_sessions=most_sessions,
        max_step=max_step,
        max_coefficient=max_coefficient,
        min_contributors=config.min_contributors,
    )


def _asked(config: Config, ranges: Ranges | None) -> dict[str, Any]:
    """Return the members of a plan that a configuration sets, and that a run may not change."""
    pairs = () if ranges is None else zip(ranges.low.tolist(), ranges.high.tolist(), strict=True)
    return {
        "scaling": config.scaling.value,
        "ranges": tuple(pairs),
        "class_weights": "none" if config.class_weight is ClassWeight.equal else "balanced",
        "penalty": config.penalty.value,
        "tolerance": config.tolerance,
        "privacy": privacy_of(config),
    }
