"""The exceptions of the learning layer."""

from __future__ import annotations

from fl_he.errors import FlHeError


class DataError(FlHeError):
    """Data, or a description of how to read or divide it, that cannot be used.

    The message holds names, counts, row numbers and settings, never a record.

    Parameters
    ----------
    message : str
    setting : str or None
        The argument of :func:`fl_he.learning.tables.data.load_table` whose change may help, for the
        layer that knows what the user calls it; None: the data themselves are wrong.
    column : str or None
        The column that it is about.
    """

    def __init__(
        self, message: str, *, setting: str | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.setting = setting
        self.column = column


class PrivacyError(FlHeError):
    """Differential privacy that cannot be had as asked."""
