"""CSV for people: no cell is a formula to a spreadsheet that opens the file.

Names in a report come from other nodes, and a spreadsheet runs a cell that begins with ``=``.
Source: OWASP, "CSV Injection". Files that programs join or read back keep their cells as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from fl_he.errors import visible

#: First signs of a formula, also in full width.
_SIGNS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
#: Where a spreadsheet of another country begins a new cell.
_BREAKS = re.compile(r"([;\n])")
_NUMBER = r"[-+]?(\d[\d,]*(\.\d*)?|\.\d+|inf|nan)(e[-+]?\d+)?%?"
_FIGURE = re.compile(
    rf"{_NUMBER}( to {_NUMBER})?( \(([a-z ]+: )?{_NUMBER}( to {_NUMBER})?\))?",
    re.ASCII | re.IGNORECASE,
)


def text_cell(cell: str) -> str:
    r"""Return a cell with an apostrophe before each part that a spreadsheet may take for a formula.

    Numbers and intervals stay as they are. Of characters that control a terminal only line breaks
    stay.

    Examples
    --------
    >>> text_cell("=1+1"), text_cell("age;@SUM(A1)"), text_cell("\t=A1")
    ("'=1+1", "age;'@SUM(A1)", "' =A1")
    >>> text_cell("-0.5"), text_cell("-0.99 to 1.76"), text_cell("-2+3")
    ('-0.5', '-0.99 to 1.76', "'-2+3")
    """
    parts = _BREAKS.split(visible(cell))
    return "".join(f"'{part}" if _is_formula(part) else part for part in parts)


def _is_formula(part: str) -> bool:
    bare = part.strip()
    return bare.startswith(_SIGNS) and not _FIGURE.fullmatch(bare)


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV for people; see `text_cell`."""
    return csv_lines([[text_cell(cell) for cell in row] for row in rows])


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV, their cells as they are."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
