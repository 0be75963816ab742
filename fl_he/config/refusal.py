"""What a configuration is refused with, and the bounds that many settings have."""

from __future__ import annotations

import math

from fl_he.errors import FlHeError


class ConfigError(FlHeError):
    """A configuration that fl-he refuses."""


def require_count(key: str, count: int, least: int, most: int | None = None) -> None:
    """Refuse a whole number outside its bounds; raises ConfigError."""
    if count < least or (most is not None and count > most):
        bound = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{key} must be {bound}, got {count}")


def require_positive(key: str, number: float | None, *, nullable: bool = False) -> None:
    """Refuse a number that is not above 0 and finite, or None unless it may be null."""
    if number is None and nullable:
        return
    if number is None or not (math.isfinite(number) and number > 0):
        bound = "above 0 and finite, or null" if nullable else "above 0 and finite"
        raise ConfigError(f"{key} must be {bound}, got {number}")
