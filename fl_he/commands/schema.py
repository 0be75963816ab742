"""``fl-he schema``: draft a schema from a table. ``fl-he check``: hold a table against a schema."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl_he.terminal.errors import plain_errors

READING_FILE = "a reading file (--reading)"
READING = typer.Option(
    metavar="FILE",
    help="How the table is written, in the place of the schema's `reading`: a YAML file with its "
    "settings.",
)


def schema(
    table: Annotated[Path, typer.Argument(metavar="TABLE")],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the outcome.")
    ] = None,
    min_cell: Annotated[
        int, typer.Option(help="Rows that must have a text for the draft to show it.", min=2)
    ] = 5,
    *,
    event: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Of a time: whether the event was seen, as 0 and 1."),
    ] = None,
    exposure: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Of a count: the exposure, such as years seen."),
    ] = None,
) -> None:
    """Draft a schema from a table; prints YAML.

    TABLE is one hospital's CSV or Parquet file. The draft has no number of the table. It shows a
    text only as a level of a category of at most 30, or as a word in the place of missing numbers,
    and only if several rows have it. Other columns of text become `drop`. Correct the draft, and
    give it to all hospitals: each runs `fl-he check` with it.
    """
    with plain_errors():
        from fl_he.learning.tables.schema.draft import draft_schema

        drafted = draft_schema(table, target, min_cell, event=event, exposure=exposure)
        typer.echo(drafted, nl=False)


def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE")],
    schema: Annotated[Path, typer.Option(metavar="FILE", help="The consortium's schema.")],
    reading: Annotated[Path | None, READING] = None,
) -> None:
    """Tell all faults of a table at once: column, count, first rows, and how to correct them.

    No cell is shown. Rows are counted from 1, the header included. The exit code is 1 if there is
    a fault.
    """
    with plain_errors():
        from fl_he.errors import visible
        from fl_he.learning.tables.schema.application import check_table
        from fl_he.learning.tables.schema.description import read_schema

        own = read_schema(schema, reading, f"the schema's reading or {READING_FILE}")
        found = check_table(table, own)
        for line in (*found.notes, *(fault.words for fault in found.faults)):
            typer.echo(visible(line))
        count = len(found.faults)
        faults = f"{count} fault{'' if count == 1 else 's'}" if count else "no fault"
        typer.echo(f"{table}: {found.rows} rows, {faults}; schema {own.shared_digest[:16]}")
        if count:
            raise typer.Exit(1)
