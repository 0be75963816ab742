from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from rich.console import Console, RenderableType

from fl_he.metrics_file import INFERENCE, check_metrics, run_folders
from fl_he.privacy_table import privacy_table
from fl_he.report import (
    MetricsError,
    coefficient_table,
    comparison_table,
    cost_table,
    load_metrics,
    write_plot,
    write_run,
)

FIGURES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")


def make_metrics(hospitals: int = 3, rounds: int = 4) -> dict[str, Any]:
    def model(seed: int) -> dict[str, Any]:
        return {
            "examples": 100 + seed,
            **{name: (seed + index + 1) / 100 for index, name in enumerate(FIGURES)},
        }

    parameters = {"coefficients": [0.5, -1.25], "intercept": 0.125}
    return {
        "version": 1,
        "fl_he": "0.1.0",
        "config": {"data": {"name": "breast_cancer"}, "hospitals": hospitals, "topology": "fold"},
        "local": [{"hospital": f"hospital-{n}", **model(n)} for n in range(1, hospitals + 1)],
        "federated": {**model(80), **parameters},
        "pooled": {**model(90), **parameters},
        "rounds": [
            {
                "round": n,
                "loss": 0.7 / n,
                "accuracy": 1 - 0.5 / n,
                "test_loss": 0.8 / n,
                "test_accuracy": 1 - 0.6 / n,
                "contributors": hospitals,
                "seconds": 0.5,
                "bytes_sent": 1000 * n,
                "encrypt_seconds": 0.01 * n,
                "add_seconds": 0.001 * n,
                "decrypt_seconds": 0.02 * n,
            }
            for n in range(1, rounds + 1)
        ],
        "crypto": {
            "key_bits": 2048,
            "key_fingerprint": "0123456789abcdef" * 4,
            "slots_per_ciphertext": 35,
            "ciphertexts_per_update": 1,
            "bytes_per_update": 537,
        },
        "start_seconds": 3.25,
        "seconds": 12.5,
    }


def make_private() -> dict[str, Any]:
    """Metrics of a run with differential privacy."""
    metrics = make_metrics()
    for entry in metrics["rounds"]:
        entry.update(loss=None, accuracy=None)
    return metrics | {
        "privacy": {
            "mechanism": "noise",
            "epsilon": 1.25,
            "epsilon_towards_a_hospital": 1.5,
            "epsilon_of_one_update": 2.75,
            "delta": 1e-5,
            "neighbours": "one row is replaced by any other",
            "clip": 0.5,
            "rounds": 4,
            "contributors_counted": 3,
            "noise_per_hospital": 7.25,
            "noise_per_round": 12.5574,
            "not_covered": ["patients with several rows", "[bold]other[/] uses"],
            "without": dict.fromkeys(FIGURES, 0.875),
        }
    }


def make_deployed() -> dict[str, Any]:
    """Metrics of a deployment: nobody there holds test data."""
    metrics = make_metrics()
    metrics["local"], metrics["pooled"] = [], None
    metrics["federated"].update(dict.fromkeys(FIGURES))
    for entry in metrics["rounds"]:
        entry.update(test_loss=None, test_accuracy=None)
    return metrics


def text(table: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def row(lines: list[str], start: str) -> list[str]:
    (line,) = [line for line in lines if line.strip("│ ").startswith(start)]
    return [cell.strip() for cell in line.strip("│ ").split("│")][1:]


def test_written_files_are_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "run"
    write_run(folder, make_metrics(), '{"version": 1}\n')
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.png",
        "metrics.json",
        "model.json",
    ]
    assert load_metrics(folder) == make_metrics()
    assert (folder / "model.json").read_text() == '{"version": 1}\n'
    assert imread(folder / "comparison.png").shape == (720, 1500, 4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_not_finite_are_written_as_null(tmp_path: Path, value: float) -> None:
    metrics = make_metrics()
    metrics["local"][1]["roc_auc"] = value
    metrics["federated"]["coefficients"] = (np.float64(0.1), -2.0)
    write_run(tmp_path, metrics, "{}")
    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written["local"][1]["roc_auc"] is None
    assert written["federated"]["coefficients"] == [0.1, -2.0]
    assert load_metrics(tmp_path) == written


def test_broken_metrics_leave_the_earlier_run_alone(tmp_path: Path) -> None:
    write_run(tmp_path, make_metrics(), "{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = make_metrics()
    del broken["rounds"][2]["add_seconds"]
    with pytest.raises(MetricsError, match=r"rounds\[2\].add_seconds must be a number"):
        write_run(tmp_path, broken, '{"other": true}')
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"must hold metrics.json, got .* without one$"):
        load_metrics(tmp_path)


def test_what_is_no_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run" / "metrics.json").mkdir(parents=True)
    for name, message in (
        ("file", r"a run folder must be a folder, got .*/file, a file$"),
        ("nowhere", r"a run folder must be a folder, got .*/nowhere, which does not exist$"),
        ("file/x", r"a run folder must be a folder, got .*/file/x, which does not exist$"),
        ("run", r"/run/metrics.json must be a file that can be read, got another$"),
    ):
        with pytest.raises(MetricsError, match=message):
            load_metrics(tmp_path / name)


def test_the_folder_of_a_sweep_stands_for_its_runs(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        (tmp_path / "sweep" / str(number)).mkdir(parents=True)
        (tmp_path / "sweep" / str(number) / "metrics.json").touch()
    (tmp_path / "sweep" / "1").mkdir()
    sweep = tmp_path / "sweep"
    assert run_folders(sweep) == [sweep / "0", sweep / "2", sweep / "10"]
    assert run_folders(sweep / "2") == [sweep / "2"]
    for other in (tmp_path / "nowhere", sweep / "1", sweep / "2" / "metrics.json"):
        assert run_folders(other) == [other]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"version": NaN}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"version": 2}',
    ],
)
def test_files_that_are_not_metrics_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(MetricsError, match=r"metrics.json must follow the contract"):
        load_metrics(tmp_path)


def test_a_constant_is_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, make_metrics(), "{}")
    path = tmp_path / "metrics.json"
    path.write_text(path.read_text().replace("12.5", "Infinity"))
    with pytest.raises(MetricsError, match="numbers must be finite or null, got Infinity"):
        load_metrics(tmp_path)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of everything in nested containers."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[str | int, ...]] = []
    for key, inner in children:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*path, key))
    return found


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    metrics = make_metrics(hospitals=1, rounds=1)
    inner: Any = metrics
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return metrics


ALL_PLACES = places(make_metrics(hospitals=1, rounds=1))


@pytest.mark.parametrize("path", ALL_PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_value_of_another_type_is_refused_by_place(path: tuple[str | int, ...]) -> None:
    names = [part for part in path if isinstance(part, str)]
    with pytest.raises(MetricsError, match=rf"{names[-1]}.* must be "):
        check_metrics(changed(path, True))


@pytest.mark.parametrize("path", ALL_PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_value_is_refused(path: tuple[str | int, ...]) -> None:
    metrics = make_metrics(hospitals=1, rounds=1)
    inner: Any = metrics
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    if path == ("start_seconds",) or (isinstance(path[-1], int) and path[0] != "rounds"):
        check_metrics(metrics)  # optional, and a list may be shorter
        return
    with pytest.raises(MetricsError, match="must "):
        check_metrics(metrics)


PRIVATE_PLACES = [("privacy", *path) for path in places(make_private()["privacy"])]


def changed_privacy(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    metrics = inner = make_private()
    for key in path[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[path[-1]] = value  # type: ignore[index]
    return metrics


@pytest.mark.parametrize("path", PRIVATE_PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_promise_of_another_type_is_refused_by_place(path: tuple[str | int, ...]) -> None:
    check_metrics(make_private())
    names = [part for part in path if isinstance(part, str)]
    with pytest.raises(MetricsError, match=rf"{names[-1]}.* must be "):
        check_metrics(changed_privacy(path, True))


@pytest.mark.parametrize("key", make_private()["privacy"])
def test_a_promise_is_whole(key: str) -> None:
    metrics = make_private()
    del metrics["privacy"][key]
    with pytest.raises(MetricsError, match=rf"privacy.{key} must be "):
        check_metrics(metrics)


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


@pytest.mark.parametrize("value", [1e300, -1e300, 10**400, math.inf, math.nan, "0.5", [], {}])
def test_only_numbers_of_a_sane_size_are_figures(value: object) -> None:
    with pytest.raises(MetricsError, match=r"federated.accuracy must be "):
        check_metrics(changed(("federated", "accuracy"), value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(path=st.sampled_from(ALL_PLACES), value=JSON)
def test_what_passes_the_check_can_be_shown(path: tuple[str | int, ...], value: Any) -> None:
    metrics = changed(path, value)
    try:
        check_metrics(metrics)
    except MetricsError:
        return
    text(comparison_table(metrics))
    text(cost_table(metrics))


def test_comparison_table() -> None:
    lines = text(comparison_table(make_metrics()))
    assert "breast_cancer, 3 hospitals, fold, 4 rounds" in lines[0]
    assert row(lines, "hospital-2 alone") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert row(lines, "hospitals alone, mean") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert row(lines, "federated (encrypted)") == ["180", "0.810", "0.820", "0.830", "0.840"]
    assert row(lines, "pooled (scikit-learn)") == ["190", "0.910", "0.920", "0.930", "0.940"]


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


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """Collect every figure that is saved."""
    saved: list[matplotlib.figure.Figure] = []
    savefig = matplotlib.figure.Figure.savefig

    def spy(figure: matplotlib.figure.Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    return saved


@pytest.mark.parametrize("rounds", [1, 4, 200])
def test_plot(tmp_path: Path, figures: list[matplotlib.figure.Figure], rounds: int) -> None:
    write_plot(tmp_path, make_metrics(rounds=rounds))
    (figure,) = figures
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == (
        "Accuracy on the test set",
        "Log loss on the test set",
    )
    numbers = np.arange(1, rounds + 1)
    expected = ((left, 1 - 0.6 / numbers, 0.03, 0.91), (right, 0.8 / numbers, 0.06, 0.94))
    for axes, curve, local, pooled in expected:
        federated, *levels = axes.get_lines()
        np.testing.assert_array_equal(federated.get_xdata(), numbers)
        np.testing.assert_allclose(np.asarray(federated.get_ydata()), curve)
        np.testing.assert_allclose(
            [np.asarray(line.get_ydata())[0] for line in levels], [local, pooled]
        )
        assert len({str(line.get_color()) for line in axes.get_lines()}) == 3
        assert len({line.get_linestyle() for line in axes.get_lines()}) == 3
        low, high = axes.get_xlim()
        assert low < 1 <= rounds < high
        assert all(tick == round(tick) for tick in axes.get_xticks())
        assert axes.get_xlabel() == "round"
    (legend,) = figure.legends
    assert [entry.get_text() for entry in legend.get_texts()] == [
        "federated (encrypted)",
        "hospitals alone, mean",
        "pooled (scikit-learn)",
    ]


def test_nothing_in_the_plot_overlaps(
    tmp_path: Path, figures: list[matplotlib.figure.Figure]
) -> None:
    write_plot(tmp_path, make_metrics())
    (figure,) = figures
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes.append(figure.legends[0].get_window_extent())
    for index, box in enumerate(boxes):
        assert box is not None
        assert not any(box.overlaps(other) for other in boxes[:index] if other is not None)


def test_plot_without_a_test_set(tmp_path: Path, figures: list[matplotlib.figure.Figure]) -> None:
    write_plot(tmp_path, make_deployed())
    left, right = figures[0].axes
    assert left.get_title() == "Accuracy on the hospitals' data"
    for axes, curve in (
        (left, [0.5, 0.75, 1 - 0.5 / 3, 0.875]),
        (right, [0.7, 0.35, 0.7 / 3, 0.175]),
    ):
        (line,) = axes.get_lines()
        np.testing.assert_allclose(np.asarray(line.get_ydata()), curve)


def test_a_plot_bridges_unknown_rounds(
    tmp_path: Path, figures: list[matplotlib.figure.Figure]
) -> None:
    metrics = copy.deepcopy(make_metrics())
    metrics["rounds"][1]["test_loss"] = None
    write_plot(tmp_path, metrics)
    drawn = np.asarray(figures[0].axes[1].get_lines()[0].get_ydata())
    assert np.isnan(drawn).tolist() == [False, True, False, False]


def test_a_data_set_may_have_any_name(tmp_path: Path) -> None:
    metrics = make_metrics()
    metrics["config"]["data"]["name"] = "$\\frac$ [b] %s"
    write_plot(tmp_path, metrics)
    assert "$\\frac$ [b] %s" in "\n".join(text(comparison_table(metrics), width=120))


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
    metrics["inference"]["coefficients"] = [{"name": "size", **unknown}]
    assert coefficient_table(metrics) is None
    del metrics["inference"]["coefficients"][0]["z"]
    with pytest.raises(MetricsError, match=r"inference\.coefficients\[0\]\.z must be a number"):
        write_run(tmp_path, metrics, "{}")
