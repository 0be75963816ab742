"""The data of a simulation: one table, split, and divided among the hospitals.

Every process of a simulation can compute all of it: the separation of the hospitals is logical
there, since they share one machine. A deployed hospital reads its own file and nothing else.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np

from fl_he.config.command_line import did_you_mean, override
from fl_he.config.groups import BUILT_IN, DataConfig
from fl_he.config.run import ClassWeight, Config, Penalty
from fl_he.errors import FlHeWarning
from fl_he.learning.errors import DataError, DataWarning
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset, load_table
from fl_he.learning.tables.identifiers import identifier_warning, identifiers
from fl_he.learning.tables.partition import partition, train_test_split

_POSITIVE = "data.positive=LABEL or data.threshold=NUMBER says what counts as 1"
_DROP = "data.drop=[COLUMN,...]"
#: As many columns as are named in an error.
_MOST_LISTED = 20
#: What may help, by the setting that a DataError names.
_REMEDIES = {
    "path": "; data.path=FILE names it",
    "target": f"; data.target=COLUMN names it, and {_POSITIVE}",
    "positive": f"; {_POSITIVE}",
    "meaning": f"; {_POSITIVE}, and data.classes=[LABEL,...] names more than two labels",
    "classes": "; data.classes=[LABEL,...] names them",
    "drop": f"; {_DROP} names them",
}
#: A class of fewer patients is not one to speak of.
_HANDFUL = 5
#: Events for each coefficient, below which unpenalised estimates are biased: Vittinghoff and
#: McCulloch 2007, "Relaxing the rule of ten events per variable in logistic and Cox regression".
_EVENTS = 5


@dataclass(frozen=True, slots=True)
class SimulatedData:
    """What the hospitals train on and what their models are tested on, in the table's units.

    Attributes
    ----------
    hospitals : tuple of Dataset
    train : Dataset
        All of the hospitals' rows, for the pooled baseline.
    held_out : Dataset or None
        The test set, held out from every hospital; None with ``test_size=0``.
    """

    hospitals: tuple[Dataset, ...]
    train: Dataset
    held_out: Dataset | None

    @property
    def test(self) -> Dataset:
        """The test set; raises DataError if there is none."""
        if self.held_out is None:
            raise DataError("test_size must be above 0 for a test set, got 0")
        return self.held_out

    def test_share(self, hospital: int) -> Dataset | None:
        """Return a hospital's share of the test set, by its number from 0; None if it has none."""
        if self.held_out is None:
            return None
        share = np.arange(hospital, self.held_out.examples, len(self.hospitals))
        return self.held_out.take(share) if len(share) else None


def simulated_data(config: Config) -> SimulatedData:
    """Return the data of the simulation that ``config`` describes.

    Raises
    ------
    DataError
        If the table cannot be used or cannot be divided among so many hospitals.
    """
    settings = [asdict(config.data), asdict(config.partition), config.hospitals]
    key = json.dumps([*settings, config.test_size, config.stratify, config.seed])
    return _cached(CacheKey(key, config))


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What data depend on, as text: the configuration itself has no hash."""

    text: str
    config: Config = field(compare=False)


# Kept in memory by every Ray actor, whichever hospital it plays: it is a function of the public
# configuration alone, and the actor could compute it for any hospital anyway.
@lru_cache(maxsize=1)
def _cached(key: CacheKey) -> SimulatedData:
    config, division = key.config, key.config.partition
    table = whole_table(config.data)
    train, test = train_test_split(table, config.test_size, config.seed, stratify=config.stratify)
    if train.examples < config.hospitals:
        held_out = (
            f", as test_size={config.test_size:g} holds out {test.examples} of {table.examples}"
            if test
            else ""
        )
        raise DataError(
            f"hospitals must be at most the number of rows to train on, got {config.hospitals} "
            f"hospitals and {train.examples} row{'' if train.examples == 1 else 's'}{held_out}"
        )
    parts = partition(train.labels, config.hospitals, division.scheme, division.alpha, config.seed)
    return SimulatedData(tuple(train.take(part) for part in parts), train, test)


class FewDataWarning(FlHeWarning):
    """Data from which little can be learned."""


def warn_of_few(data: SimulatedData, config: Config) -> None:
    """Warn of few examples, few events, a class of a handful of them, and identifiers."""
    train, found = data.train, list[str]()
    if names := identifiers(train):
        found.append(f"{identifier_warning(names)} (data.drop)")
    features = len(train.feature_names)
    if train.examples < features:
        found.append(
            f"there are {train.examples} patients to train on and {features} features: with fewer "
            "patients than features a model fits anything, so expect little of it"
        )
    for dataset, purpose in ((train, "train on"), (data.held_out, "test on")):
        if dataset is None:
            continue
        fewest = int(np.bincount(dataset.labels.astype(np.intp), minlength=train.class_count).min())
        if fewest < _HANDFUL:
            few = f"{fewest or 'no'} patient{'s' if fewest > 1 else ''}"
            worth = "is mostly chance" if fewest else "means nothing"
            found.append(
                f"the rarest class has {few} to {purpose}: what the figures say of it {worth}"
            )
    if words := _few_events(train, config):
        found.append(words)
    for words in found:
        warnings.warn(words, FewDataWarning, stacklevel=2)


def _few_events(train: Dataset, config: Config) -> str:
    """Say that unpenalised estimates of two classes are of few events; nothing if they are not."""
    unpenalised = config.C is None and config.penalty is not Penalty.firth
    if not unpenalised or train.class_count > 2 or config.privacy.name != "none":
        return ""
    events = int(np.bincount(train.labels.astype(np.intp), minlength=2).min())
    coefficients = len(train.feature_names)
    if events >= _EVENTS * coefficients:
        return ""
    remedy = "penalty=firth"
    if config.class_weight is not ClassWeight.equal:
        remedy += " class_weight=equal"
    return (
        f"the rarer class has {events} patient{'' if events == 1 else 's'} to train on for "
        f"{coefficients} coefficient{'s' if coefficients > 1 else ''}, fewer "
        f"than {_EVENTS} for each: without a penalty the estimates are biased away from 0; set "
        f"{remedy}"
    )


def whole_table(data: DataConfig) -> Dataset:
    """Return all of the data, in the units of the table; raises DataError."""
    if data.name in BUILT_IN:
        return load_built_in(data.name)
    try:
        dataset = load_table(
            path=data.path or "",
            target=data.target or "",
            positive=data.positive,
            threshold=data.threshold,
            classes=data.classes,
            drop=data.drop,
            hint=data.source or "give the place of the table with data.path=...",
        )
    except DataError as error:
        raise DataError(f"{error}{_remedy(error, data)}") from None
    for note in dataset.notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    if dataset.labels.min() == dataset.labels.max() and not dataset.classes:
        count = "all" if dataset.labels[0] else "none"
        raise DataError(
            f"data.target {data.target!r} must hold both classes, got {count} of "
            f"{dataset.examples} rows with {dataset.positive!r}{_REMEDIES['positive']}"
        )
    counts = np.bincount(dataset.labels.astype(np.intp), minlength=dataset.class_count)
    if absent := [name for name, count in zip(dataset.classes, counts, strict=False) if not count]:
        raise DataError(
            f"data.classes must name labels that data.target {data.target!r} has, got none of "
            f"{dataset.examples} rows with {', '.join(map(repr, absent))}"
        )
    return dataset


def _remedy(error: DataError, data: DataConfig) -> str:
    """Say which keys of the configuration may help."""
    droppable = [
        fault for fault in error.faults if fault.setting == "drop" and fault.column is not None
    ]
    columns = [fault.column for fault in droppable if fault.column is not None]
    settings = {fault.setting: fault for fault in error.faults if fault not in droppable}
    words = ""
    if columns:
        named = override("data.drop", [*data.drop, *columns])
        what = "the column" if len(columns) == 1 else f"the {len(columns)} columns"
        words = f"; fix the file or leave out {what}: "
        words += named if len(columns) <= _MOST_LISTED else _DROP
    for setting, fault in settings.items():
        given = getattr(data, setting) if setting and fault.known else None
        meant = did_you_mean(f"data.{setting}", given, fault.known) if given else ""
        words += meant or _REMEDIES.get(setting or "", "")
    return words
