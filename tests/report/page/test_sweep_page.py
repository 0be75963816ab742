"""The plots of a comparison of runs, compared with figures of the rows themselves."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from example_metrics import make_metrics
from example_pages import make_newton

from fl_he.learning.regression.disclosure import figures
from fl_he.learning.regression.evaluation import count
from fl_he.learning.tables.data import Dataset
from fl_he.report.blocks import Chart, Charts, Note, Section, Sheet
from fl_he.report.page.sweep_page import sweep_page
from fl_he.report.tables.sweep import SweepRow
from fl_he.run_files.metrics_contract import COEFFICIENT

RNG = np.random.default_rng(7)
X = RNG.normal(0.0, 2.0, (400, 2))
Y = (RNG.random(400) < 1 / (1 + np.exp(-X[:, 0] + 0.5 * X[:, 1]))).astype(float)
MODELS = {"C=1.0": np.array([1.0, -0.5, 0.1]), "C=0.1": np.array([0.4, 0.1, -0.3])}
POINT = re.compile(
    r"(C=[\d.]+): above (\S+) sensitivity (\S+), 1 - specificity ([^\s;]+?)\.?(?:;|$)"
)
BIN = r"{}: predicted (\S+), observed (\S+) of (\d+)"


def evaluated(theta: np.ndarray, labels: np.ndarray = Y) -> dict[str, Any]:
    """Return metrics of a run whose bins are those of a model on the rows."""
    found = figures(count(Dataset(X, labels, ("a", "b")), theta), 5)
    metrics = copy.deepcopy(make_newton())
    metrics["evaluation"] |= {
        "calibration": [asdict(one) for one in found.calibration or ()],
        "examples": found.examples,
    }
    return metrics


def sections(runs: dict[str, dict[str, Any]]) -> dict[str, Section]:
    rows = [SweepRow((name,), name, metrics) for name, metrics in runs.items()]
    return {one.title: one for one in sweep_page(rows, [""] * len(rows)).sections}


def charts(section: Section) -> dict[str, Chart]:
    drawn = [one for one in section.blocks if isinstance(one, Charts)]
    return {chart.title: chart for one in drawn for chart in one.charts}


def notes(section: Section) -> list[str]:
    return [one.text for one in section.blocks if isinstance(one, Note)]


def test_roc_and_calibration_of_each_run_are_those_of_the_rows() -> None:
    found = charts(sections({n: evaluated(t) for n, t in MODELS.items()})["Encrypted evaluation"])
    assert [*found] == [
        *("ROC curve", "Precision by recall", "Calibration, with 95% intervals", "Decision curve"),
    ]
    risks = {n: 1 / (1 + np.exp(-(X @ t[:2] + t[2]))) for n, t in MODELS.items()}
    points = POINT.findall(found["ROC curve"].alt)
    assert {name for name, *_ in points} == {*MODELS}
    assert len(points) > 20
    for name, above, sensitivity, others in points:
        flagged = risks[name] > float(above)
        # The alternative has three digits of a border, near which few rows are.
        assert float(sensitivity) == pytest.approx(flagged[Y == 1].mean(), abs=0.02)
        assert float(others) == pytest.approx(flagged[Y == 0].mean(), abs=0.02)
    labels = [key.label for key in found["ROC curve"].legend]
    assert labels == ["C=1.0", "C=0.1", "chance"]
    assert [key.colour for key in found["ROC curve"].legend] == [1, 2, 0]
    said = found["Calibration, with 95% intervals"].alt
    for name, risk in risks.items():
        bins, start, order = re.findall(BIN.format(name), said), 0, np.argsort(risk)
        for predicted, observed, rows in bins:
            own = order[start : start + int(rows)]
            assert float(observed) == pytest.approx(Y[own].mean(), abs=6e-4)
            assert float(predicted) == pytest.approx(risk[own].mean(), abs=0.05)
            start += int(rows)
        assert start == 400
        assert len(bins) >= 5


def test_runs_of_other_patients_have_no_decision_curve() -> None:
    first, second = MODELS.values()
    runs = {"seed=1": evaluated(first), "seed=2": evaluated(second, 1 - Y)}
    assert "Decision curve" not in charts(sections(runs)["Encrypted evaluation"])
    runs["seed=2"] = evaluated(second)
    runs["seed=2"]["config"]["class_weight"] = "balanced"
    section = sections(runs)["Encrypted evaluation"]
    assert "seed=2" not in charts(section)["Decision curve"].alt
    assert any("Predictions of seed=2 are no shares of patients" in one for one in notes(section))


def test_a_run_of_an_earlier_release_has_no_plots() -> None:
    earlier = evaluated(MODELS["C=1.0"])
    del earlier["evaluation"]["calibration"]
    section = sections({"old": earlier, "new": evaluated(MODELS["C=0.1"])})["Encrypted evaluation"]
    assert [key.label for key in charts(section)["ROC curve"].legend] == ["new", "chance"]


def test_only_as_many_runs_as_there_are_colours_are_drawn() -> None:
    runs = {f"C={n}": evaluated(MODELS["C=1.0"]) for n in range(8)}
    section = sections(runs)["Encrypted evaluation"]
    assert "C=5: above" in charts(section)["ROC curve"].alt
    assert "C=6: above" not in charts(section)["ROC curve"].alt
    last = "The first 6 of 8 runs are drawn; each run's own report has its plots."
    assert notes(section)[-1] == last


def test_runs_with_the_same_settings_are_told_apart_by_their_folders() -> None:
    one, other = (evaluated(theta) for theta in MODELS.values())
    rows = [SweepRow(("C=1.0",), "0", one), SweepRow(("C=1.0",), "1", other)]
    rows.append(SweepRow(("C=2.0",), "2", one))
    page = {one.title: one for one in sweep_page(rows, [""] * 3).sections}
    legend = charts(page["Encrypted evaluation"])["ROC curve"].legend
    assert [key.label for key in legend[:3]] == ["C=1.0 (0)", "C=1.0 (1)", "C=2.0"]


def estimated(**ratios: float) -> dict[str, Any]:
    metrics = copy.deepcopy(make_newton())
    rows = []
    for name, middle in ratios.items():
        of = {"odds_ratio": middle, "odds_ratio_lower": middle / 2, "odds_ratio_upper": middle * 2}
        sd = {key.replace("ratio", "ratio_sd"): value for key, value in of.items()}
        rows.append({"name": name, "class": None, "left_out": None, **dict.fromkeys(COEFFICIENT)})
        rows[-1] |= of | sd
    metrics["inference"] |= {"coefficients": rows, "profile": None}
    return metrics


def test_ratios_of_all_runs_are_in_the_same_forest_plots() -> None:
    runs = {"C=1.0": estimated(age=2.0, crp=0.5), "C=0.1": estimated(age=1.5)}
    section = sections(runs)["Coefficients"]
    unit, deviation = charts(section).values()
    assert unit.title == "Odds ratio for one unit more of the feature, 95% intervals"
    assert deviation.title == "Odds ratio for one SD more of the feature, 95% intervals"
    assert unit.alt.partition(": ")[2] == (
        "age of C=1.0 2 (1 to 4); age of C=0.1 1.5 (0.75 to 3); crp of C=1.0 0.5 (0.25 to 1)."
    )
    assert [(key.label, key.colour) for key in unit.legend] == [("C=1.0", 1), ("C=0.1", 2)]
    runs["C=0.1"]["inference"]["outcome"] = "another"
    section = sections(runs)["Coefficients"]
    assert charts(section) == {}
    assert notes(section) == [
        "The runs' own reports have their forest plots, as outcomes, ratios or levels differ."
    ]


def test_each_run_has_its_headlines_in_the_table() -> None:
    number = make_metrics() | {"family": "poisson"}
    number["federated"] = dict.fromkeys(number["federated"]) | {"mean_deviance": 1.019, "d2": 0.25}
    time = make_metrics() | {"family": "cox"}
    time["federated"] = dict.fromkeys(time["federated"]) | {"concordance": 0.75}
    runs = {"a": make_metrics(), "b": number, "c": time}
    section = sections(runs)["Comparison"]
    (sheet,) = (one for one in section.blocks if isinstance(one, Sheet))
    names = [
        f"{name} on the test set"
        for name in (*("accuracy", "ROC AUC", "log loss", "mean deviance", "D2", "concordance"),)
    ]
    assert sheet.columns[1:7] == tuple(names)
    assert [row.cells[1:7] for row in sheet.rows] == [
        ("0.810", "0.830", "0.840", "n/a", "n/a", "n/a"),
        ("n/a", "n/a", "n/a", "1.019", "0.250", "n/a"),
        ("n/a", "n/a", "n/a", "n/a", "n/a", "0.750"),
    ]
