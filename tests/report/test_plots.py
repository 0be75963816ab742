from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from example_metrics import make_deployed, make_metrics, text
from matplotlib.image import imread

from fl_he.report.plots import fair_limits, write_plot
from fl_he.report.tables.comparison import comparison_table

pytestmark = pytest.mark.usefixtures("rendered")


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
    assert imread(tmp_path / "comparison.png").shape == (720, 1500, 4)


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


@pytest.mark.parametrize("make", [make_metrics, make_deployed])
def test_no_axis_is_zoomed_to_noise(
    tmp_path: Path, figures: list[matplotlib.figure.Figure], make: Callable[[], dict[str, Any]]
) -> None:
    metrics = make()
    for number, entry in enumerate(metrics["rounds"]):
        entry.update(accuracy=0.96 + number / 1e4, loss=0.55 - number / 1e4)
        if entry["test_loss"] is not None:
            entry.update(test_accuracy=0.96 + number / 1e4, test_loss=0.55 - number / 1e4)
    write_plot(tmp_path, metrics)
    accuracy, loss = figures[0].axes
    low, high = accuracy.get_ylim()
    assert low == 0.0
    assert 1.0 <= high < 1.1
    assert loss.get_ylim()[0] == 0.0
    assert loss.get_ylim()[1] > 0.56


@pytest.mark.parametrize("height", [0.0004, 0.4])
def test_an_axis_of_likelihoods_is_at_least_a_tenth_high(height: float) -> None:
    axes = matplotlib.figure.Figure().subplots()
    axes.plot([1.96, 1.96 + height])
    low, high = axes.get_ylim()
    fair_limits(axes, "Negative log likelihood by patient on the test set")
    lower, upper = axes.get_ylim()
    assert upper - lower == pytest.approx(max(0.1, high - low))
    assert lower + upper == pytest.approx(low + high)
