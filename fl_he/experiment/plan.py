"""A run and its study plan: drafting one from a configuration, and holding a run to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fl_he.config.constraints import ConfigError
from fl_he.config.groups import BUILT_IN, DescribeConfig
from fl_he.config.run import ClassWeight, Config, Scaling
from fl_he.errors import FlHeError, written
from fl_he.experiment.private_settings import require_private_settings
from fl_he.experiment.tables import schema_of_tables, whole_table, with_outcome
from fl_he.experiment.terms import chosen_optimizer, declared_ranges, privacy_of
from fl_he.learning.describing.form import TableForm, table_form
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import WITH_RATE
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.regression.calibration import fine_bins
from fl_he.learning.regression.registry import FAMILIES, family_of
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.learning.tables.labels import family_with_ties
from fl_he.learning.tables.moments import Limbs
from fl_he.strategies.grid import PlannedGrid
from fl_he.wire.learning_terms import described
from fl_he.wire.planned_messages import Choice
from fl_he.wire.study_plan import Outcome, StudyPlan

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
    data = with_outcome(data)
    names, family = table.feature_names, family_of(table)
    if max_coefficient is None:
        max_coefficient = _LARGEST * (_DEVIATIONS if config.scaling is Scaling.ranges else 1.0)
    optimizer = chosen_optimizer(config, len(names), table.class_count, family)["name"]
    return StudyPlan(
        **_asked(config, declared_ranges(config, names)),
        family=family.name,
        features=names,
        outcome=Outcome(
            data.target or "",
            data.positive,
            data.threshold,
            tuple(data.classes),
            family_with_ties(data.family, data.ties),
            data.event or "",
            data.exposure or "",
        ),
        C=(config.C,),
        profile=bool(config.inference.profile),
        sites=config.inference.sites,
        optimizers=(optimizer,),
        lr=(config.optimizer.lr,) if optimizer in WITH_RATE else (),
        bins=fine_bins(family) if config.evaluate else 0,
        most_rounds=config.rounds,
        most_sessions=most_sessions,
        max_step=max_step,
        max_coefficient=max_coefficient,
        min_contributors=config.min_contributors,
        schema=None if data.schema is None else schema_of_tables(data.schema).digest,
        imputed=() if table.incomplete is None else table.incomplete.names,
        table=described_form(config, table) if config.describe.enabled else None,
    )


def planned_grid(grid: Grid, config: Config) -> Grid:
    """Return a grid on which all messages are under the plan that a configuration names.

    Without a plan that is the grid itself.

    Raises
    ------
    ConfigError
        If the plan cannot be read or does not allow the configuration: all differences at once.
    """
    if (plan := study_plan(config)) is None:
        return grid
    features, name = len(plan.features), f"the study plan {plan.digest[:16]}"
    family = FAMILIES[plan.family]
    optimizer = chosen_optimizer(config, features, plan.class_count, family)["name"]
    lr = config.optimizer.lr if optimizer in WITH_RATE else None
    if found := list(_differences(config, plan, optimizer, lr)):
        raise ConfigError(f"the run must be as {name} allows: {'; '.join(found)}")
    return PlannedGrid(grid, plan, Choice(plan.digest, optimizer, lr, config.C))


def study_plan(config: Config) -> StudyPlan | None:
    """Return the plan that a configuration names, if any; ConfigError if it cannot be read."""
    if (path := config.plan) is None:
        return None
    try:
        return StudyPlan.load(Path(path).expanduser())
    except OSError as error:
        raise ConfigError(f"cannot read plan={path}: {error.strerror}") from error
    except FlHeError as error:
        raise ConfigError(f"plan={path}: {error}") from error


def _differences(
    config: Config, plan: StudyPlan, optimizer: str, lr: float | None
) -> Iterator[str]:
    """Yield what the plan does not allow of a configuration, by the names of the settings."""
    require_private_settings(config)
    if config.scaling is Scaling.local:
        yield f"scaling must be {plan.scaling}, got local"
        return
    for name, value in _asked(config, declared_ranges(config, plan.features)).items():
        if value != getattr(plan, name):
            yield _difference(name, value, getattr(plan, name))
    lists: tuple[tuple[str, object, tuple[object, ...]], ...] = (
        ("optimizer", optimizer, plan.optimizers),
        ("optimizer.lr", lr, plan.lr if lr is not None else (None,)),
        ("C", config.C, plan.C),
        ("inference.profile", bool(config.inference.profile), (False, plan.profile)),
        ("inference.sites", config.inference.sites, (False, plan.sites)),
        ("evaluate", config.evaluate, (False, plan.bins > 0)),
    )
    for name, value, allowed in lists:
        if value not in allowed:
            words = " or ".join(dict.fromkeys(map(_shown, allowed)))
            yield f"{name} must be {words}, got {_shown(value)}"
    if words := _other_table(config.describe, plan.table):
        yield words
    if config.rounds > plan.most_rounds:
        yield f"rounds must be at most {plan.most_rounds}, got {config.rounds}"
    if config.min_contributors < plan.min_contributors:
        yield (
            f"min_contributors must be at least {plan.min_contributors}, got "
            f"{config.min_contributors}"
        )


def described_form(config: Config, dataset: Dataset) -> TableForm:
    """Return the form of the table that a configuration asks for.

    Raises
    ------
    ConfigError
        If the dataset has no such columns, or the table is too large.
    """
    given, crypto = config.describe, config.crypto
    if given.by is not None and given.by == config.partition.column:
        raise ConfigError(
            f"describe.by must be another column than partition.column, got {given.by!r} for both: "
            "for groups by hospital copy the column in the file under a second name, and declare "
            "the copy in the schema as category"
        )
    try:
        form = table_form(dataset, given.columns, given.by or "", given.bins, given.grid)
        if privacy_of(config) is None:
            form.require_size(Limbs(crypto.fraction_bits, crypto.integer_bits).count)
        return form
    except DataError as error:
        raise ConfigError(f"describe: {error}") from None


def _other_table(given: DescribeConfig, form: TableForm | None) -> str:
    """Say what a plan has not of the table that a configuration asks for."""
    if form is None:
        words = "describe.enabled must be false, got true: the plan has no table"
        return words if given.enabled else ""
    if not given.enabled:
        return "describe.enabled must be true, got false: the plan has a table alone"
    columns = [facts.name for facts in form.columns]
    planned = DescribeConfig(True, columns, form.by or None, form.bins, list(form.times))
    asked = replace(given, columns=given.columns or columns)
    names = (field.name for field in fields(planned))
    other = [name for name in names if getattr(asked, name) != getattr(planned, name)]
    shown = (f"describe.{name} must be {written(getattr(planned, name))}" for name in other)
    return "; ".join(shown)


def _difference(name: str, value: object, planned: object) -> str:
    if name == "ranges":  # as many as features
        return "the ranges are not those of the plan"
    if name == "class_weights":
        name, equal = "class_weight", {"none": "equal"}
        value, planned = equal.get(str(value), value), equal.get(str(planned), planned)
    if name == "privacy":
        words = (one if isinstance(one, GaussianPrivacy) else None for one in (planned, value))
        return "privacy must be {}, got {}".format(*map(described, words))
    return f"{name} must be {_shown(planned)}, got {_shown(value)}"


def _shown(value: object) -> str:
    """Write a value as it is written in a configuration."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        value = list(value)
    return f"{value:g}" if isinstance(value, float) else written(value)


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
        "site_intercepts": config.site_intercepts,
        "outcome_bounds": tuple(config.outcome_bounds),
    }
