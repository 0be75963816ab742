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
        typer.Argument(metavar="[kernel|federation|hospitals|capc]..."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer cases and runs; ends within a minute.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("bench.json"),
) -> None:
    """Measure what encryption costs on this machine, beside the alternatives.

    All four parts if none is named:

    kernel: encryption compared with phe and CKKS; bytes and times of tickets

    federation: a round, encrypted and plain

    hospitals: rounds by number of hospitals and topology

    capc: the argmax of CaPC
    """
    from rich.console import Console

    from fl_he.bench.command import run_bench

    end_at_signals()
    try:
        run_bench(sections or [], quick=quick, out=out, console=Console())
    except (FlHeError, FileExistsError) as error:
        explain(error)
        raise typer.Exit(1) from None
