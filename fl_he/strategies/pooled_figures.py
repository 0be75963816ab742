"""What a model comes to on all hospitals' held-out data, from one encrypted sum of counts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from fl_he.learning.regression import evaluation
from fl_he.learning.regression.registry import family_for
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import FIGURES, LOSS, NUM_EXAMPLES
from fl_he.wire.model import model_message_content, read_named_array
from fl_he.wire.records import ProtocolError, refused_as


def pooled_figures(
    strategy: SequentialPaillier, grid: Grid, number: int, model: ArrayRecord, config: ConfigRecord
) -> dict[str, Any]:
    """Have the hospitals count what a model predicts right, and open the sum of their counts.

    Parameters
    ----------
    strategy : SequentialPaillier
        Sums up in its topology and packing.
    grid : Grid
    number : int
        Of the evaluation, from 1.
    model : ArrayRecord
    config : ConfigRecord
        The terms under which it was trained.

    Returns
    -------
    dict
        Result of :func:`fl_he.learning.regression.evaluation.figures`, with the number of
        ``hospitals``.

    Raises
    ------
    ProtocolError
        If too few hospitals hold data out, or the sum is no counts.
    """
    content = model_message_content(model, config)
    mean = strategy.sum_up(grid, "evaluate", number, FIGURES, content)
    metrics = next(iter(mean.metric_records.values()))
    examples = int(cast(int, metrics[NUM_EXAMPLES]))
    confusion, scores, calibration = (
        read_named_array(mean, name) * examples for name in ("confusion", "scores", "calibration")
    )
    classes = len(confusion)
    rows = family_for(classes).rows(classes) if classes > 1 else 0
    if (
        not rows
        or confusion.shape != (classes, classes)
        or scores.shape != (rows, 2, evaluation.SCORE_BINS)
        or calibration.shape != (3, evaluation.CALIBRATION_BINS)
    ):
        raise ProtocolError("the hospitals' counts must be of one model, and they are not")
    # Counts are whole; the sums of probabilities are not.
    calibration[[0, 2]] = np.rint(calibration[[0, 2]])
    loss = float(cast(float, metrics[LOSS])) * examples
    counts = evaluation.Counts(np.rint(confusion), np.rint(scores), calibration, loss)
    with refused_as("the hospitals' counts:"):
        return {**evaluation.figures(counts), "hospitals": strategy.sums[-1].contributors}
