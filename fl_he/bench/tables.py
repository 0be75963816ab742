"""The sections of bench.json as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from string import Formatter
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fl_he.bench.kernel import BFV, CKKS, DJN, HEU, MASKS, PHE, TAGGED, TAGGED_MASKS

_NAMES = {
    PHE: "phe, each value",
    HEU: "HEU ZPaillier",
    TAGGED: "fl-he warm, tags",
    DJN: "fl-he warm, djn",
    MASKS: "fl-he masks",
    TAGGED_MASKS: "fl-he masks, tags",
    CKKS: "TenSEAL CKKS",
    BFV: "TenSEAL BFV",
}
_STEPS = ("encrypt", "add", "decrypt")

Figures = Mapping[str, Any]


def kernel_tables(section: Figures) -> RenderableType:
    """Return tables for each key, of schemes and tickets, and one of the long vector.

    Those of tickets and of the long vector are left out where these were not measured.
    """
    parts: list[RenderableType] = []
    for key_bits, rows in groupby(section["rows"], itemgetter("key_bits")):
        built = [table for table in section["tables"] if table["key_bits"] == key_bits]
        found = list(rows)
        parts += [_kernel_table(key_bits, found), Text(f"{_tables_of_powers(built)}\n")]
        parts.append(_cpu_table(key_bits, found))
        if section["tickets"]:
            parts.append(_ticket_table(key_bits, section["tickets"], section["updates"]))
    if section["long_vector"] is not None:
        parts.append(_long_vector_table(section["long_vector"]))
    return Group(*parts)


def federation_table(section: Figures) -> Table:
    """Return the seconds of a round of each variant."""
    ratios = {ratio["encrypted_to"]: ratio["of_medians"] for ratio in section["ratios"]}
    return _table(
        f"A round of the default experiment: {section['topology']}, "
        f"{section['hospitals']} hospitals, {section['key_bits']} bits, Ray",
        {
            "<round": "{variant}",
            "median": "{median_seconds:seconds}",
            "quartiles": "{lower_quartile:seconds} to {upper_quartile:seconds}",
            "mean": "{mean_seconds:seconds}",
            "beyond\nempty": "{beyond_empty_seconds:seconds}",
            "encrypted\nto this": "{ratio:.2f}",
            "CPU": "{cpu_seconds:seconds}",
            "rounds": "{rounds}",
        },
        [{**row, "ratio": ratios.get(row["variant"])} for row in section["variants"]],
        caption=f"{_WALL_AND_CPU}of an encrypted round {_steps(section['steps'])}",
    )


def large_model_table(section: Figures) -> Table:
    """Return the seconds of a round of each kind and variant."""
    return _table(
        f"A round of a foreign app of {section['parameters']:,} parameters: {section['scheme']}, "
        f"{section['topology']}, {section['hospitals']} hospitals, Ray",
        {
            "<round": "{round}",
            "<": "{variant}",
            "median": "{median_seconds:seconds}",
            "quartiles": "{lower_quartile:seconds} to {upper_quartile:seconds}",
            "encrypted\nto this": "{encrypted_to_this:.2f}",
            "encrypted\nadds": "{added_seconds:seconds}",
            "CPU": "{cpu_seconds:seconds}",
            "encrypted\nto this,\nCPU": "{encrypted_to_this_cpu:.2f}",
            "rounds": "{rounds}",
        },
        section["rows"],
        group_by="round",
        caption=f"{_WALL_AND_CPU}of a sum of updates {_steps(section['steps'])}",
    )


def hospitals_table(section: Figures) -> Table:
    """Return the seconds of a round for each number of hospitals and topology."""
    return _table(
        f"An encrypted round by number of hospitals: {section['key_bits']} bits",
        {
            "hospitals": "{hospitals}",
            "<engine": "{engine}",
            "<topology": "{topology}{chains}",
            "median": "{median_seconds:seconds}",
            "quartiles": "{lower_quartile:seconds} to {upper_quartile:seconds}",
            "times faster\nthan chain": "{times_faster_than_chain:.1f}",
            "hops": "{hops}",
            "bytes": "{bytes:size}",
            "rounds": "{rounds}",
        },
        [
            {**row, "chains": "" if row["segments"] == 1 else f", segments={row['segments']}"}
            for row in section["rows"]
        ],
        group_by="hospitals",
        caption="hops: messages that wait for each other, the one to company X included",
    )


def capc_table(section: Figures) -> Table:
    """Return the cost of an argmax, a vote and a whole batch for each number of queries."""
    return _table(
        f"CaPC: {section['classes']} classes, {section['answering_parties']} answering "
        f"parties, {section['key_bits']}-bit keys",
        {
            "queries": "{queries}",
            "hops": "{hops}",
            "argmax": "{argmax_seconds:.3f}",
            "vote": "{vote_seconds:.3f}",
            "ReLU": "{relu_seconds:.4f}",
            "seconds in all": "{steps_seconds:.1f}",
            "bytes": "{bytes:,}",
        },
        section["rows"],
        caption="argmax, vote: CPU seconds of both sides for one query and answering party; a "
        "vote is the model's evaluation, the argmax and their messages; ReLU: those for one unit",
    )


def seconds(value: float) -> str:
    """Return a time in words, such as ``1.31 ms``."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(value) >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{_three_digits(value / 1e-6)} µs"


def size(value: float) -> str:
    """Return bytes in words, such as ``1.43 MiB``."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{value:.0f} B"


def _three_digits(value: float) -> str:
    return f"{value:,.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


class Cells(Formatter):
    """Formats figures; None becomes nothing."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format as Python does, or as `seconds`, `size` (of bytes) or `times` (a ratio)."""
        if value is None:
            return ""
        own = {"seconds": seconds, "size": size, "times": _three_digits}.get(format_spec)
        return own(value) if own else format(value, format_spec)


CELLS = Cells()


def _table(
    title: str,
    columns: Mapping[str, str],
    rows: Iterable[Figures],
    *,
    group_by: str | None = None,
    caption: str | None = None,
) -> Table:
    """Return a table of figures.

    Parameters
    ----------
    title, caption
        Of the table.
    columns : mapping of str to str
        Title to cell, as a format of a row's figures. A title with "<" is flush left.
    rows : iterable of mappings
    group_by : str, optional
        There is a line between rows that differ in this figure.
    """
    table = Table(title=title, caption=caption)
    for column in columns:
        table.add_column(column.removeprefix("<"), justify="left" if "<" in column else "right")
    for _, group in groupby(rows, itemgetter(group_by) if group_by else lambda _: None):
        for row in group:
            table.add_row(*(escape(CELLS.vformat(cell, (), row)) for cell in columns.values()))
        table.add_section()
    return table


_WALL_AND_CPU = "median and quartiles of the wall time; CPU: of all processes, a round; "


def _steps(steps: Figures) -> str:
    return CELLS.vformat(
        "{encrypt_seconds:seconds} to encrypt (all hospitals), {add_seconds:seconds} to add, "
        "{decrypt_seconds:seconds} to decrypt",
        (),
        steps,
    )


def _kernel_table(key_bits: int, rows: Iterable[Figures]) -> Table:
    return _table(
        f"3 encryptions, 2 additions, 1 decryption: {key_bits}-bit key",
        {
            "values": "{values}",
            "<": "{name}",
            **{step: f"{{about}}{{{step}_seconds:seconds}}" for step in _STEPS},
            "3 + 2 + 1": "{about}{total_seconds:seconds}",
            "times\nphe": "{times_faster_than_phe:times}",
            "times\nCKKS": "{times_faster_than_ckks:times}",
            "bytes": "{bytes:size}",
            "largest\nerror": "{largest_error:.1e}",
            "runs": "{runs}",
        },
        _by_length(rows),
        group_by="length",
        caption="encrypt, bytes: one update; cold: a fresh process for each step, its start not "
        "included; tags: as with a manifest, tickets signed and values under a tag; djn: a key of "
        "that kind, all others of fl-he's are short; ~ scaled up from the values in brackets",
    )


def _cpu_table(key_bits: int, rows: Iterable[Figures]) -> Table:
    return _table(
        f"CPU time of 3 encryptions, 2 additions, 1 decryption: {key_bits}-bit key",
        {
            "values": "{values}",
            "<": "{name}",
            "CPU": "{about}{cpu_seconds:seconds}",
            "times phe": "{times_less_cpu_than_phe:times}",
            "times CKKS": "{times_less_cpu_than_ckks:times}",
            "times djn": "{times_less_cpu_than_djn:times}",
        },
        _by_length([row for row in rows if row["cpu_seconds"] is not None]),
        group_by="length",
    )


def _by_length(rows: Iterable[Figures]) -> list[Figures]:
    """Return rows with their names, and with the number of values at the first of each length."""
    return [
        {**_named(row), "values": f"{length:,}" if number == 0 else ""}
        for length, group in groupby(rows, itemgetter("length"))
        for number, row in enumerate(group)
    ]


def _ticket_table(key_bits: int, rows: Sequence[Figures], updates: int) -> Table:
    return _table(
        f"Tickets, with signatures and value key: {key_bits}-bit key",
        {
            "values": "{length:,}",
            "seal": "{seal_seconds:seconds}",
            "sign": "{sign_seconds:seconds}",
            "tags": "{tag_seconds:seconds}",
            "pairwise\nmasks": "{pair_seconds:seconds}",
            "bytes": "{ticket_bytes:,}",
            "cipher-\ntexts": "{ciphertexts:,} ({untagged_ciphertexts:,})",
            "verify": "{verify_seconds:seconds}",
            "open\nseeds": "{unseal_seconds:seconds}",
            "check\ntags": "{check_seconds:seconds}",
        },
        [row for row in rows if row["key_bits"] == key_bits],
        caption="to the left: one update, apart from its encryption; pairwise masks: among "
        f"{rows[0]['paired']} hospitals, where they have them; in brackets: without tags; to "
        f"the right: one opening of {updates} updates, apart from the decryption",
    )


def _named(row: Figures) -> Figures:
    """Add the name of a row, and a sign that its figures are scaled up."""
    cores = "core" if row["cores"] == 1 else "cores"
    name = _NAMES.get(row["scheme"], f"fl-he {row['state']}, {row['cores']} {cores}")
    if row["note"]:
        return {**row, "name": f"{name}: {row['note']}", "about": "", "runs": None}
    if row["scaled"]:
        return {**row, "name": f"{name} ({row['timed_values']:,})", "about": "~"}
    return {**row, "name": name, "about": ""}


def _tables_of_powers(tables: Iterable[Figures]) -> str:
    built = [
        f"{table['key_kind']}: window {table['window']} before {table['length']:,} values, "
        f"{seconds(table['build_seconds'])}"
        for table in tables
        if table["build_seconds"]
    ]
    return f"Tables of warm keys, not in the times above: {'; '.join(built) or 'none'}"


def _long_vector_table(row: Figures) -> Table:
    return _table(
        f"{row['length']:,} values in a fresh process: {row['key_bits']}-bit key, all cores",
        {
            **{step: f"{{{step}_seconds:seconds}}" for step in _STEPS},
            "bytes": "{bytes:size}",
            "largest error": "{largest_error:.1e}",
            "peak memory": "{peak_bytes:size}",
            "limit": "{limit_bytes:size}",
        },
        [row],
    )
