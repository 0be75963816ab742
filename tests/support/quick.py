"""Parameters of tests of which only some run with the quick tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def slow_but(values: Iterable[str], *quick: str) -> list[object]:
    """Return all values as parameters, marked as slow but for those named."""
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]


def slow(*cases: tuple[object, ...]) -> list[object]:
    """Return cases of several parameters each, marked as slow."""
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def release(*cases: tuple[object, ...]) -> list[object]:
    """Return cases of several parameters each, which run before a release only."""
    return [pytest.param(*case, marks=pytest.mark.release) for case in cases]
