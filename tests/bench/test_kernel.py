from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from fl_he.bench.fresh import BenchError
from fl_he.bench.kernel import (
    FULL,
    QUICK,
    ROWS,
    KernelPlan,
    KernelRow,
    measure,
    with_ratios,
)
from fl_he.bench.schemes import UnitRun
from fl_he.bench.timing import Effort
from fl_he.crypto.paillier.threads import available_cores

TINY = KernelPlan(
    key_bits=(1024,),
    lengths=(5, 40),
    long_lengths=(60,),
    effort=Effort(least=1, most=1, enough=0.0, limit=1.0),
    limit=0.0,
    sample=8,
    long_vector=50,
)


@pytest.fixture(scope="module")
def section() -> dict[str, Any]:
    return measure(TINY, lambda *_: None)


def with_figures(section: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows without those of packages that are not installed."""
    missing = {row["scheme"] for row in section["rows"] if not row["runs"]}
    packages = {"heu": ["heu"], "tenseal": ["ckks", "bfv"]}
    absent = [name for name in packages if find_spec(name) is None]
    assert missing == {scheme for name in absent for scheme in packages[name]}
    return [row for row in section["rows"] if row["runs"]]


@pytest.mark.slow
def test_every_scheme_meets_every_length(section: dict[str, Any]) -> None:
    cores = sorted({1, available_cores()})
    ours = itertools.product(["fl-he"], ["warm", "cold"], cores)
    fast = [(scheme, "warm", 1) for scheme in ("masks", "masks, tags", "ckks", "bfv")]
    others = [("fl-he, tags", "warm", cores[-1]), ("fl-he, djn", "warm", 1)]
    expected = [("phe", "warm", 1), ("heu", "warm", cores[-1]), *ours, *others, *fast]
    rows = section["rows"]
    assert [(row["length"], row["scheme"], row["state"], row["cores"]) for row in rows] == [
        *((length, *who) for length in (5, 40) for who in expected),
        *((60, *who) for who in fast),
    ]
    assert section["updates"] == 3
    assert section["long_vector"]["length"] == 50


@pytest.mark.slow
def test_errors_are_those_of_the_scheme(section: dict[str, Any]) -> None:
    limits = {"phe": (0.0, 1e-15), "ckks": (1e-12, 1e-5)}
    fixed = ("heu", "fl-he", "fl-he, tags", "fl-he, djn", "masks", "masks, tags", "bfv")
    limits |= dict.fromkeys(fixed, (1e-12, 1.5 * 2**-24))
    for row in with_figures(section):
        low, high = limits[row["scheme"]]
        assert low <= row["largest_error"] <= high, row


@pytest.mark.slow
def test_phe_and_heu_are_scaled_where_they_were_sampled(section: dict[str, Any]) -> None:
    for scheme in ("phe", "heu"):
        rows = [row for row in with_figures(section) if row["scheme"] == scheme]
        assert len(rows) == 2 or find_spec(scheme) is None
        for row, timed, scaled in zip(rows, (5, 8), (False, True), strict=bool(rows)):
            assert (row["timed_values"], row["scaled"]) == (timed, scaled)
            # HEU has half as many ciphertexts, of 256 bytes each, and headers.
            values = row["length"] if scheme == "phe" else (row["length"] + 1) // 2
            assert values * 256 <= row["bytes"] <= values * 300
            assert scheme == "heu" or row["bytes"] == values * 256
    others = [row for row in with_figures(section) if row["scheme"] not in ("phe", "heu")]
    assert all(row["timed_values"] == row["length"] and not row["scaled"] for row in others)


@pytest.mark.slow
def test_ratios_are_of_the_totals(section: dict[str, Any]) -> None:
    for length in (5, 40):
        rows = [row for row in with_figures(section) if row["length"] == length]
        for scheme in ("phe", "ckks"):
            totals = [row["total_seconds"] for row in rows if row["scheme"] == scheme]
            for row in rows:
                expected = totals[0] / row["total_seconds"] if totals else None
                assert row[f"times_faster_than_{scheme}"] == expected


@pytest.mark.slow
def test_cpu_time_is_of_warm_rows(section: dict[str, Any]) -> None:
    for row in with_figures(section):
        assert (row["cpu_seconds"] is not None) == (row["state"] == "warm")
    names = {"phe": "phe", "djn": "fl-he, djn", "ckks": "ckks"}
    for length, (short, scheme) in itertools.product((5, 40, 60), names.items()):
        rows = [row for row in with_figures(section) if row["length"] == length]
        (other,) = [row["cpu_seconds"] for row in rows if row["scheme"] == scheme] or [None]
        for row in rows:
            own = row["cpu_seconds"]
            assert row[f"times_less_cpu_than_{short}"] == (other / own if other and own else None)


@pytest.mark.slow
def test_only_cold_rows_start_processes(section: dict[str, Any]) -> None:
    for row in section["rows"]:
        assert (row["start_seconds"] is not None) == (row["state"] == "cold")


@pytest.mark.slow
def test_tables_are_reported(section: dict[str, Any]) -> None:
    first, djn, second, _ = section["tables"]
    assert [table["key_kind"] for table in section["tables"]] == ["short", "djn"] * 2
    assert djn["window"] > 1
    assert len(section["tickets"]) == 2, "none for lengths without Paillier"
    assert first["window"] > 1
    assert first["build_seconds"] > 0
    assert (second["window"], second["build_seconds"]) == (first["window"], 0.0)


def test_without_packages_their_rows_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tenseal", "heu"):
        monkeypatch.setitem(sys.modules, name, None)  # makes an import fail
    monkeypatch.setattr("fl_he.bench.kernel.available_cores", lambda: 1)
    plan = replace(TINY, lengths=(3,), long_lengths=(), long_vector=None)
    section = measure(plan, lambda *_: None)
    notes = {row["scheme"]: row["note"] for row in section["rows"] if row["note"]}
    install = "not installed: pip install fl-he[bench]"
    assert notes == {
        "heu": f"{install}, with Python 3.11 on Linux (x86-64) or macOS (ARM)",
        "ckks": install,
        "bfv": install,
    }
    for row in section["rows"]:
        missing = row["scheme"] in notes
        assert (row["total_seconds"] is None) == (row["times_faster_than_phe"] is None) == missing
        assert row["times_faster_than_ckks"] is None
    assert section["long_vector"] is None


@pytest.mark.parametrize(("absent", "rows"), [("heu", ["heu"]), ("tenseal", ["ckks", "bfv"])])
def test_one_package_does_without_the_other(
    monkeypatch: pytest.MonkeyPatch, absent: str, rows: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    plan = replace(TINY, lengths=(3,)).only(["masks", "heu", "ckks", "bfv"])
    section = measure(plan, lambda *_: None)
    missing = {row["scheme"] for row in section["rows"] if row["note"]}
    assert missing >= set(rows)
    present = [name for name in ("heu", "tenseal") if name != absent and find_spec(name)]
    assert len(missing) == len(rows) or not present


def test_chosen_rows_leave_out_the_rest() -> None:
    section = measure(TINY.only(["masks", "phe"]), lambda *_: None)
    assert [(row["length"], row["scheme"]) for row in section["rows"]] == [
        *((length, name) for length in (5, 40) for name in ("phe", "masks", "masks, tags")),
        *((60, name) for name in ("masks", "masks, tags")),
    ]
    assert (section["tables"], section["tickets"], section["long_vector"]) == ([], [], None)


def test_rows_without_a_modulus_need_one_key() -> None:
    assert FULL.only(["masks", "ckks", "bfv"]).key_bits == (2048,)
    for name in ("phe", "heu", "fl-he"):
        assert FULL.only(["masks", name]).key_bits == (2048, 3072)
    assert FULL.only(["fl-he"]).long_vector == FULL.long_vector
    assert FULL.only(ROWS) == FULL
    with pytest.raises(BenchError, match=r"a row must be one of phe, .*, got tags"):
        FULL.only(["masks", "tags"])


def test_a_row_is_the_median_of_its_runs_scaled() -> None:
    updates = [np.arange(6.0), np.arange(6.0), np.arange(6.0)]
    runs = [
        UnitRun(e, 2 * e, 3 * e, bytes=10, result=np.array([0.0, 3.0 + e]), cpu=4 * e)
        for e in (0.1, 0.5, 0.3)
    ]
    row = KernelRow(2048, 6, "phe", "warm", 1).filled(runs, updates)
    # Two of six values were timed. A unit is 3e + 2*2e + 3e = 10e.
    assert row.encrypt_seconds == pytest.approx(0.9)
    assert row.add_seconds == pytest.approx(1.8)
    assert row.decrypt_seconds == pytest.approx(2.7)
    assert row.total_seconds == pytest.approx(9.0)
    assert row.cpu_seconds == pytest.approx(3.6)
    assert (row.lower_quartile, row.upper_quartile) == pytest.approx((6.0, 12.0))
    assert (row.bytes, row.timed_values, row.scaled, row.runs) == (30, 2, True, 3)
    assert row.largest_error == pytest.approx(0.5)
    assert row.start_seconds is None


def test_ratios_need_both_sides() -> None:
    rows = [
        replace(KernelRow(2048, 6, "phe", "warm", 1), total_seconds=8.0),
        replace(KernelRow(2048, 6, "fl-he", "warm", 1), total_seconds=2.0),
        replace(KernelRow(2048, 6, "fl-he", "cold", 1), total_seconds=16.0),
        KernelRow(2048, 6, "ckks", "warm", 1, note="not installed"),
    ]
    assert [row.times_faster_than_phe for row in with_ratios(rows)] == [1.0, 4.0, 0.5, None]
    assert [row.times_faster_than_ckks for row in with_ratios(rows)] == [None] * 4


def test_quick_selects_less() -> None:
    assert set(QUICK.key_bits) < set(FULL.key_bits)
    assert set(QUICK.lengths) < set(FULL.lengths)
    assert QUICK.long_vector is None
    assert FULL.long_vector == 1_000_000
    assert QUICK.effort.limit < FULL.effort.limit
    assert FULL.lengths == (31, 1_000, 10_000, 100_000)
    assert FULL.long_lengths == (1_000_000,)
    assert QUICK.long_lengths == ()
    assert FULL.key_bits == (2048, 3072)
