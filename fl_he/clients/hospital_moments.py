"""A hospital's sums over its rows: of the features, of squares about a mean, and of classes."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fl_he.learning import moments
from fl_he.learning.data import Dataset
from fl_he.learning.moments import Limbs
from fl_he.learning_messages import MomentsRequest
from fl_he.messages import ProtocolError
from fl_he.model_messages import named_arrays


def moment_sums(dataset: Dataset, request: MomentsRequest, limbs: Limbs) -> ArrayRecord:
    """Return means that are sums once they are weighted by the number of examples.

    Parameters
    ----------
    dataset : Dataset
        In the units of the hospital's table.
    request : MomentsRequest
    limbs : Limbs
        How the node writes sums.

    Raises
    ------
    ProtocolError
        If the request is of other features, or for what only a hospital with privacy answers.
    """
    if request.low or request.high:
        raise ProtocolError(
            "sums of values within ranges must be asked of hospitals with privacy, whose noise is "
            "in them, and this one has none"
        )
    features, examples = dataset.features, dataset.examples
    if request.mean:
        if len(request.mean) != features.shape[1]:
            raise ProtocolError(
                f"a mean must be of this hospital's {features.shape[1]} features, "
                f"got {len(request.mean)}"
            )
        squares = moments.squared_deviations(features, np.array(request.mean))
        return named_arrays(squares=limbs.split(squares) / examples)
    arrays: dict[str, NDArray[np.float64]] = {}
    if request.sums:
        arrays["sums"] = limbs.split(moments.column_sums(features)) / examples
    if request.counts:
        arrays["counts"] = moments.class_counts(dataset.labels, dataset.class_count) / examples
    return named_arrays(**arrays)
