from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_metrics import FIGURES, make_deployed, make_metrics, make_private, row, text
from rich.console import RenderableType

from fl_he.report.files import write_run
from fl_he.report.tables.coefficients import coefficient_table
from fl_he.report.tables.comparison import comparison_table
from fl_he.report.tables.cost import cost_table
from fl_he.report.tables.privacy import privacy_table
from fl_he.run_files.metrics_contract import INFERENCE, MetricsError, check_metrics


def test_comparison_table() -> None:
    lines = text(comparison_table(make_metrics()))
    assert "breast_cancer, 3 hospitals, fold, 4 rounds" in lines[0]
    assert row(lines, "hospital-2 alone") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert row(lines, "hospitals alone, mean") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert row(lines, "federated (encrypted)") == ["180", "0.810", "0.820", "0.830", "0.840"]
    assert row(lines, "pooled (scikit-learn)") == ["190", "0.910", "0.920", "0.930", "0.940"]


def test_a_table_of_ones_own_is_called_by_its_file() -> None:
    metrics = make_metrics()
    metrics["config"]["data"] = {"name": "csv", "path": "/home/me/patients.csv"}
    assert "test set: patients.csv, 3 hospitals" in text(comparison_table(metrics))[0]


def test_the_mean_skips_figures_that_are_unknown() -> None:
    metrics = make_metrics()
    metrics["local"][0]["roc_auc"] = None
    lines = text(comparison_table(metrics))
    assert row(lines, "hospital-1 alone")[3] == "n/a"
    assert row(lines, "hospitals alone, mean")[3] == f"{np.mean([0.05, 0.06]):.3f}"


@pytest.mark.parametrize(("hospitals", "alone"), [(12, 12), (13, 12), (50, 12)])
def test_many_hospitals_are_counted(hospitals: int, alone: int) -> None:
    lines = text(comparison_table(make_metrics(hospitals)))
    assert sum(" alone " in line and "hospital-" in line for line in lines) == alone
    others = [line for line in lines if " more" in line]
    assert len(others) == (hospitals > alone)
    assert all(f"... {hospitals - alone} more " in line for line in others)
    mean = np.mean([n + 1 for n in range(1, hospitals + 1)]) / 100
    assert row(lines, "hospitals alone, mean")[1] == f"{mean:.3f}"


def test_names_are_shown_as_they_are() -> None:
    metrics = make_metrics()
    metrics["local"][0]["hospital"] = "[red]St. Mary[/red]"
    assert row(text(comparison_table(metrics), width=120), "[red]St. Mary[/red] alone")


def test_tables_of_a_deployment() -> None:
    lines = text(comparison_table(make_deployed()))
    assert row(lines, "federated (encrypted)") == ["180", "n/a", "n/a", "n/a", "n/a"]
    assert not any("alone" in line or "pooled" in line for line in lines)
    assert row(text(cost_table(make_deployed())), "bytes sent") == ["2,500", "10,000"]


@pytest.mark.parametrize("width", [60, 120])
def test_the_table_says_where_the_penalties_differ(width: int) -> None:
    metrics = make_metrics()
    metrics["pooled"]["C"] = 1.0
    shown = " ".join(" ".join(text(comparison_table(metrics), width=width)).split())
    assert "Hospitals alone and pooled have scikit-learn's default, C=1" in shown
    metrics["pooled"]["C"] = None
    shown = " ".join(" ".join(text(comparison_table(metrics), width=width)).split())
    assert "Hospitals alone have scikit-learn's default, C=1" in shown
    metrics["config"]["C"] = 1.0
    assert "penalty" not in " ".join(text(comparison_table(metrics), width=width))


def test_a_run_without_a_test_set_is_called_untested() -> None:
    assert "On the held-out test set: breast_cancer" in text(comparison_table(make_metrics()))[0]
    assert "Trained, not tested: " in text(comparison_table(make_deployed()))[0]


def test_cost_table() -> None:
    lines = text(cost_table(make_metrics()))
    assert row(lines, "seconds to encrypt") == ["0.0250", "0.1000"]
    assert row(lines, "seconds to add") == ["0.0025", "0.0100"]
    assert row(lines, "seconds to decrypt") == ["0.0500", "0.2000"]
    assert row(lines, "bytes sent") == ["2,500", "10,000"]
    assert row(lines, "seconds in rounds") == ["0.5000", "2.0000"]
    assert row(lines, "seconds to start up") == ["", "3.2500"]
    assert row(lines, "seconds to compare and save") == ["", "7.2500"]
    assert row(lines, "seconds in all") == ["", "12.5000"]
    caption = " ".join(" ".join(lines[-2:]).split())
    assert caption == (
        "one update: 1 ciphertext, 537 bytes 35 slots in each, 2048-bit key 0123456789ab"
    )


def test_the_cost_of_a_run_whose_start_was_not_measured() -> None:
    metrics = make_metrics()
    del metrics["start_seconds"]
    check_metrics(metrics)
    lines = text(cost_table(metrics))
    assert row(lines, "seconds before and after") == ["", "10.5000"]
    metrics["rounds"][0]["seconds"] = None
    assert row(text(cost_table(metrics)), "seconds in rounds") == ["0.5000", "1.5000"]


@pytest.mark.parametrize("width", [20, 40, 60, 73, 74, 80, 120])
def test_no_figure_is_ever_cut(width: int) -> None:
    metrics = make_metrics(hospitals=30)
    metrics["local"][0]["hospital"] = "Saint-Bartholomew-of-the-Northern-Valley"
    metrics["local"][1]["examples"] = 12_345_678
    metrics["rounds"][0]["bytes_sent"] = 123_456_789_012
    models = [*metrics["local"][:12], metrics["federated"], metrics["pooled"]]
    shown = text(comparison_table(metrics), width)
    words = " ".join(shown).replace("│", " ").split()
    for model in models:
        assert f"{model['examples']:,}" in words
        assert all(f"{model[name]:.3f}" in words for name in FIGURES)
    cost = " ".join(text(cost_table(metrics), width)).split()
    assert {"123,456,798,012", "0.1000", "12.5000", "0.0250"} <= set(cost)
    assert not any("…" in line for line in shown)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(width: int) -> None:
    for table in (comparison_table(make_metrics()), cost_table(make_metrics())):
        assert max(map(len, text(table, width))) <= width
    assert "hospitals alone, mean" in "\n".join(text(comparison_table(make_metrics()), width))


def test_short_headings_are_explained() -> None:
    narrow, wide = ("\n".join(text(comparison_table(make_metrics()), n)) for n in (60, 80))
    assert "n: examples, bal. acc.: balanced accuracy" in narrow
    assert "bal." not in wide
    assert "examples" in wide


@pytest.mark.parametrize("key", ["without", "epsilon_towards_a_hospital"])
def test_a_promise_may_lack_what_nobody_knows(key: str) -> None:
    metrics = make_private()
    metrics["privacy"][key] = None
    check_metrics(metrics)
    shown = "\n".join([*text(comparison_table(metrics)), *text(_privacy_table(metrics))])
    assert ("no promise" in shown) == (key == "epsilon_towards_a_hospital")
    assert ("the same without privacy" in shown) == (key != "without")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_promise_is_shown_whole(width: int) -> None:
    lines = text(_privacy_table(make_private()), width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).replace("│", " ").split())
    for part in ("1.25", "1e-05", "1.5:", "2.75,", "0.5", "12.56", "7.25", "[bold]other[/]"):
        assert part in words
    rows = text(comparison_table(make_private()), 200)
    assert row(rows, "federated (encrypted, epsilon 1.25)")[1] == "0.810"
    assert row(rows, "the same without privacy") == ["180", *["0.875"] * 4]


def _privacy_table(metrics: dict[str, Any]) -> RenderableType:
    table = privacy_table(metrics)
    assert table is not None
    return table


def counted() -> dict[str, Any]:
    metrics = make_metrics()
    figures = {"accuracy": 0.875, "balanced_accuracy": 0.75, "roc_auc": None, "log_loss": 0.5}
    metrics["evaluation"] = {
        **figures,
        "examples": 16,
        "hospitals": 3,
        "calibration_error": 0.125,
        "confusion": [[6, 2], [0, 8]],
        "calibration": [],
    }
    return metrics


def test_encrypted_counts_are_a_row_of_the_comparison(tmp_path: Path) -> None:
    lines = text(comparison_table(counted()), width=100)
    assert row(lines, "its encrypted test counts") == ["16", "0.875", "0.750", "n/a", "0.500"]
    metrics = counted()
    del metrics["evaluation"]["calibration_error"]
    with pytest.raises(MetricsError, match=r"evaluation\.calibration_error must be a number"):
        write_run(tmp_path, metrics, "{}")


def test_coefficients_are_listed_where_standard_errors_are_known(tmp_path: Path) -> None:
    known = dict.fromkeys(INFERENCE, 0.25)
    unknown = {**dict.fromkeys(INFERENCE), "estimate": 1.5, "odds_ratio": 4.48}
    metrics = make_metrics()
    metrics["inference"] = {
        "level": 0.95,
        "penalised": True,
        "coefficients": [{"name": "[age]", **known}, {"name": "size", **unknown}],
    }
    table = coefficient_table(metrics)
    assert table is not None
    lines = text(table)
    assert any("penalised" in line for line in lines)
    shown = {words[0]: words[1:] for line in lines if (words := line.split())}
    assert shown["[age]"] == ["0.25", "0.25", "0.25", "0.25", "0.25,", "0.25"]
    assert shown["size"] == ["1.5", "n/a", "n/a", "4.48"]
    assert not any("converged" in line for line in lines)
    metrics["rounds"][-1]["converged"] = False
    table = coefficient_table(metrics)
    assert table is not None
    assert any("training ended before it converged" in line for line in text(table))
    metrics["inference"]["coefficients"] = [{"name": "size", **unknown}]
    assert coefficient_table(metrics) is None
    del metrics["inference"]["coefficients"][0]["z"]
    with pytest.raises(MetricsError, match=r"inference\.coefficients\[0\]\.z must be a number"):
        write_run(tmp_path, metrics, "{}")
    del metrics["inference"]["level"]
    with pytest.raises(MetricsError, match=r"inference\.level must be a number, got nothing"):
        write_run(tmp_path, metrics, "{}")
