"""The unit of comparison: three updates are encrypted, added up, and their sum is decrypted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Encrypted = TypeVar("Encrypted")

#: How many updates a unit has: one for each hospital of the default experiment.
UPDATES = 3
_SEED = 10


class Scheme(Protocol[Encrypted]):
    """A way to sum vectors under encryption."""

    def encrypt(self, values: Vector) -> Encrypted:
        """Encrypt one update of shape (d,)."""

    def add(self, total: Encrypted, update: Encrypted) -> Encrypted:
        """Return the sum of two; ``total`` may be overwritten."""

    def decrypt(self, total: Encrypted) -> Vector:
        """Decrypt to shape (d,)."""

    def size(self, update: Encrypted) -> int:
        """Return the bytes of one update as it would travel."""


@dataclass(frozen=True, slots=True)
class UnitRun:
    """What one run of the unit took and gave.

    Attributes
    ----------
    encrypt, add, decrypt : float
        Seconds for one encryption (mean of three), one addition (mean of two), one decryption.
    bytes : int
        Size of one encrypted update.
    result : float64 array of shape (d,)
        The decrypted sum.
    start : float
        Seconds that one fresh process took to start and import, 0 where there was none.
    """

    encrypt: float
    add: float
    decrypt: float
    bytes: int
    result: Vector
    start: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the whole unit."""
        return UPDATES * self.encrypt + (UPDATES - 1) * self.add + self.decrypt


def run_unit(scheme: Scheme[Encrypted], updates: Sequence[Vector]) -> UnitRun:
    """Encrypt, add and decrypt once."""
    marks = [perf_counter()]
    encrypted = [scheme.encrypt(values) for values in updates]
    marks.append(perf_counter())
    size = scheme.size(encrypted[0])
    total = encrypted[0]
    marks.append(perf_counter())
    for update in encrypted[1:]:
        total = scheme.add(total, update)
    marks.append(perf_counter())
    result = scheme.decrypt(total)
    marks.append(perf_counter())
    return UnitRun(
        encrypt=(marks[1] - marks[0]) / len(updates),
        add=(marks[3] - marks[2]) / (len(updates) - 1),
        decrypt=marks[4] - marks[3],
        bytes=size,
        result=result,
    )


def example_updates(length: int) -> list[Vector]:
    """Return the updates that every scheme gets: standard normal values, always the same."""
    rng = np.random.default_rng(_SEED)
    return [rng.standard_normal(length) for _ in range(UPDATES)]


def largest_error(result: Vector, updates: Sequence[Vector]) -> float:
    """Return the largest difference from the sum, which is rounded correctly (`math.fsum`)."""
    sums = (math.fsum(values) for values in zip(*updates, strict=True))
    exact = np.fromiter(sums, dtype=np.float64, count=len(result))
    return float(np.abs(result - exact).max())
