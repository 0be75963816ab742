"""Whether training reached the optimum: the sentences that the terminal and the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Of a model whose training was cut short; the page, the terminal and ``fl-he predict`` say so.
NOT_CONVERGED = "training ended before it converged, so the model is not the optimum"


def converged(metrics: Mapping[str, Any]) -> bool | None:
    """Return whether a training run converged; ``None`` where nobody can tell.

    Nobody can with differential privacy, whose noise ends no run, nor where the coordinator does
    not see the totals.

    Parameters
    ----------
    metrics : mapping
        Of a training run, as metrics.json holds it.
    """
    last = metrics["rounds"][-1]
    if metrics.get("privacy") or last.get("gradient_norm") is None:
        return None
    return bool(last.get("converged"))


def divergence(rounds: Sequence[Mapping[str, Any]]) -> str:
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


def warning(metrics: Mapping[str, Any]) -> str:
    """Say that training diverged or ended before it converged; nothing if neither is known."""
    rounds = metrics["rounds"]
    if found := divergence(rounds):
        return found
    if converged(metrics) is not False:
        return ""
    last, newton = rounds[-1], (metrics.get("optimizer") or {}).get("name") == "newton"
    if newton:
        left = f"{last['distance']:.3g} standard errors were left; raise rounds"
    else:
        norm = last["gradient_norm"]
        left = f"the gradient's norm was {norm:.3g}; raise rounds, or set optimizer=newton"
    return f"{NOT_CONVERGED}: after {len(rounds)} rounds {left}"
