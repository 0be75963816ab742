"""The sections of bench.json as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fl_he.bench.kernel import CKKS, PHE

_NAMES = {PHE: "phe, each value", CKKS: "TenSEAL CKKS"}


def kernel_tables(section: Mapping[str, Any]) -> RenderableType:
    """Return one table for each key, what its tables of powers cost, and the long vector."""
    parts: list[RenderableType] = []
    for key_bits in dict.fromkeys(row["key_bits"] for row in section["rows"]):
        rows = [row for row in section["rows"] if row["key_bits"] == key_bits]
        parts.append(_kernel_table(key_bits, rows))
        built = [table for table in section["tables"] if table["key_bits"] == key_bits]
        parts.append(Text(f"{_tables_of_powers(built)}\n"))
    if section["long_vector"] is not None:
        parts.append(_long_vector_table(section["long_vector"]))
    return Group(*parts)


def federation_table(section: Mapping[str, Any]) -> RenderableType:
    """Return what a round of each variant takes."""
    ratios = {ratio["encrypted_to"]: ratio for ratio in section["ratios"]}
    table = Table(
        title=f"A round of the default experiment: {section['topology']}, "
        f"{section['hospitals']} hospitals, {section['key_bits']} bits, Ray",
        caption="median and quartiles of the wall time; of an encrypted round "
        f"{seconds(section['steps']['encrypt_seconds'])} to encrypt (all hospitals), "
        f"{seconds(section['steps']['add_seconds'])} to add, "
        f"{seconds(section['steps']['decrypt_seconds'])} to decrypt",
    )
    table.add_column("round")
    for title in ("median", "quartiles", "mean", "beyond\nempty", "encrypted\nto this", "rounds"):
        table.add_column(title, justify="right")
    for row in section["variants"]:
        ratio = ratios.get(row["variant"])
        table.add_row(
            row["variant"],
            seconds(row["median_seconds"]),
            f"{seconds(row['lower_quartile'])} to {seconds(row['upper_quartile'])}",
            seconds(row["mean_seconds"]),
            seconds(row["beyond_empty_seconds"]),
            "" if ratio is None else f"{ratio['of_medians']:.2f}",
            str(row["rounds"]),
        )
    return table


def hospitals_table(section: Mapping[str, Any]) -> RenderableType:
    """Return what a round takes for each number of hospitals and topology."""
    table = Table(
        title=f"An encrypted round by number of hospitals: {section['key_bits']} bits, Ray",
        caption="hops: messages that wait for each other, the one to company X included",
    )
    table.add_column("hospitals", justify="right")
    table.add_column("topology")
    for title in ("median", "quartiles", "times faster\nthan chain", "hops", "bytes", "rounds"):
        table.add_column(title, justify="right")
    last = None
    for row in section["rows"]:
        if last not in (None, row["hospitals"]):
            table.add_section()
        last = row["hospitals"]
        segments = "" if row["segments"] == 1 else f", segments={row['segments']}"
        table.add_row(
            str(row["hospitals"]),
            f"{row['topology']}{segments}",
            seconds(row["median_seconds"]),
            f"{seconds(row['lower_quartile'])} to {seconds(row['upper_quartile'])}",
            f"{row['times_faster_than_chain']:.1f}",
            str(row["hops"]),
            size(row["bytes"]),
            str(row["rounds"]),
        )
    return table


def seconds(value: float | None) -> str:
    """Return a time in words, such as ``1.31 ms``."""
    if value is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(value) >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{_three_digits(value / 1e-6)} µs"


def size(value: float | None) -> str:
    """Return bytes in words, such as ``1.43 MiB``."""
    if value is None:
        return ""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{value:.0f} B"


def _three_digits(value: float) -> str:
    return f"{value:,.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


def _kernel_table(key_bits: int, rows: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(
        title=f"3 encryptions, 2 additions, 1 decryption: {key_bits}-bit key",
        caption="encrypt, bytes: one update; cold: a fresh process for each step, its start not "
        "included; ~ scaled up from the values in brackets",
    )
    table.add_column("values", justify="right")
    table.add_column("")
    for title in (
        *("encrypt", "add", "decrypt", "3 + 2 + 1", "times\nphe", "times\nCKKS"),
        *("bytes", "largest\nerror", "runs"),
    ):
        table.add_column(title, justify="right")
    last = None
    for row in rows:
        if last not in (None, row["length"]):
            table.add_section()
        table.add_row(f"{row['length']:,}" if last != row["length"] else "", *_kernel_cells(row))
        last = row["length"]
    return table


def _kernel_cells(row: Mapping[str, Any]) -> list[str]:
    name = _NAMES.get(row["scheme"])
    if name is None:
        name = f"fl-he {row['state']}, {row['cores']} {'core' if row['cores'] == 1 else 'cores'}"
    if row["note"]:
        return [f"{name}: {row['note']}"]
    about = "~" if row["scaled"] else ""
    if about:
        name = f"{name} ({row['timed_values']:,})"
    return [
        name,
        *(
            f"{about}{seconds(row[f'{step}_seconds'])}"
            for step in ("encrypt", "add", "decrypt", "total")
        ),
        _ratio(row["times_faster_than_phe"]),
        _ratio(row["times_faster_than_ckks"]),
        size(row["bytes"]),
        f"{row['largest_error']:.1e}",
        str(row["runs"]),
    ]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{_three_digits(value)}"


def _tables_of_powers(tables: Iterable[Mapping[str, Any]]) -> str:
    built = [
        f"window {table['window']} before {table['length']:,} values, "
        f"{seconds(table['build_seconds'])}"
        for table in tables
        if table["build_seconds"]
    ]
    return f"Tables of warm keys, not in the times above: {'; '.join(built) or 'none'}"


def _long_vector_table(row: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"{row['length']:,} values in a fresh process: {row['key_bits']}-bit key, all cores"
    )
    titles = ("encrypt", "add", "decrypt", "bytes", "largest error", "peak memory", "limit")
    for title in titles:
        table.add_column(title, justify="right")
    table.add_row(
        *(seconds(row[f"{step}_seconds"]) for step in ("encrypt", "add", "decrypt")),
        size(row["bytes"]),
        f"{row['largest_error']:.1e}",
        size(row["peak_bytes"]),
        size(row["limit_bytes"]),
    )
    return table
