"""What to say of a run whose loss grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def hint(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Say that training diverges if the loss has more than doubled since the first round.

    Parameters
    ----------
    rounds : sequence of mapping
        Entries of ``rounds`` in metrics.json.

    Returns
    -------
    str
        A sentence, or nothing.
    """
    losses = [entry["loss"] for entry in rounds] + [entry["test_loss"] for entry in rounds[-1:]]
    known = [loss for loss in losses if loss is not None]
    # Not "greater": the loss of a model that has overflowed is not a number.
    if len(known) < 2 or known[-1] <= 2 * known[0]:
        return ""
    return (
        f"the loss went from {known[0]:.3g} to {known[-1]:.3g}, so training diverges: "
        "lower optimizer.lr"
    )
