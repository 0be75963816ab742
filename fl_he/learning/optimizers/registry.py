"""The optimizer that a name stands for."""

from __future__ import annotations

from collections.abc import Callable

from fl_he.learning.optimizers.base import GradientDescent, Nesterov, Optimizer
from fl_he.learning.optimizers.damped import LBFGS, Newton


def optimizer_of(name: str, learning_rate: float) -> Optimizer:
    """Return a new optimizer.

    Parameters
    ----------
    name : {"gd", "nesterov", "newton", "lbfgs"}
    learning_rate : float
        Of the first two, greater than 0.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    chosen: dict[str, Callable[[], Optimizer]] = {
        "gd": lambda: GradientDescent(learning_rate),
        "nesterov": lambda: Nesterov(learning_rate),
        "newton": Newton,
        "lbfgs": LBFGS,
    }
    if name not in chosen:
        raise ValueError(f"an optimizer must be one of {', '.join(chosen)}, got {name!r}")
    return chosen[name]()
