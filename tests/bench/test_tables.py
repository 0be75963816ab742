from __future__ import annotations

from dataclasses import asdict, replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from fl_he.bench.kernel import KernelRow
from fl_he.bench.tables import (
    CELLS,
    capc_table,
    federation_table,
    hospitals_table,
    kernel_tables,
    large_model_table,
)


def printed(table: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=180).print(table)
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0.00 µs"),
        (1.234e-6, "1.23 µs"),
        (0.0123456, "12.3 ms"),
        (0.999, "999 ms"),
        (1.0, "1.00 s"),
        (-0.1012, "-101 ms"),
        (1234.5, "1,234 s"),
        (9.996, "10.0 s"),
    ],
)
def test_seconds_in_words(value: float | None, text: str) -> None:
    assert CELLS.format("{:seconds}", value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (568, "568 B"),
        (1024, "1.00 KiB"),
        (1.5 * 2**20, "1.50 MiB"),
        (2**31, "2.00 GiB"),
    ],
)
def test_bytes_in_words(value: float | None, text: str) -> None:
    assert CELLS.format("{:size}", value) == text


FIGURES = KernelRow(
    *(2048, 10_000, "phe", "warm", 1),
    encrypt_seconds=140.0,
    add_seconds=0.5,
    decrypt_seconds=40.0,
    total_seconds=461.0,
    bytes=5_120_000,
    largest_error=1e-16,
    timed_values=100,
    scaled=True,
    runs=3,
    times_faster_than_phe=1.0,
)


def kernel_section() -> dict[str, Any]:
    rows = [
        FIGURES,
        replace(FIGURES, scheme="fl-he", cores=2, scaled=False, times_faster_than_phe=512.0),
        replace(FIGURES, scheme="fl-he, tags", cpu_seconds=0.3, times_less_cpu_than_phe=543.0),
        replace(FIGURES, scheme="fl-he, djn", cpu_seconds=0.9, times_less_cpu_than_djn=1.25),
        replace(FIGURES, scheme="masks", scaled=False, cpu_seconds=0.0155),
        replace(FIGURES, scheme="masks, tags", scaled=False, cpu_seconds=1.0),
        replace(FIGURES, scheme="ckks", cpu_seconds=0.6, times_less_cpu_than_ckks=37.5),
        replace(FIGURES, scheme="heu", cores=2, cpu_seconds=170.0),
        replace(FIGURES, scheme="bfv", scaled=False, cpu_seconds=0.0105),
        KernelRow(2048, 10_000, "ckks", "warm", 1, note="not installed: pip install x[y]"),
        replace(FIGURES, key_bits=3072, scheme="fl-he", state="cold", scaled=False),
    ]
    tables = [
        {"key_bits": 2048, "key_kind": "short", "length": 31, "window": 7, "build_seconds": 0.25},
        {"key_bits": 2048, "key_kind": "short", "length": 99, "window": 7, "build_seconds": 0.0},
    ]
    parts = ("seal", "sign", "tag", "pair", "verify", "unseal", "check")
    tickets = [
        {
            **{"key_bits": 2048, "length": 1000, "paired": 20, "ticket_bytes": 1333},
            **{"ciphertexts": 32, "untagged_ciphertexts": 29},
            **{f"{part}_seconds": number * 1e-3 for number, part in enumerate(parts, 1)},
        }
    ]
    long_vector = {
        **{"key_bits": 2048, "length": 1_000_000, "bytes": 14_629_420, "largest_error": 1e-7},
        **{"encrypt_seconds": 6.0, "add_seconds": 0.1, "decrypt_seconds": 50.0},
        **{"peak_bytes": 2**29, "limit_bytes": 2**31},
    }
    return {
        "rows": [asdict(row) for row in rows],
        "updates": 3,
        "tables": tables,
        "tickets": tickets,
        "long_vector": long_vector,
    }


def test_kernel_rows_say_what_was_scaled_and_what_is_missing() -> None:
    text = printed(kernel_tables(kernel_section()))
    assert "2048-bit key" in text
    assert "3072-bit key" in text
    phe, ours = (line for line in text.splitlines() if "phe, each" in line or "warm, 2" in line)
    assert "(100)" in phe
    assert "~461 s" in phe
    assert "~" not in ours
    assert "512" in ours
    assert "TenSEAL CKKS: not installed: pip install x[y]" in " ".join(text.split())
    assert "fl-he cold, 1 core " in text
    assert "short: window 7 before 31 values, 250 ms" in text
    assert "none" in text, "no table was built for the second key"
    assert "512 MiB" in text
    assert "2.00 GiB" in text


def test_cpu_times_have_a_table_with_ratios() -> None:
    text = printed(kernel_tables(kernel_section()))
    table = text.partition("CPU time of 3")[2].partition("Tickets")[0]
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")][1:]
        for line in table.splitlines()
        if line.startswith("│")
    ]
    assert cells == [
        ["fl-he warm, tags (100)", "~300 ms", "543", "", ""],
        ["fl-he warm, djn (100)", "~900 ms", "", "", "1.25"],
        ["fl-he masks", "15.5 ms", "", "", ""],
        ["fl-he masks, tags", "1.00 s", "", "", ""],
        ["TenSEAL CKKS (100)", "~600 ms", "", "37.5", ""],
        ["HEU ZPaillier (100)", "~170 s", "", "", ""],
        ["TenSEAL BFV", "10.5 ms", "", "", ""],
    ]


def test_tickets_follow_the_schemes_of_their_key() -> None:
    text = printed(kernel_tables(kernel_section()))
    titles = [line.strip() for line in text.splitlines() if "-bit key" in line]
    assert titles[:3] == [
        "3 encryptions, 2 additions, 1 decryption: 2048-bit key",
        "CPU time of 3 encryptions, 2 additions, 1 decryption: 2048-bit key",
        "Tickets, with signatures and value key: 2048-bit key",
    ]
    (row,) = (line for line in text.splitlines() if "1,333" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        *("1,000", "1.00 ms", "2.00 ms", "3.00 ms", "4.00 ms", "1,333"),
        *("32 (29)", "5.00 ms", "6.00 ms", "7.00 ms"),
    ]
    assert "one opening of 3 updates" in " ".join(text.split())


def test_a_quick_kernel_has_no_long_vector() -> None:
    text = printed(kernel_tables({**kernel_section(), "long_vector": None}))
    assert "peak memory" not in text


def test_chosen_rows_have_no_tickets() -> None:
    assert "Tickets" in printed(kernel_tables(kernel_section()))
    text = printed(kernel_tables({**kernel_section(), "tickets": [], "tables": []}))
    assert "Tickets" not in text
    assert "fl-he masks" in text


def test_federation_shows_ratios() -> None:
    variant = {
        **{"median_seconds": 0.2, "lower_quartile": 0.1, "upper_quartile": 0.3},
        **{"mean_seconds": 0.21, "beyond_empty_seconds": 0.005, "rounds": 40},
        "cpu_seconds": 0.054,
    }
    section = {
        **{"hospitals": 3, "topology": "fold", "key_bits": 2048},
        "variants": [{"variant": name, **variant} for name in ("encrypted", "plain")],
        "ratios": [{"encrypted_to": "plain", "of_medians": 1.04, "of_means": 1.5}],
        "steps": {"encrypt_seconds": 0.006, "add_seconds": 0.0001, "decrypt_seconds": 0.02},
    }
    text = printed(federation_table(section))
    plain = next(line for line in text.splitlines() if " plain " in line)
    assert "1.04" in plain
    assert "100 ms to 300 ms" in plain
    assert "5.00 ms" in plain
    assert "6.00 ms to encrypt" in text


def test_a_large_model_has_a_row_for_each_round_and_variant() -> None:
    figures = {"median_seconds": 0.5, "lower_quartile": 0.4, "upper_quartile": 0.6}
    row = {
        **{"round": "train", "variant": "plain", **figures, "rounds": 15, "cpu_seconds": 0.25},
        **{"encrypted_to_this": 1.24, "encrypted_to_this_cpu": 1.44, "added_seconds": 0.12},
    }
    section = {
        **{"hospitals": 3, "parameters": 1_000_000, "scheme": "masks", "topology": "fold"},
        "rows": [row, {**row, "round": "no training"}],
        "steps": {"encrypt_seconds": 0.06, "add_seconds": 0.01, "decrypt_seconds": 0.02},
    }
    text = printed(large_model_table(section))
    assert "1,000,000 parameters: masks, fold, 3 hospitals, Ray" in text
    (line,) = (line for line in text.splitlines() if " train " in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == [
        *("train", "plain", "500 ms", "400 ms to 600 ms", "1.24", "120 ms"),
        *("250 ms", "1.44", "15"),
    ]
    assert "60.0 ms to encrypt (all hospitals)" in " ".join(text.split())


def test_hospitals_are_grouped() -> None:
    row = {
        **{"hospitals": 100, "topology": "chain", "median_seconds": 11.0, "lower_quartile": 10.5},
        **{"upper_quartile": 12.0, "rounds": 5, "hops": 101, "bytes": 2048, "engine": "ray"},
    }
    section = {
        "key_bits": 2048,
        "rows": [
            {**row, "segments": 1, "times_faster_than_chain": 1.0},
            {**row, "segments": "auto", "times_faster_than_chain": 8.26, "hops": 11},
        ],
    }
    lines = [line for line in printed(hospitals_table(section)).splitlines() if "chain" in line]
    assert "101" in lines[-2]
    assert " ray " in lines[-2]
    assert "chain, segments=auto" in lines[-1]
    assert "8.3" in lines[-1]


def test_capc_has_a_row_for_each_batch() -> None:
    row = {
        "queries": 1,
        "hops": 12,
        "argmax_seconds": 0.25,
        "vote_seconds": 0.5,
        "relu_seconds": 2e-3,
    }
    rows = [{**row, "steps_seconds": 3.0, "bytes": 5_000}] * 2
    table = capc_table({"classes": 10, "answering_parties": 3, "key_bits": 2048, "rows": rows})
    cells = [list(column.cells) for column in table.columns]
    assert cells == [[text] * 2 for text in ("1", "12", "0.250", "0.500", "0.0020", "3.0", "5,000")]
