"""The exceptions of the learning layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fl_he.errors import FlHeError, FlHeWarning

_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with data, or with the description of how to read them.

    Attributes
    ----------
    words : str
        Names, counts, row numbers and settings, never a record.
    setting : str or None
        The argument of :func:`fl_he.learning.tables.data.load_table` whose change may help, for the
        layer that knows what the user calls it; None: the data themselves are wrong.
    column : str or None
        The column that is wrong. With ``setting="drop"`` it could be left out.
    known : tuple of str
        The columns that there are, where the setting names another one.
    remedies : tuple of str
        Changes to the file that would help.
    row : int or None
        The row of the only such cell; None if there are several.
    """

    words: str
    setting: str | None = None
    column: str | None = None
    known: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    row: int | None = None


class DataError(FlHeError):
    """Data, or a description of how to read or divide it, that cannot be used.

    Parameters
    ----------
    message, setting, column
        Of the fault; see Fault.

    Attributes
    ----------
    faults : tuple of Fault
        All that is wrong.
    """

    def __init__(
        self, message: str, *, setting: str | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.faults: tuple[Fault, ...] = (Fault(message, setting, column),)

    @classmethod
    def of(cls, faults: Sequence[Fault], note: str = "") -> Self:
        """Return one error of all faults, the first of which it tells, and a note behind them."""
        told = "; ".join(fault.words for fault in faults[:_MOST_TOLD])
        others = len(faults) - _MOST_TOLD
        more = f"; and {others} more like these" if others > 0 else ""
        error = cls(f"{told}{more}{note}")
        error.faults = tuple(faults)
        return error


class DataWarning(FlHeWarning):
    """Cells of a table that are not read as they stand."""


class PrivacyError(FlHeError):
    """Differential privacy that cannot be had as asked."""
