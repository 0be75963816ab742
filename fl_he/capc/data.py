"""The data of a simulated CaPC run: each party's own, the pools to ask about, a test set.

As in :mod:`fl_he.experiment.data`, every process can compute all of it.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc.networks import load_network
from fl_he.config.capc import CapcConfig
from fl_he.config.run import Config
from fl_he.experiment.data import CacheKey
from fl_he.experiment.tables import whole_table
from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.partition import partition
from fl_he.learning.tables.scaling import Scaling, standardise
from fl_he.learning.voting.answering import AnsweringModel
from fl_he.learning.voting.feature_map import FeatureMap, Fourier, union
from fl_he.learning.voting.many_labels import LabelModels, constant_model, having_label, subsets
from fl_he.learning.voting.party_models import NETWORK, maps_of, new_model

#: Of the pixels of built-in images, by the name of the data set.
_BRIGHTEST = {"digits": 16.0, "mnist": 255.0}
#: How scikit-learn warns of a class with one example.
_SINGLE_EXAMPLE = "Only one sample available|self.within_class_std_dev_ has at least 1 zero"
_SEED = 10  # of the public random features; they need not differ between runs


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Features of shape (m, d), labels from 0 to classes - 1 and numbers of rows, both (m,)."""

    features: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)

    def take(self, rows: NDArray[Any]) -> Examples:
        """Return some of the rows."""
        return Examples(self.features[rows], self.labels[rows], self.rows[rows])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class CapcData:
    """Data of each party.

    Attributes
    ----------
    parties : tuple of Examples
        What each party's model is trained on.
    pools : dict of int to Examples
        By the index of a querying party; the labels are for judging the run only.
    test : Examples
        Held out from all.
    classes : int
        With ``capc.labels`` they are the subsets of labels, see :mod:`many_labels`.
    table : Dataset
        In its own units, for networks in files.
    bounds : tuple of (float, float)
        Of each feature of the table: they became -1 and 1.
    label : str
        The only label whose classes these are, of several; else empty.
    """

    parties: tuple[Examples, ...]
    pools: dict[int, Examples]
    test: Examples
    classes: int
    table: Dataset = field(repr=False)
    bounds: tuple[tuple[float, float], ...]
    label: str = ""

    def of_label(self, label: int, name: str) -> CapcData:
        """Return the data of one label: the classes are not to have it, and to have it."""

        def having(one: Examples) -> Examples:
            return replace(one, labels=having_label(one.labels, label))

        return replace(
            self,
            parties=tuple(map(having, self.parties)),
            pools={party: having(pool) for party, pool in self.pools.items()},
            test=having(self.test),
            classes=2,
            label=name,
        )


def capc_data(config: Config) -> CapcData:
    """Return the data of the run that ``config`` describes.

    Raises
    ------
    DataError
        If the table cannot be used, or a part of it would be too small.
    """
    return _cached(CacheKey(json.dumps(asdict(config), sort_keys=True), config))


@lru_cache(maxsize=1)
def _cached(key: CacheKey) -> CapcData:
    config, capc = key.config, key.config.capc
    table, labels = _table(config)
    if table.incomplete is not None:
        raise DataError(
            f"missing: mean must be left out of column {table.incomplete.names[0]!r} of a schema "
            "in CaPC, where nobody opens means; use indicator"
        )
    if table.family:
        raise DataError(
            "CaPC votes for classes, and the schema's outcome is a number of family "
            f"{table.family}: use an outcome with classes"
        )
    scaling, brightest = standardise(table)[1], _BRIGHTEST.get(config.data.name)
    if brightest is not None:
        scaling = Scaling(np.zeros_like(scaling.mean), np.full_like(scaling.scale, brightest))
    rows = np.arange(1, len(labels) + 1) if table.rows is None else table.rows.numbers
    everything = Examples(scaling.apply(table.features), labels, rows)
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(everything))
    tests = int(np.ceil(config.test_size * len(order)))
    pooled = int(np.ceil(capc.pool_size * len(order)))
    if tests + pooled + config.hospitals > len(order):
        raise DataError(
            f"test_size and capc.pool_size must leave a row for each of {config.hospitals} "
            f"hospitals to train on, got {config.test_size:g} and {capc.pool_size:g} of "
            f"{len(order)} rows, which leave {max(0, len(order) - tests - pooled)}"
        )
    test, pool, train = (everything.take(rows) for rows in np.split(order, [tests, tests + pooled]))
    parts = partition(
        train.labels.astype(np.float64),
        config.hospitals,
        config.partition.scheme,
        config.partition.alpha,
        config.seed,
    )
    querying = [number - 1 for number in sorted(capc.querying)]
    shares = np.array_split(np.arange(len(pool)), len(querying))
    parties = [train.take(part) for part in parts]
    for party in querying:
        parties[party] = _weakened(parties[party], capc, rng)
    if min(map(len, shares)) < capc.queries:
        raise DataError(
            f"capc.queries must be at most {min(map(len, shares))}, the size of a pool, got "
            f"{capc.queries}"
        )
    pools = {party: pool.take(share) for party, share in zip(querying, shares, strict=True)}
    low, high = scaling.mean - scaling.scale, scaling.mean + scaling.scale
    bounds = tuple(zip(low.tolist(), high.tolist(), strict=True))
    classes = 1 << len(capc.labels) if capc.labels else table.class_count
    return CapcData(tuple(parties), pools, test, classes, table, bounds)


def _table(config: Config) -> tuple[Dataset, NDArray[np.int64]]:
    """Return the table, and the class of each row; with ``capc.labels`` that is a subset."""
    data, names = config.data, config.capc.labels
    if not names:
        table = whole_table(data)
        return table, table.labels.astype(np.int64)
    # the columns of the other labels are no features
    first, *others = tables = [
        whole_table(replace(data, target=name, drop=[*data.drop, *set(names) - {name}]))
        for name in names
    ]
    if any(not np.array_equal(other.features, first.features) for other in others):
        raise DataError("each row with one of capc.labels must have all of them")
    return first, subsets([table.labels.astype(np.int64) for table in tables])


def fitted_model(data: CapcData, config: Config, party: int, extra: Examples | None = None) -> Any:
    """Return a party's model, fitted on its examples and those that it has learned since.

    A network in a file stays as it is. Of several labels each has a model, see `LabelModels`; a
    party whose examples all have the label, or all do not, says so of every case.

    Raises
    ------
    DataError
        If the party's examples are of one class only, or its network does not fit the table.
    """
    kinds, own = config.capc.models, data.parties[party]
    if config.capc.labels and not data.label:
        models = []
        for label, name in enumerate(config.capc.labels):
            more = extra and replace(extra, labels=having_label(extra.labels, label))
            models.append(fitted_model(data.of_label(label, name), config, party, more))
        return LabelModels(tuple(models))
    kind = kinds[party % len(kinds)]
    if kind.startswith(NETWORK):
        return _network(data, kind.removeprefix(NETWORK), party)
    features, labels = own.features, own.labels
    if extra is not None:
        features = np.concatenate([features, extra.features])
        labels = np.concatenate([labels, extra.labels])
    if len(np.unique(labels)) < 2:
        if data.label:  # a rare one, say, which the party has never seen
            return constant_model(int(labels[0]), features.shape[1])
        raise DataError(
            f"hospital-{party + 1} has examples of one class only: choose "
            "fewer hospitals, another partition, or more of capc.examples"
        )
    fourier = public_fourier(config, features.shape[1])
    try:
        with warnings.catch_warnings():
            # In a study of many parties some have one example of a class; that is meant.
            warnings.filterwarnings("ignore", _SINGLE_EXAMPLE, UserWarning)
            return new_model(kind, config.seed, fourier).fit(features, labels)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"hospital-{party + 1} must have examples enough for the model {kind!r}, got "
            f"{len(labels)}: {error}"
        ) from None


def _network(data: CapcData, path: str, party: int) -> AnsweringModel:
    """Return the network of a file on the run's features."""
    table = data.table
    try:
        network = load_network(Path(path).expanduser())
        features = dict(zip(table.feature_names, data.bounds, strict=True))
        return network.answering(_class_names(table, network.classes), features)
    except (DataError, OSError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"hospital-{party + 1} must have a network that fits the table, got {path}: {words}"
        ) from None


def _class_names(table: Dataset, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a table's classes; of two it names the second one at most."""
    if table.classes:
        return table.classes
    others = [name for name in known if name != table.positive]
    names = tuple(others) if table.positive is None else (*others, table.positive)
    if len(names) != table.class_count:
        second = "" if table.positive is None else f", one of them {table.positive!r}"
        raise DataError(f"the network's classes must be the table's {table.class_count}{second}")
    return names


def public_map(config: Config, data: CapcData) -> FeatureMap:
    """Return what the querying parties make of their features: the union of all models' maps."""
    inputs = data.test.features.shape[1]
    return union(inputs, maps_of(config.capc.models), public_fourier(config, inputs))


def public_fourier(config: Config, inputs: int) -> Fourier:
    """Return the random features that all parties know."""
    gamma = config.capc.fourier_gamma
    return Fourier(config.capc.fourier_components, 1 / inputs if gamma is None else gamma, _SEED)


def _weakened(own: Examples, capc: CapcConfig, rng: np.random.Generator) -> Examples:
    """Return a querying party's examples: fewer of its weak classes, and not too many."""
    weak = np.isin(own.labels, capc.weak_classes)
    kept = own.take(np.flatnonzero(~weak | (rng.random(len(own)) < capc.weak_ratio)))
    if capc.examples is None or capc.examples >= len(kept):
        return kept
    return kept.take(rng.permutation(len(kept))[: capc.examples])
