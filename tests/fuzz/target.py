"""A fuzz target: one function that reads hostile input, and the errors that it documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of hostile input.

    Attributes
    ----------
    name : str
    read : callable
        Reads one input, made of any bytes.
    errors : tuple of exception types
        What the reader documents to raise. Anything else is a finding.
    seeds : callable
        Returns inputs from which fuzzing starts, the first of them valid: `read` takes it.
    weight : float
        Share of the inputs of a run that this target gets, relative to others: less if one is slow.
    limit : int
        Longest input in bytes.
    """

    name: str
    read: Callable[[bytes], object]
    errors: tuple[type[BaseException], ...]
    seeds: Callable[[], Sequence[bytes]]
    weight: float = 1.0
    limit: int = 4096

    def refuses(self, data: bytes) -> bool:
        """Read one input; tell whether it was refused. Any other exception comes through."""
        try:
            self.read(data)
        except self.errors:
            return True
        return False
