"""A model in integers evaluated in the clear, to compare with encrypted results."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.voting.integer_model import IntegerModel


def integer_scores(model: IntegerModel, features: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the numbers of each class for each row of features, shape (m, classes)."""
    values: NDArray[np.object_] = features.astype(object)
    for number, layer in enumerate(model):
        if number:
            values = np.maximum(values, 0)
        weights, offsets = (np.array(part, dtype=object) for part in (layer.weights, layer.offsets))
        values = values @ weights.T + offsets
    return values
