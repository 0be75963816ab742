"""A hospital that was asked and is not in the sum."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """Who is missing in a round, and why.

    Attributes
    ----------
    name : str
        The hospital's.
    reason : str
        What it said, or that it said nothing.
    """

    name: str
    reason: str
