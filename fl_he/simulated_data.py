"""The data of a simulation: one table, standardised, split, and divided among the hospitals.

Every process of a simulation can compute all of it: the separation of the hospitals is logical
there, since they share one machine. A deployed hospital reads its own file and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

from fl_he.config_schema import BUILT_IN, Config, DataConfig, PartitionConfig
from fl_he.learning.data import Dataset, load_breast_cancer, load_table
from fl_he.learning.partition import partition, train_test_split
from fl_he.learning.scaling import Scaling, standardise


@dataclass(frozen=True, slots=True)
class SimulatedData:
    """What the hospitals train on and what their models are tested on, in standardised units.

    Attributes
    ----------
    hospitals : tuple of Dataset
    train : Dataset
        All of the hospitals' rows, for the pooled baseline.
    test : Dataset
        Held out from every hospital.
    scaling : Scaling
        From the table's units to standardised ones.
    """

    hospitals: tuple[Dataset, ...]
    train: Dataset
    test: Dataset
    scaling: Scaling


def simulated_data(config: Config) -> SimulatedData:
    """Return the data of the simulation that ``config`` describes.

    Raises
    ------
    DataError
        If the table cannot be used or cannot be divided among so many hospitals.
    """
    key = (asdict(config.data), asdict(config.partition), config.hospitals)
    return _cached(json.dumps(key), config.test_size, config.seed)


# Kept in memory by every Ray actor, whichever hospital it plays: it is a function of the public
# configuration alone, and the actor could compute it for any hospital anyway.
@lru_cache(maxsize=1)
def _cached(key: str, test_size: float, seed: int) -> SimulatedData:
    data, division, hospitals = json.loads(key)
    dataset, scaling = standardise(_load(DataConfig(**data)))
    train, test = train_test_split(dataset, test_size, seed)
    division = PartitionConfig(**division)
    parts = partition(train.labels, hospitals, division.scheme, division.alpha, seed)
    return SimulatedData(tuple(train.take(part) for part in parts), train, test, scaling)


def _load(data: DataConfig) -> Dataset:
    if data.name == BUILT_IN:
        return load_breast_cancer()
    return load_table(
        path=data.path or "",
        target=data.target or "",
        positive=data.positive,
        threshold=data.threshold,
        drop=data.drop,
        hint=data.source,
    )
