"""Tables that a narrow terminal shows without cutting a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fl_he.report.blocks import Sheet

#: Wider than any table, to ask for the width that one would like to have.
WIDE = 10_000
#: Room of names at least, as of "(intercept)".
_NAME_WIDTH = 11
#: Longer names are folded before a table is divided.
_LONGEST_NAME = 24


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


class DividedTable:
    """A sheet as one table or, in a narrow terminal, as several with the same first column.

    Parameters
    ----------
    sheet : Sheet
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the tables, each with as many columns as there is room for: Rich calls this."""
        last = len(self._sheet.columns)
        if self._fits([*range(1, last)], console, options, broken=False):
            yield self._table([*range(1, last)], broken=False)
            return
        chosen: list[int] = []
        for column in range(1, last):
            if chosen and not self._fits([*chosen, column], console, options, broken=True):
                yield self._table(chosen, broken=True)
                chosen = []
            chosen.append(column)
        yield self._table(chosen, broken=True)

    def _fits(
        self, columns: Sequence[int], console: Console, options: ConsoleOptions, *, broken: bool
    ) -> bool:
        table = self._table(columns, broken=broken)
        table.title = None  # which wraps
        needed = console.measure(table, options=options.update_width(WIDE)).minimum
        return needed <= options.max_width

    def _table(self, columns: Sequence[int], *, broken: bool) -> Table:
        sheet = self._sheet
        title = sheet.caption if columns[0] == 1 else f"{sheet.caption} (continued)"
        table = Table(title=Text(title), box=SIMPLE, show_edge=False, padding=(0, 1, 0, 0))
        longest = max((len(row.cells[0]) for row in sheet.rows), default=0)
        width = max(_NAME_WIDTH, min(longest, _LONGEST_NAME))
        table.add_column(sheet.columns[0], overflow="fold", min_width=width)
        for column in columns:
            heading = sheet.columns[column]
            if broken:
                heading = heading.replace(" ", "\n", 1).replace(" (", "\n(")
            table.add_column(heading, justify="right")
        for row in sheet.rows:
            cells = row.cells
            shown = (Text(cells[at]) if at < len(cells) else "" for at in (0, *columns))
            table.add_row(*shown)
        keep_whole(table, range(1, 1 + len(columns)))
        return table
