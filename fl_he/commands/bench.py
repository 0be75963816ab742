"""``fl-he bench``: measure what encryption costs."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl_he.errors import FlHeError
from fl_he.terminal.errors import explain
from fl_he.terminal.interrupt import end_at_signals


def bench(
    sections: Annotated[
        list[str] | None,
        typer.Argument(metavar="[kernel|federation|large-model|hospitals|capc]..."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer cases and runs; ends within two minutes.")
    ] = False,
    rows: Annotated[
        str | None,
        typer.Option(help="Rows of kernel, such as masks,ckks,bfv; all if not given."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("bench.json"),
) -> None:
    """Measure the cost of encryption on this machine, compared with the alternatives.

    All five parts if none is named:

    kernel: encryption compared with phe, HEU, CKKS and BFV; bytes and times of tickets

    federation: a round, encrypted and plain

    large-model: a round of a million parameters, encrypted and plain

    hospitals: rounds by number of hospitals and topology

    capc: the argmax of CaPC
    """
    from rich.console import Console

    from fl_he.bench.command import run_bench
    from fl_he.bench.kernel import ROWS

    end_at_signals()
    chosen = ROWS if rows is None else rows.split(",")
    try:
        run_bench(sections or [], quick=quick, out=out, console=Console(), rows=chosen)
    except (FlHeError, FileExistsError) as error:
        explain(error)
        raise typer.Exit(1) from None
