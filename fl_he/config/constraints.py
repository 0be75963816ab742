"""Constraints on one setting, declared with its type: ``rounds: Annotated[int, whole(1)]``.

OmegaConf reads the type, `check_fields` the constraint, and the help and the documentation its
words, so that a range is written down once. Rules between settings are in
:mod:`fl_he.config.rules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

from fl_he.errors import FlHeError, written


class ConfigError(FlHeError):
    """A configuration that fl-he refuses."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule for the value of one setting.

    Attributes
    ----------
    words : str
        Completes "must be ...".
    holds : callable
        Return whether a value of the setting's type follows the rule.
    """

    words: str
    holds: Callable[[Any], bool]


def whole(least: int, most: int) -> Constraint:
    """Return the constraint of a whole number."""
    return Constraint(f"from {least} to {most}", lambda number: least <= number <= most)


def one_of(*names: str) -> Constraint:
    """Return the constraint of a word among a few."""
    return Constraint(f"one of {', '.join(names)}", names.__contains__)


def between(least: float, most: float) -> Constraint:
    """Return the constraint of a number with two bounds; NaN breaks it, as all comparisons."""
    return Constraint(f"from {least:g} to {most:g}", lambda number: least <= number <= most)


# Beyond these bounds some number that follows from them is 0 or infinite.
Positive = Annotated[float, between(1e-12, 1e12)]
#: Beyond these the search for the noise takes for ever.
Epsilon = Annotated[float, between(1e-6, 1e6)]
#: At most a day: timers and system calls refuse longer ones.
Seconds = Annotated[float, between(1, 86_400)]
Finite = Annotated[float, Constraint("finite", math.isfinite)]
Share = Annotated[float, Constraint("between 0 and 1", lambda x: 0 < x < 1)]


def check_fields(settings: Any, prefix: str = "") -> None:
    """Refuse a value that breaks the constraint of its own field, in this group or below it.

    Parameters
    ----------
    settings : dataclass
    prefix : str
        What comes before the names of its fields, such as ``crypto.``.

    Raises
    ------
    ConfigError
        With the key, what it must be and its value.
    """
    for name, constraint in constraints(settings.__class__).items():
        value = getattr(settings, name)
        if not constraint.holds(value):
            raise ConfigError(f"{prefix}{name} must be {constraint.words}, got {written(value)}")
    for name, value in vars(settings).items():
        if is_dataclass(value):
            check_fields(value, f"{prefix}{name}.")


@cache
def constraints(schema: type) -> dict[str, Constraint]:
    """Return the constraint of each field that has one; null is exempt where the type has null."""
    found = {}
    for name, kind in get_type_hints(schema, include_extras=True).items():
        for constraint in _declared(kind):
            nullable = NoneType in get_args(kind)
            found[name] = _or_null(constraint) if nullable else constraint
    return found


def _or_null(constraint: Constraint) -> Constraint:
    return Constraint(
        f"{constraint.words}, or null", lambda value: value is None or constraint.holds(value)
    )


def _declared(kind: Any) -> Iterator[Constraint]:
    if isinstance(kind, Constraint):
        yield kind
    for part in get_args(kind):
        yield from _declared(part)
