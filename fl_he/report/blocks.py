"""Parts of a page, none of them HTML: the template writes them and escapes every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what is to be said of each.

    Attributes
    ----------
    items : mapping of str to str
    dense : bool
        Whether they are many and short, and may stand in several columns.
    """

    kind: ClassVar[str] = "facts"
    items: Mapping[str, str]
    dense: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; the first cell names it.

    Attributes
    ----------
    cells : sequence of str
        At most one for each column.
    strong : bool
        Whether it is the one to look at.
    href : str
        Where the name leads; empty for nowhere.
    """

    cells: Sequence[str]
    strong: bool = False
    href: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table.

    Attributes
    ----------
    caption : str
    columns : sequence of str
    rows : sequence of Row
    text : bool
        Whether the cells are words, which are set to the left and wrap; else they are figures.
    """

    kind: ClassVar[str] = "sheet"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    text: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a plot's legend.

    Attributes
    ----------
    label : str
    colour : int
        Number of the style sheet's series.
    broken : bool
        Whether the line is.
    """

    label: str
    colour: int
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot.

    Attributes
    ----------
    title : str
    alt : str
        What it shows, in words.
    svg : str
        Trusted markup of Matplotlib, which escapes names of features in it.
    legend : sequence of Key
    """

    title: str
    alt: str
    svg: str
    legend: Sequence[Key]


@dataclass(frozen=True, slots=True)
class Charts:
    """Plots side by side, as far as there is room."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph; a warning stands out."""

    kind: ClassVar[str] = "note"
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """A list of sentences."""

    kind: ClassVar[str] = "points"
    items: Sequence[str]


Block = Facts | Sheet | Charts | Note | Points


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under its own heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """All of it.

    Attributes
    ----------
    title, subtitle : str
    tiles : mapping of str to str
        The few figures that one looks for first.
    notes : sequence of Note
        What must be read before the rest.
    sections : sequence of Section
    """

    title: str
    subtitle: str
    tiles: Mapping[str, str]
    notes: Sequence[Note]
    sections: Sequence[Section]
