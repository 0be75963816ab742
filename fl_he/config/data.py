"""``data``: which table to learn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fl_he.config.refusal import ConfigError

#: The data sets that need no file.
BUILT_IN = ("breast_cancer", "digits", "wine")


@dataclass
class DataConfig:
    """Which table to learn from.

    Attributes
    ----------
    name : str
        ``breast_cancer``, ``digits``, ``wine``, ``grad_school`` or ``csv``.
    path : str or None
        The table's CSV or Parquet file, with a header; None for a data set that needs none.
    target : str or None
        Name of the column to predict.
    positive : str or None
        The label that counts as 1.
    threshold : float or None
        Makes a numeric target binary: 1 from this value on; excludes `positive`.
    classes : list of str
        Labels of more than two classes, in their order: ``"data.classes=[a,b,c]"``; excludes both.
    drop : list of str
        Columns that are not features: ``"data.drop=[id,name]"``.
    source : str or None
        Where such a file comes from, for the error when it is missing.
    """

    name: str = "breast_cancer"
    path: str | None = None
    target: str | None = None
    positive: str | None = None
    threshold: float | None = None
    classes: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    source: str | None = None


def check_data(data: DataConfig) -> None:
    """Refuse a table that is not described, or a data set that is; raises ConfigError."""
    keys = ("path", "target", "positive", "threshold", "classes", "drop")
    given = {key: getattr(data, key) for key in keys if getattr(data, key) not in (None, [])}
    if data.name in BUILT_IN:
        for key, value in given.items():
            raise ConfigError(
                f"data.{key} must be left out for data={data.name}, got {value!r}: "
                f"a table of your own is data=csv data.{key}=..."
            )
        return
    for key in ("path", "target"):
        if key not in given:
            raise ConfigError(
                f"data.{key} must be set for data={data.name}, got null: for example "
                "data=csv data.path=patients.csv data.target=outcome data.positive=yes"
            )
    meanings = given.keys() & {"positive", "threshold", "classes"}
    if len(meanings) != 1:
        count = ("neither", "", "both", "all")[len(meanings)]
        raise ConfigError(
            f"one of data.positive (the label of {data.target!r} that counts as 1) and "
            f"data.threshold (the number from which on it counts as 1), or data.classes (more "
            f"than two labels), must be set, got {count}"
        )
    if "classes" in given and (len(data.classes) < 3 or len(set(data.classes)) < len(data.classes)):
        raise ConfigError(
            f"data.classes must be at least 3 different labels, got {len(data.classes)} of which "
            f"{len(set(data.classes))} differ"
        )
    if data.threshold is not None and not math.isfinite(data.threshold):
        raise ConfigError(f"data.threshold must be finite, got {data.threshold}")
