"""How good a classifier of several classes is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_accuracy(
    predicted: NDArray[np.int64], true: NDArray[np.int64], classes: int
) -> dict[str, Any]:
    """Return accuracy, balanced accuracy and the accuracy of each class, NaN for an absent one.

    Parameters
    ----------
    predicted, true : ndarray, shape (m,)
        Labels from 0 to ``classes - 1``.
    classes : int
    """
    from sklearn.metrics import recall_score  # noqa: PLC0415 - a second to import

    labels = list(range(classes))
    recalls = recall_score(true, predicted, labels=labels, average=None, zero_division=np.nan)
    return {
        "accuracy": float(np.mean(predicted == true)),
        "balanced_accuracy": float(np.nanmean(recalls)),
        "per_class_accuracy": [float(recall) for recall in recalls],
    }
