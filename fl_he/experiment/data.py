"""The data of a simulation: one table, split, and divided among the hospitals; or sites' tables.

Every process of a simulation can compute all of it: the separation of the hospitals is logical
there, since they share one machine. A deployed hospital reads its own file and nothing else.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl_he.config.groups import PRIVACY
from fl_he.config.rules import check
from fl_he.config.run import ClassWeight, Config, Penalty
from fl_he.errors import FlHeWarning
from fl_he.experiment.tables import (
    joined,
    schema_of_tables,
    site_tables,
    whole_table,
    with_outcome,
)
from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.identifiers import identifier_warning, identifiers
from fl_he.learning.tables.partition import partition, site_split, train_test_split

if TYPE_CHECKING:
    from fl_he.learning.tables.schema.description import Schema

#: A class of fewer patients is not one to speak of.
_HANDFUL = 5
#: Events for each coefficient, below which unpenalised estimates are biased: Vittinghoff and
#: McCulloch 2007, "Relaxing the rule of ten events per variable in logistic and Cox regression".
_EVENTS = 5


@dataclass(frozen=True, slots=True)
class SimulatedData:
    """Training and test data of the hospitals, in the table's units.

    Attributes
    ----------
    hospitals : tuple of Dataset
    train : Dataset
        All of the hospitals' rows, for the pooled baseline.
    held_out : Dataset or None
        The test set, held out from every hospital; None with ``test_size=0``.
    names : tuple of str
        Of the hospitals.
    shares : tuple of ndarray
        Each hospital's rows of the test set; empty without one.
    left_out : int
        Number of rows of the tables that nobody uses, as cells are missing.
    """

    hospitals: tuple[Dataset, ...]
    train: Dataset
    held_out: Dataset | None
    names: tuple[str, ...]
    shares: tuple[NDArray[np.intp], ...] = ()
    left_out: int = 0

    @property
    def rows(self) -> dict[str, int]:
        """Member ``rows`` of metrics.json."""
        held_out = 0 if self.held_out is None else self.held_out.examples
        return {"kept": self.train.examples + held_out, "left_out": self.left_out}

    @property
    def test(self) -> Dataset:
        """The test set; raises DataError if there is none."""
        if self.held_out is None:
            raise DataError("test_size must be above 0 for a test set, got 0")
        return self.held_out

    def completed(self, means: Sequence[float]) -> SimulatedData:
        """Return the data with missing cells filled in; see `Dataset.completed`."""
        return replace(
            self,
            hospitals=tuple(hospital.completed(means) for hospital in self.hospitals),
            train=self.train.completed(means),
            held_out=self.held_out and self.held_out.completed(means),
        )

    def test_share(self, hospital: int) -> Dataset | None:
        """Return a hospital's share of the test set, by its number from 0; None if it has none."""
        if self.held_out is None or not len(self.shares[hospital]):
            return None
        return self.held_out.take(self.shares[hospital])


def simulated_data(config: Config) -> SimulatedData:
    """Return the data of the simulation that ``config`` describes.

    Raises
    ------
    DataError
        If the table cannot be used or cannot be divided among this many hospitals.
    """
    if config.privacy.name == PRIVACY:
        if config.data.schema is not None:
            _check_policies(schema_of_tables(config.data.schema))
        if with_outcome(config.data).exposure is not None:
            raise DataError(
                "data.exposure, or exposure of the schema's outcome, must be left out with "
                "privacy=gaussian: sums of exposures are not in the budget"
            )
    division = {**asdict(config.partition), "sites": None}
    hospitals = None if config.names_sites else config.hospitals
    settings = [asdict(config.data), division, hospitals]
    key = json.dumps([*settings, config.test_size, config.stratify, config.seed])
    data, known = _cached(CacheKey(key, config)), tuple(config.partition.sites)
    if known and data.names != known:
        raise DataError(
            f"the sites must be those that the run began with, {', '.join(known)}, got "
            f"{', '.join(data.names)}"
        )
    return data


def _check_policies(schema: Schema) -> None:
    """Refuse policies for missing cells that privacy does not cover."""
    if schema.drops_rows:
        raise DataError(
            "missing: drop-row must be left out of a schema with privacy=gaussian: which rows are "
            "left out depends on patients, and the number of rows is public; use indicator or level"
        )
    if schema.imputed:
        raise DataError(
            f"missing: mean must be left out of column {schema.imputed[0]!r} of a schema with "
            "privacy=gaussian: the mean is not in the budget; use indicator"
        )


def with_sites(config: Config) -> Config:
    """Return the configuration with the hospitals that files or a column name, if they do.

    The coordinator and each simulated node find the same.

    Raises
    ------
    ConfigError
        If the settings do not go together with this many hospitals.
    DataError
        See `simulated_data`.
    """
    if not config.has_unknown_sites:
        return config
    names = list(simulated_data(config).names)
    partition = replace(config.partition, sites=names)
    config = replace(config, hospitals=len(names), partition=partition)
    check(config)
    return config


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Settings that data depend on, as text: the configuration itself has no hash."""

    text: str
    config: Config = field(compare=False)


# Kept in memory by every Ray actor, whichever hospital it plays: it is a function of the public
# configuration alone, and the actor could compute it for any hospital anyway.
@lru_cache(maxsize=1)
def _cached(key: CacheKey) -> SimulatedData:
    config, division = key.config, key.config.partition
    if config.names_sites:
        return _of_sites(config)
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
    names = tuple(f"hospital-{number + 1}" for number in range(config.hospitals))
    tests = test.examples if test else 0
    shares = tuple(np.arange(number, tests, len(names)) for number in range(len(names)))
    hospitals = tuple(train.take(part) for part in parts)
    return SimulatedData(hospitals, train, test, names, shares, table.left_out)


def _of_sites(config: Config) -> SimulatedData:
    """Return the data of sites, each of which holds out its share of the test set."""
    trains, tests, shares, held_out = list[Dataset](), list[Dataset](), [], 0
    tables = site_tables(config)
    for table in tables.values():
        train, test = site_split(
            table.labels, config.test_size, config.seed, stratify=config.stratify
        )
        trains.append(table.take(train))
        if len(test):
            tests.append(table.take(test))
        shares.append(np.arange(held_out, held_out + len(test)))
        held_out += len(test)
    return SimulatedData(
        tuple(trains),
        joined(trains),
        joined(tests) if tests else None,
        tuple(tables),
        tuple(shares),
        sum(table.left_out for table in tables.values()),
    )


class FewDataWarning(FlHeWarning):
    """Data from which little can be learned."""


def warn_of_few(data: SimulatedData, config: Config) -> None:
    """Warn of few examples, few events, a class of a handful of them, and identifiers."""
    train, found = data.train, list[str]()
    if names := identifiers(train):
        remedy = "data.drop" if config.data.schema is None else "terms of the schema"
        found.append(f"{identifier_warning(names)} ({remedy})")
    features = len(train.feature_names)
    if train.examples < features:
        found.append(
            f"there are {train.examples} patients to train on and {features} features: with fewer "
            "patients than features a model fits anything, so expect little of it"
        )
    for dataset, purpose in ((train, "train on"), (data.held_out, "test on")):
        if dataset is None:
            continue
        if dataset.family:
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
    if not unpenalised or train.class_count != 2 or config.privacy.name != "none":
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
