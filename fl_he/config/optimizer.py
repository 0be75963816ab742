"""``optimizer``: the step that follows each total."""

from __future__ import annotations

from dataclasses import dataclass

from fl_he.config.refusal import ConfigError, require_positive

OPTIMIZERS = ("gd", "nesterov", "newton", "lbfgs")


@dataclass
class OptimizerConfig:
    """The step that follows each total.

    Attributes
    ----------
    name : str
        ``gd``, gradient descent; ``nesterov``, with momentum; ``newton``, with the summed Hessian;
        ``lbfgs``, which learns the curvature from the gradients.
    lr : float
        Learning rate of the first two, above 0.
    """

    name: str = "gd"
    lr: float = 0.05


def check_optimizer(optimizer: OptimizerConfig) -> None:
    """Refuse an optimizer that there is not, and a learning rate; raises ConfigError."""
    if optimizer.name not in OPTIMIZERS:
        raise ConfigError(
            f"optimizer.name must be one of {', '.join(OPTIMIZERS)}, got {optimizer.name!r}"
        )
    require_positive("optimizer.lr", optimizer.lr)
