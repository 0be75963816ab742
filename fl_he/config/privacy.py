"""``privacy``: differential privacy for the patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fl_he.config.choices import PRIVATE_SCALINGS, ClassWeight
from fl_he.config.refusal import ConfigError, require_positive

if TYPE_CHECKING:
    from fl_he.config.run import Config

#: The mechanism of differential privacy, and the optimizers that need noisy gradients alone.
PRIVACY = "gaussian"
PRIVATE_OPTIMIZERS = ("gd", "nesterov")
_AMOUNTS = ("epsilon", "delta", "clip", "scaling")


@dataclass
class PrivacyConfig:
    """Differential privacy for the patients; all of it or none.

    Attributes
    ----------
    name : str
        ``none``, or ``gaussian``: clipped gradients and a share of discrete Gaussian noise from
        each hospital.
    epsilon, delta : float or None
        The budget of the whole run; epsilon above 0, delta between 0 and 1.
    clip : float or None
        Largest L2 norm of one patient's gradient, above 0.
    scaling : float or None
        Share of the budget for the noisy sums of ``scaling=federated``, between 0 and 1; with
        another scaling there are none, and all of the budget is for the gradients.
    """

    name: str = "none"
    epsilon: float | None = None
    delta: float | None = None
    clip: float | None = None
    scaling: float | None = None


def check_privacy(config: Config) -> None:
    """Refuse a budget without a mechanism, and settings it does not cover; raises ConfigError."""
    privacy = config.privacy
    values = {f"privacy.{key}": getattr(privacy, key) for key in _AMOUNTS}
    if privacy.name not in ("none", PRIVACY):
        raise ConfigError(f"privacy must be none or {PRIVACY}, got {privacy.name!r}")
    if privacy.name == "none":
        for key, value in values.items():
            if value is not None:
                raise ConfigError(f"{key} must come with privacy={PRIVACY}, got {value} without it")
        return
    for key, value in values.items():
        require_positive(key, value)
    for key in ("privacy.delta", "privacy.scaling"):
        if values[key] >= 1:
            raise ConfigError(f"{key} must be below 1, got {values[key]}")
    if config.scaling not in PRIVATE_SCALINGS:
        raise ConfigError(
            f"scaling must be {' or '.join(PRIVATE_SCALINGS)} with privacy={PRIVACY}, got "
            f"{config.scaling}: each hospital's own mean and variance are not accounted for; "
            "declare what is publicly known of the features with scaling=ranges ranges=FILE"
        )
    for key, value, allowed in (
        ("optimizer.name", config.optimizer.name, PRIVATE_OPTIMIZERS),
        ("class_weight", config.class_weight, (ClassWeight.equal,)),
        ("evaluate", config.evaluate, (False,)),
    ):
        if value not in allowed:
            raise ConfigError(
                f"{key} must be {' or '.join(str(one).lower() for one in allowed)} with "
                f"privacy={PRIVACY}, got {str(value).lower()}: what else that releases of the data "
                "is not accounted for"
            )
