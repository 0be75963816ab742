"""Handwritten digits, the ten-class data set of the experiments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
_BRIGHTEST = 16.0


def load_digit_images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return 1797 images as features of shape (m, 64) from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to import

    features, labels = load_digits(return_X_y=True)
    return np.asarray(features / _BRIGHTEST, dtype=np.float64), labels.astype(np.int64)
