"""The ranges of features that a configuration declares, and the scaling that they make.

They are public knowledge of the features, so scaling by them tells nothing of any patient. Under
privacy they also bound what one patient does to the sums by which the features are scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fl_he.config import Config
from fl_he.config import Scaling as ScalingChoice
from fl_he.learning.tables.feature_ranges import Ranges, read_ranges
from fl_he.learning.tables.scaling import Scaling
from fl_he.wire.learning_terms import LearningTerms

_SHIPPED = Path(str(files("fl_he.learning.tables"))) / "ranges"


def declared_ranges(config: Config, feature_names: Sequence[str]) -> Ranges | None:
    """Return the ranges that the configuration names, ``None`` if it names none.

    Raises
    ------
    DataError
        If they cannot be read, or are not of these features.
    """
    if config.ranges is None:
        return None
    name = config.ranges
    shipped = _SHIPPED / f"{name}.json"
    return read_ranges(shipped if shipped.is_file() else Path(name).expanduser(), feature_names)


def first_terms(config: Config, feature_names: Sequence[str]) -> LearningTerms:
    """Return what hospitals are told of the scaling before anything is known of their data.

    Raises
    ------
    DataError
        If the declared ranges cannot be used.
    """
    ranges = declared_ranges(config, feature_names)
    if ranges is None or config.scaling is not ScalingChoice.ranges:
        return LearningTerms(scaling=config.scaling.value)
    scaling = Scaling(ranges.centre, ranges.half)
    return LearningTerms("federated", tuple(scaling.mean.tolist()), tuple(scaling.scale.tolist()))
