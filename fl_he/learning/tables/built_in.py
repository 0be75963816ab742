"""Data sets of the UCI repository, from the files that scikit-learn installs.

The files are read without importing scikit-learn, which takes longer than a small run.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fl_he.learning.tables.data import Dataset

_MEASURED = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity"),
    *("concave points", "symmetry", "fractal dimension"),
)
#: By name: the file, how many of its lines precede the rows, the features and the classes.
_TABLES: dict[str, tuple[str, int, tuple[str, ...], tuple[str, ...]]] = {
    "breast_cancer": (
        *("breast_cancer.csv", 1),
        tuple(f.format(name) for f in ("mean {}", "{} error", "worst {}") for name in _MEASURED),
        ("malignant", "benign"),
    ),
    "digits": (
        *("digits.csv.gz", 0),
        tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
        tuple(map(str, range(10))),
    ),
    "wine": (
        *("wine_data.csv", 1),
        (
            *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols"),
            *("flavanoids", "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue"),
            *("od280/od315_of_diluted_wines", "proline"),
        ),
        ("class_0", "class_1", "class_2"),
    ),
}


def load_built_in(name: str) -> Dataset:
    """Load scikit-learn's copy of a data set from the UCI repository.

    Parameters
    ----------
    name
        ``breast_cancer``: Wisconsin (Diagnostic), 569 examples of 30 features; label 1 is benign
        (357 examples), 0 is malignant (212). ``digits``: 1797 handwritten digits of 8 x 8 pixels,
        ten classes. ``wine``: 178 wines, three classes.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    """
    file, header, features, classes = _TABLES[name]
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("scikit-learn is not installed; its data sets are part of it")
    path = Path(package.origin).parent / "datasets" / "data" / file
    table = np.loadtxt(path, delimiter=",", skiprows=header)
    if len(classes) == 2:
        return Dataset(table[:, :-1], table[:, -1], features, positive=classes[1])
    return Dataset(table[:, :-1], table[:, -1], features, classes=classes)
