"""Runs the chosen sections: side by side, in one process, on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console, RenderableType

from fl_he.bench.fresh import BenchError
from fl_he.bench.tables import federation_table, hospitals_table, kernel_tables
from fl_he.bench.timing import Follow, check_out, describe_machine, follow, write_bench

_BUSY = 0.3  # load average from which other jobs disturb the figures


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the benchmark.

    Attributes
    ----------
    measure : callable
        Measures it, quickly or in full, and returns its member of bench.json.
    show : callable
        Returns its table.
    """

    measure: Callable[[bool, Follow], dict[str, Any]]
    show: Callable[[Mapping[str, Any]], RenderableType]


def _kernel(quick: bool, follow: Follow) -> dict[str, Any]:
    from fl_he.bench.kernel import FULL_KERNEL, QUICK_KERNEL, measure_kernel  # noqa: PLC0415

    return measure_kernel(QUICK_KERNEL if quick else FULL_KERNEL, follow)


# Flower takes seconds to load, and `fl-he bench kernel` does not need it.
def _federation(quick: bool, follow: Follow) -> dict[str, Any]:
    follow("loading Flower")
    from fl_he.bench.federation import (  # noqa: PLC0415
        FULL_FEDERATION,
        QUICK_FEDERATION,
        measure_federation,
    )

    return measure_federation(QUICK_FEDERATION if quick else FULL_FEDERATION, follow)


def _hospitals(quick: bool, follow: Follow) -> dict[str, Any]:
    follow("loading Flower")
    from fl_he.bench.hospitals import (  # noqa: PLC0415
        FULL_HOSPITALS,
        QUICK_HOSPITALS,
        measure_hospitals,
    )

    return measure_hospitals(QUICK_HOSPITALS if quick else FULL_HOSPITALS, follow)


def _capc(quick: bool, follow: Follow) -> dict[str, Any]:
    follow("loading Flower")
    from fl_he.bench.capc import FULL_CAPC, QUICK_CAPC, measure_capc  # noqa: PLC0415

    return measure_capc(QUICK_CAPC if quick else FULL_CAPC, follow)


def _capc_table(results: Mapping[str, Any]) -> RenderableType:
    from fl_he.bench.capc import capc_table  # noqa: PLC0415 - it loads Flower

    return capc_table(results)


SECTIONS: dict[str, Section] = {
    "kernel": Section(_kernel, kernel_tables),
    "federation": Section(_federation, federation_table),
    "hospitals": Section(_hospitals, hospitals_table),
    "capc": Section(_capc, _capc_table),
}


def run_bench(names: Sequence[str], *, quick: bool, out: Path, console: Console) -> None:
    """Measure sections, print their tables and write bench.json.

    Parameters
    ----------
    names : sequence of str
        Of ``SECTIONS``; none means all.
    quick : bool
        Whether to end within a minute, with fewer cases and runs.
    out : Path
        Where bench.json goes. It is written after each section, so that an interrupted benchmark
        keeps what it had.
    console : rich.console.Console

    Raises
    ------
    BenchError
        For an unknown section, or an ``out`` that cannot be written.
    """
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise BenchError(f"a section must be one of {', '.join(SECTIONS)}, got {unknown[0]}")
    check_out(out)
    start = perf_counter()
    machine = describe_machine()
    _introduce(machine, quick, console)
    results: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        if names and name not in names:
            continue
        with follow(console) as shown:
            results[name] = section.measure(quick, shown)
        console.print(section.show(results[name]))
        write_bench(
            out,
            {
                "command": " ".join(["fl-he bench", *names, *(["--quick"] if quick else [])]),
                "quick": quick,
                "machine": machine,
                "seconds": perf_counter() - start,
                "sections": results,
            },
        )
    console.print(f"{perf_counter() - start:.0f} s; written to {out}", highlight=False)


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
