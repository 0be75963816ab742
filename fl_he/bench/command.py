"""The benchmark's command: its sections, one after another, on the terminal and in bench.json.

``version`` of bench.json's format, ``fl_he``, ``command``, ``quick`` (fewer runs and cases: for a
look, not for comparison), ``machine`` (see `describe_machine`), ``seconds`` of the whole benchmark,
and ``sections`` with one member for each that was run: ``kernel``, ``federation``,
``large-model``, ``hospitals``, ``capc``. Names that end in ``_seconds`` are seconds, others with
``bytes`` are bytes. There is no host name, no user and no path in it.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fl_he.atomic import replace_file, require_own
from fl_he.bench import kernel
from fl_he.bench.fresh import BenchError
from fl_he.bench.tables import (
    capc_table,
    federation_table,
    hospitals_table,
    kernel_tables,
    large_model_table,
)
from fl_he.bench.timing import Follow
from fl_he.crypto.paillier.threads import available_cores
from fl_he.experiment.flower_log import quiet
from fl_he.version import __version__, installed_version

VERSION = 1
_BUSY = 0.3  # load average from which other jobs disturb the figures
_LIBRARIES = ("flwr", "ray", "phe", "gmpy2", "numpy", "tenseal", "sf-heu")
_CPUINFO = Path("/proc/cpuinfo")


#: The sections in their order, each with the function that shows its figures as a table.
SECTIONS: dict[str, Callable[[Mapping[str, Any]], RenderableType]] = {
    "kernel": kernel_tables,
    "federation": federation_table,
    "large-model": large_model_table,
    "hospitals": hospitals_table,
    "capc": capc_table,
}


def measure(name: str, quick: bool, rows: Sequence[str], follow: Follow) -> dict[str, Any]:
    """Measure a section, quickly or in full, and return its member of bench.json."""
    if name == "kernel":
        return kernel.measure((kernel.QUICK if quick else kernel.FULL).only(rows), follow)
    follow("loading Flower")
    from fl_he.bench import (  # noqa: PLC0415 - lazy: needs Flower
        capc,
        federation,
        hospitals,
        large_model,
    )

    section: Any = {
        "federation": federation,
        "large-model": large_model,
        "hospitals": hospitals,
        "capc": capc,
    }[name]
    figures: dict[str, Any] = section.measure(section.QUICK if quick else section.FULL, follow)
    return figures


def run_bench(
    names: Sequence[str],
    *,
    quick: bool,
    out: Path,
    console: Console,
    rows: Sequence[str] = kernel.ROWS,
) -> None:
    """Measure sections, print their tables and write bench.json.

    Parameters
    ----------
    names : sequence of str
        Of ``SECTIONS``; none means all.
    quick : bool
        Whether to end within two minutes, with fewer cases and runs.
    out : Path
        Where bench.json goes. It is written after each section, so that an interrupted benchmark
        keeps what it had.
    console : rich.console.Console
    rows : sequence of str
        Rows of section `kernel`; the others are left out.

    Raises
    ------
    BenchError
        For an unknown section or row, or an ``out`` that cannot be written.
    """
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise BenchError(f"a section must be one of {', '.join(SECTIONS)}, got {unknown[0]}")
    kernel.FULL.only(rows)
    if out.is_dir() or not out.parent.is_dir():  # before an hour's work, not after
        raise BenchError(f"out must be a file in a folder that exists, got {out}")
    require_own(out, b'"fl_he"')
    start = perf_counter()
    machine = describe_machine()
    _introduce(machine, quick, console)
    results: dict[str, Any] = {}
    for name, show in SECTIONS.items():
        if names and name not in names:
            continue
        with follow(console) as shown, quiet():
            results[name] = measure(name, quick, rows, shown)
        console.print(show(results[name]))
        document = {
            "version": VERSION,
            "fl_he": __version__,
            "command": _command(names, quick, rows),
            "quick": quick,
            "machine": machine,
            "seconds": perf_counter() - start,
            "sections": results,
        }
        text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
        replace_file(out, f"{text}\n".encode())
    console.print(f"{perf_counter() - start:.0f} s; written to {out}", highlight=False)


def _command(names: Sequence[str], quick: bool, rows: Sequence[str]) -> str:
    chosen = [] if tuple(rows) == kernel.ROWS else ["--rows", ",".join(rows)]
    return " ".join(["fl-he bench", *names, *(["--quick"] if quick else []), *chosen])


def _introduce(machine: Mapping[str, Any], quick: bool, console: Console) -> None:
    console.print(
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}",
        highlight=False,
    )
    if machine["load_average"] > _BUSY:
        console.print(
            f"Other jobs are running (load average {machine['load_average']}): "
            "the times below are longer than they should be.",
            style="yellow",
            highlight=False,
        )
    if quick:
        console.print("Quick: few cases, few runs. For a look, not for comparison.")


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, Python and library versions.

    Returns
    -------
    dict
        ``libraries`` maps names to versions, None where one is not installed. ``load_average``
        is that of the last minute: above about 0.3 other jobs were running. Nothing names the
        machine.
    """
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": {name: installed_version(name) for name in _LIBRARIES},
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    info = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    model = re.search(r"^model name\s*:(.*)$", info, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


@contextmanager
def follow(console: Console) -> Iterator[Follow]:
    """Show measurements while the context is open.

    Parameters
    ----------
    console : rich.console.Console
        A terminal gets one line that moves, anything else a line for each new text.
    """
    columns = (
        *(SpinnerColumn(), TextColumn("{task.description}")),
        *(BarColumn(bar_width=20), TimeElapsedColumn()),
    )
    plain, shown = not console.is_terminal, set[str]()
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=None)

    def show(text: str, done: int = 0, total: int | None = None) -> None:
        bar.update(task, description=text, completed=done, total=total)
        if plain and text not in shown:
            console.print(text, highlight=False)
            shown.add(text)

    with nullcontext() if plain else bar:
        yield show
