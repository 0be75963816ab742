"""Tables that a narrow terminal shows without cutting a figure."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

#: Wider than any table, to ask for the width that one would like to have.
WIDE = 10_000


class FittedTable:
    """The first of several tables that is not too wide for the terminal, or the last.

    Parameters
    ----------
    *tables : rich.table.Table
        The same rows, the widest table first.
    """

    def __init__(self, *tables: Table) -> None:
        self.tables = tables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table: Rich calls this."""
        *wider, last = self.tables
        for table in wider:
            needed = console.measure(table, options=options.update_width(WIDE)).maximum
            if needed <= options.max_width:
                yield table
                return
        yield last


def keep_whole(table: Table, columns: Iterable[int]) -> None:
    """Let all other columns give way first: these are neither wrapped nor cut.

    Parameters
    ----------
    table : rich.table.Table
        With all of its rows.
    columns : iterable of int
        Places of the columns, from 0.
    """
    for index in columns:
        column = table.columns[index]
        cells = [column.header, *column.cells]
        column.no_wrap = True
        column.min_width = max(len(line) for cell in cells for line in f"{cell}\n".splitlines())
