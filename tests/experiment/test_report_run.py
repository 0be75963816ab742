"""Plots of a run's report against scikit-learn and statsmodels on the pooled rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from experiments import experiment
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from outcomes import outcome_tables, write_outcomes
from patients import patients, write_csv
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve
from statsmodels.stats.proportion import proportion_confint

from fl_he import simulation
from fl_he.experiment.data import simulated_data
from fl_he.learning.regression.registry import load_model
from fl_he.report.blocks import Note, Section, Sheet
from fl_he.report.page.evaluated import evaluated
from fl_he.report.page.forest import forest

RISKS = (0.2, 0.3, 0.5, 0.05)


@dataclass(frozen=True)
class Run:
    """A run's metrics, and its training and test rows with the model's forecasts."""

    metrics: dict[str, Any]
    train: pd.DataFrame
    died: NDArray[np.int_]
    labels: NDArray[np.int_]
    forecasts: NDArray[np.float64]

    @property
    def edges(self) -> NDArray[np.float64]:
        return np.array([one["upper"] for one in self.metrics["evaluation"]["calibration"]])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    files = [folder / f"site{number}.csv" for number in (1, 2, 3)]
    for number, file in enumerate(files):
        write_csv(file, patients((600, 400, 200)[number], 0.2, number))
    config = experiment(
        *("data=csv", f"data.path=[{','.join(map(str, files))}]", "data.target=died"),
        *("data.positive=yes", "experiment=inference", "test_size=0.3", "evaluate=true"),
        *("simulation.engine=local", f"risks=[{','.join(map(str, RISKS))}]"),
        folder=folder / "run",
    )
    metrics = simulation.run(config, folder / "run")
    data = simulated_data(config)
    forecasts = load_model(folder / "run" / "model.json").expected(data.test.features)
    train = pd.DataFrame(data.train.features, columns=list(data.train.feature_names))
    labels = data.train.labels.astype(int), data.test.labels.astype(int)
    return Run(metrics, train, *labels, forecasts)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect every figure that is saved."""
    saved, save = list[Figure](), Figure.savefig

    def spy(figure: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def section_of(metrics: dict[str, Any]) -> Section:
    found = evaluated(metrics)
    assert found is not None
    return found


def axes_of(figures: list[Figure], label: str) -> Axes:
    (found,) = [one.axes[0] for one in figures if one.axes[0].get_xlabel() == label]
    return found


def points(line: Line2D) -> NDArray[np.float64]:
    return np.array([line.get_xdata(), line.get_ydata()], dtype=np.float64)


def test_the_roc_curve_is_scikit_learns_at_the_borders(run: Run, figures: list[Figure]) -> None:
    section_of(run.metrics)
    _, line = axes_of(figures, "1 - specificity").get_lines()
    binned = np.searchsorted(run.edges, run.forecasts)
    wrong, right, _ = roc_curve(run.labels, binned, drop_intermediate=False)
    np.testing.assert_allclose(points(line)[:, ::-1], [wrong, right], atol=1e-12)
    assert len(run.edges) > 5
    assert line.get_marker() == "o"


def test_precision_and_recall_are_scikit_learns_at_the_borders(
    run: Run, figures: list[Figure]
) -> None:
    section_of(run.metrics)
    prevalence, line = axes_of(figures, "recall (sensitivity)").get_lines()
    binned = np.searchsorted(run.edges, run.forecasts)
    precision, recall, _ = precision_recall_curve(run.labels, binned)
    # The last point of scikit-learn's has no threshold.
    np.testing.assert_allclose(points(line), [recall[:-1], precision[:-1]], atol=1e-12)
    assert points(prevalence)[1, 0] == pytest.approx(run.labels.mean())
    assert line.get_linestyle() == "None", "precision is not linear between two points"


def test_the_calibration_is_that_of_the_pooled_forecasts(run: Run, figures: list[Figure]) -> None:
    section_of(run.metrics)
    axes = axes_of(figures, "mean predicted probability")
    _, *lines = axes.get_lines()
    place = np.searchsorted(run.edges, run.forecasts)
    counts, lower = np.bincount(place), 0.0
    for number, (interval, mark) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        own = run.labels[place == number]
        (forecast,), (observed,) = points(mark)
        assert observed == pytest.approx(own.mean())
        assert forecast == pytest.approx(
            run.forecasts[place == number].mean(),
            abs=1.25 * 5 * (run.edges[number] - lower) / len(own) + 1e-6,
        )
        lower = run.edges[number]
        ends = proportion_confint(own.sum(), len(own), method="wilson")
        np.testing.assert_allclose(points(interval)[1], ends, atol=1e-9)
    (below,) = axes.child_axes
    heights = [np.asarray(path.vertices)[1, 1] for path in below.collections[0].get_paths()]
    assert heights == counts.tolist()
    assert len(lines) == 2 * len(counts)


def test_the_decision_curve_is_the_net_benefit_of_the_pooled_forecasts(
    run: Run, figures: list[Figure]
) -> None:
    section_of(run.metrics)
    everybody, nobody, line = axes_of(figures, "risk from which patients are treated").get_lines()
    risks, benefits = points(line)
    np.testing.assert_allclose(risks, run.edges[(run.edges >= 0.01) & (run.edges <= 0.9)])
    assert line.get_linestyle() == "None", "net benefit is not linear between two points"
    for risk, benefit in zip(risks, benefits, strict=True):
        ((_, false), (_, true)) = confusion_matrix(run.labels, run.forecasts > risk)
        expected = true / len(run.labels) - false / len(run.labels) * risk / (1 - risk)
        assert benefit == pytest.approx(expected)
    share = run.labels.mean()
    odds = points(everybody)[0] / (1 - points(everybody)[0])
    np.testing.assert_allclose(points(everybody)[1], share - (1 - share) * odds)
    assert set(points(nobody)[1]) == {0.0}


def test_thresholds_are_those_of_the_pooled_forecasts(run: Run) -> None:
    blocks = section_of(run.metrics).blocks
    (sheet,) = [
        one for one in blocks if isinstance(one, Sheet) and one.caption.startswith("Thresholds")
    ]
    assert sheet.columns[2:] == ("sensitivity", "specificity", "PPV", "NPV")
    *shown, withheld = sheet.rows
    for risk, found in zip(RISKS, shown, strict=False):
        ((negative, false), (missed, true)) = confusion_matrix(run.labels, run.forecasts > risk)
        parts = [(true, true + missed), (negative, negative + false)]
        parts += [(true, true + false), (negative, negative + missed)]
        cells = []
        for part, whole in parts:
            low, high = proportion_confint(part, whole, method="wilson")
            cells.append(f"{part / whole:.3f} ({low:.3f} to {high:.3f})")
        flagged = f"{true + false} ({(true + false) / len(run.labels):.1%})"
        assert found.cells == (f"above {risk:g}", flagged, *cells)
    assert withheld.cells == ("above 0.05", "withheld")
    notes = [one.text for one in blocks if isinstance(one, Note)]
    assert any(text.startswith("Withheld at 0.05: no bin ends there") for text in notes)


def test_ratios_are_those_of_statsmodels(run: Run, figures: list[Figure]) -> None:
    list(forest(run.metrics))
    fitted = sm.Logit(run.died, sm.add_constant(run.train)).fit(disp=False, tol=1e-12)
    spread = run.train.std(ddof=0)
    for figure, scale in zip(figures, (1.0, spread), strict=True):
        (axes,) = figure.axes
        _, *lines = axes.get_lines()
        for name, interval, mark in zip(run.train, lines[::2], lines[1::2], strict=True):
            step = scale if isinstance(scale, float) else scale[name]
            ends = np.exp(step * fitted.conf_int().loc[name])
            np.testing.assert_allclose(points(interval)[0], ends, rtol=1e-4)
            np.testing.assert_allclose(
                points(mark)[0], np.exp(step * fitted.params[name]), rtol=1e-4
            )


def test_outcomes_that_are_numbers_have_expected_and_observed_means(
    tmp_path: Path, figures: list[Figure]
) -> None:
    files = write_outcomes(tmp_path, outcome_tables(1, (500, 300, 100)), "poisson")
    config = experiment(
        *("data=csv", files, f"data.schema={tmp_path}/schema.yaml", "C=null", "rounds=20"),
        *("optimizer=newton", "test_size=0.25", "evaluate=true", "simulation.engine=local"),
        folder=tmp_path / "run",
    )
    metrics = simulation.run(config, tmp_path / "run")
    figures.clear()
    section_of(metrics)
    axes = axes_of(figures, "mean expected outcome")
    _, line = axes.get_lines()
    test = simulated_data(config).test
    expected = load_model(tmp_path / "run" / "model.json").expected(test.features)
    bins = metrics["evaluation"]["calibration"]
    order = np.argsort(expected, kind="stable")
    starts = np.cumsum([0, *(one["examples"] for one in bins)])
    for number, (x, y) in enumerate(points(line).T):
        own = order[starts[number] : starts[number + 1]]
        half_a_grain = 8 * points(line).max() / len(own)
        assert x == pytest.approx(expected[own].mean(), abs=half_a_grain)
        assert y == pytest.approx(test.labels[own].mean(), abs=half_a_grain)
    assert len(bins) > 3
