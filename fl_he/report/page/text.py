"""A page as Markdown or as CSV, for manuscripts and other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fl_he.report.blocks import Block, Charts, Facts, Note, Page, Points, Sheet
from fl_he.report.csv_text import csv_text
from fl_he.report.tables.table1 import escaped
from fl_he.version import __version__

#: The first line of the CSV: a line below it for each cell of a table, and for each fact.
COLUMNS = ("run", "section", "table", "row", "column", "value")
#: Stands in the first line of the Markdown.
MARK = "<!-- Made by fl-he"


def as_markdown(pages: Sequence[Page]) -> str:
    """Return pages as Markdown; of a plot there is its alternative in words."""
    lines = [f"{MARK} {__version__} from metrics.json. -->"]
    for page in pages:
        lines += ["", f"# {escaped(page.title)}", "", escaped(page.subtitle)]
        first: list[Block] = [*page.notes, Facts(page.tiles)]
        for block in first:
            lines += ["", *_lines(block)]
        for section in page.sections:
            lines += ["", f"## {escaped(section.title)}"]
            for block in section.blocks:
                lines += ["", *_lines(block)]
    return "\n".join(lines) + "\n"


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Sheet():
            yield f"**{escaped(block.caption)}**"
            yield ""
            sides = ["---", *["---" if block.text else "---:"] * (len(block.columns) - 1)]
            yield _row(block.columns)
            yield f"| {' | '.join(sides)} |"
            for row in block.rows:
                yield _row([*row.cells, *[""] * (len(block.columns) - len(row.cells))])
        case Facts():
            yield from (
                f"- {escaped(name)}: {escaped(value)}" for name, value in block.items.items()
            )
        case Charts():
            yield from (f"- {escaped(chart.alt)}" for chart in block.charts)
        case Points():
            yield from (f"- {escaped(item)}" for item in block.items)
        case Note():
            yield f"**{escaped(block.text)}**" if block.warning else escaped(block.text)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


def as_csv(pages: Mapping[str, Page]) -> str:
    """Return the tables and facts of pages as CSV, a line for each cell: see `COLUMNS`.

    Parameters
    ----------
    pages : mapping of str to Page
        By the run's name.
    """
    rows: list[Sequence[str]] = [COLUMNS]
    for run, page in pages.items():
        cells = [("", "", "", name, value) for name, value in page.tiles.items()]
        for section in page.sections:
            for block in section.blocks:
                cells += [(section.title, *cell) for cell in _cells(block)]
        rows += [(run, *cell) for cell in cells]
    return csv_text(rows)


def _cells(block: Block) -> Iterator[tuple[str, str, str, str]]:
    """Yield table, row, column and value."""
    if isinstance(block, Facts):
        yield from (("", "", name, value) for name, value in block.items.items())
    elif isinstance(block, Sheet):
        for row in block.rows:
            name, *values = row.cells
            for column, value in zip(block.columns[1:], values, strict=False):
                yield block.caption, name, column, value
