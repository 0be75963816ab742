from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from fl_he.report.tables.sweep import SweepRow, differences, different_test_sets, sweep_table


def metrics(accuracy: float | None, log_loss: float | None, seconds: float) -> dict[str, Any]:
    federated = {"accuracy": accuracy, "log_loss": log_loss}
    return {"config": {}, "federated": federated, "seconds": seconds}


ROWS = [
    SweepRow(("rounds=2", "hospitals=3", "topology=fold"), "0", metrics(0.9512, 0.1239, 12.34)),
    SweepRow(("rounds=2", "hospitals=10", "topology=[b]"), "1", None),
    SweepRow(("rounds=2", "hospitals=3", "topology=chain"), "2", metrics(None, None, 100.0)),
]


def cells(width: int) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(sweep_table(ROWS), crop=False)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_each_run_is_a_row_without_what_all_of_them_set() -> None:
    assert cells(100) == [
        ["hospitals=3 topology=fold", "0.951", "0.124", "12.3", "0"],
        ["hospitals=10 topology=[b]", "failed", "", "", "1"],
        ["hospitals=3 topology=chain", "n/a", "n/a", "100.0", "2"],
    ]


def test_a_narrow_terminal_cuts_nothing() -> None:
    for width in (40, 60):
        shown = [cell for line in cells(width) for cell in line]
        assert {"0.951", "0.124", "12.3", "failed", "100.0"} <= set(shown)
        assert "topology=chain" in "".join(line[0] for line in cells(width))


def test_runs_with_other_test_sets_are_not_ranked() -> None:
    def run(path: str, seed: int, **config: Any) -> dict[str, Any]:
        tested = metrics(0.9, 0.3, 1.0) | {"tested_on": 100}
        return tested | {"config": {"data": {"path": path}, "seed": seed, **config}}

    assert different_test_sets([]) == ""
    assert different_test_sets([run("a", 0, C=1.0), run("a", 0, C=0.1)]) == ""
    runs = [run("a", 0), run("b", 1), run("b", 1)]
    assert "the test sets differ by data.path and seed, so" in different_test_sets(runs)
    untested = run("b", 1) | metrics(None, None, 1.0)
    assert different_test_sets([run("a", 0), untested]) == ""
    grown = run("a", 0) | {"tested_on": 101}
    assert "differ by their sizes" in different_test_sets([run("a", 0), grown])
    rows = [SweepRow((f"n={n}",), str(n), one) for n, one in enumerate(runs)]
    shown = Console(file=io.StringIO(), width=200, color_system=None)
    shown.print(sweep_table(rows))
    assert isinstance(shown.file, io.StringIO)
    assert "No run is named the best" in shown.file.getvalue()


def test_runs_differ_in_the_keys_that_are_not_the_same_in_all() -> None:
    def config(name: str, C: float | None, folder: str, **more: Any) -> dict[str, Any]:
        return {
            "data": {"name": name, "drop": [], "source": name},
            "C": C,
            "output_dir": folder,
            **more,
        }

    assert differences([config("a", None, "0"), config("b", None, "1")]) == [
        ("data.name=a",),
        ("data.name=b",),
    ]
    assert differences([config("a", None, "0", verbose=True), config("a", 0.5, "1")]) == [
        ("C=null", "verbose=true"),
        ("C=0.5",),
    ]
    assert differences([config("a", None, "0")]) == [()]
    assert differences([]) == []


def test_numbers_and_times_have_their_own_figures() -> None:
    number = metrics(None, None, 2.0) | {"family": "poisson"}
    number["federated"] = {"mean_deviance": 1.019, "d2": 0.25}
    time = metrics(None, None, 3.0) | {"family": "cox", "federated": {"concordance": 0.75}}
    rows = [SweepRow((name,), name, one) for name, one in (("a", number), ("b", time))]
    shown = Console(file=io.StringIO(), width=100, color_system=None)
    shown.print(sweep_table(rows))
    assert isinstance(shown.file, io.StringIO)
    lines = shown.file.getvalue().splitlines()
    found = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert found == [
        ["a", "1.019", "0.250", "n/a", "2.0", "a"],
        ["b", "n/a", "n/a", "0.750", "3.0", "b"],
    ]
    assert "concordance" in shown.file.getvalue()


def test_times_of_different_test_sets_are_not_ranked() -> None:
    one = metrics(None, None, 1.0) | {"family": "cox", "federated": {"concordance": 0.75}}
    runs = [one | {"config": {"seed": seed}} for seed in (1, 2)]
    assert "the test sets differ by seed, so figures on them" in different_test_sets(runs)
