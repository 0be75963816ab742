"""Optimizers: the next model from loss, gradient and, if asked for, Hessian of the last one.

Start with ``base``, which has the interface and the optimizers that take every step they try;
those of ``damped`` halve a step that was too long. A new optimizer is a file next to them, and its
lines here; its name is offered as soon as ``fl_he/conf/optimizer`` has a file of that name.

base           interface, penalty, gradient descent and Nesterov's
damped         Newton's method and L-BFGS, with steps that are halved while the loss would rise
scoring        Fisher scoring for Firth's penalty
overdispersed  Newton's method for counts whose dispersion is estimated, too
task           the task of a training, and the sums that hospitals are asked for
rivals         climbs to other maxima of the penalised likelihood at a bound
profile        bounds of profile likelihood intervals
separating     watch for a direction that separates the classes
between        differences between sites: sums, heterogeneity, robust standard errors
state          all that totals have changed of a training, as it is written down
training       a whole training as a function of totals, from the sums before the first step on
"""

from __future__ import annotations

from collections.abc import Callable

from fl_he.learning.optimizers.base import GradientDescent, Nesterov, Optimizer
from fl_he.learning.optimizers.damped import LBFGS, Newton

#: Each makes a new optimizer with a learning rate, if it has one.
OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "gd": GradientDescent,
    "nesterov": Nesterov,
    "newton": lambda _: Newton(),
    "lbfgs": lambda _: LBFGS(),
}


#: Optimizers that need gradients alone, whose steps a learning rate scales.
WITH_RATE = ("gd", "nesterov")


def optimizer_of(name: str, learning_rate: float) -> Optimizer:
    """Return a new optimizer.

    Parameters
    ----------
    name : str
        A key of `OPTIMIZERS`.
    learning_rate : float
        Greater than 0.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"an optimizer must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    return OPTIMIZERS[name](learning_rate)
