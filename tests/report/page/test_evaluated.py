from __future__ import annotations

import copy
from typing import Any

import pytest
from example_metrics import make_metrics
from example_pages import make_newton

from fl_he.report.blocks import Charts, Note, Section, Sheet
from fl_he.report.page.evaluated import evaluated


def section_of(metrics: dict[str, Any]) -> Section:
    found = evaluated(metrics)
    assert found is not None
    return found


def titles(metrics: dict[str, Any]) -> list[str]:
    """Return the titles of the plots."""
    blocks = section_of(metrics).blocks
    return [chart.title for one in blocks if isinstance(one, Charts) for chart in one.charts]


def sheets(metrics: dict[str, Any]) -> dict[str, Sheet]:
    """Return the tables by the first word of their captions."""
    blocks = section_of(metrics).blocks
    return {one.caption.split()[0]: one for one in blocks if isinstance(one, Sheet)}


CALIBRATION = "Calibration, with 95% intervals and counts"


@pytest.fixture
def metrics() -> dict[str, Any]:
    return copy.deepcopy(make_newton())


def test_two_classes_have_all_plots(metrics: dict[str, Any]) -> None:
    assert titles(metrics) == ["ROC curve", "Precision by recall", CALIBRATION, "Decision curve"]


def test_weighted_forecasts_have_no_decision_curve(metrics: dict[str, Any]) -> None:
    metrics["config"]["class_weight"] = "balanced"
    assert "Decision curve" not in titles(metrics)
    assert "ROC curve" in titles(metrics)


def test_more_classes_have_a_calibration_alone(metrics: dict[str, Any]) -> None:
    metrics |= {"family": "softmax", "classes": ["a", "b", "c"]}
    assert titles(metrics) == [CALIBRATION]
    assert "Thresholds" not in sheets(metrics)


def test_one_class_alone_has_no_roc_curve(metrics: dict[str, Any]) -> None:
    for one in metrics["evaluation"]["calibration"]:
        one["observed"] = 0.0
    assert titles(metrics) == [CALIBRATION]


def test_a_table_that_is_withheld_leaves_its_reason_and_no_plot(metrics: dict[str, Any]) -> None:
    metrics["evaluation"] |= {"calibration": None, "withheld": {"calibration": "too few"}}
    assert titles(metrics) == []
    notes = [one.text for one in section_of(metrics).blocks if isinstance(one, Note)]
    assert "Company X withheld calibration: too few." in notes


@pytest.mark.parametrize("key", ["predicted", "observed"])
def test_a_figure_that_is_null_leaves_the_table_alone(metrics: dict[str, Any], key: str) -> None:
    metrics["evaluation"]["calibration"][0][key] = None
    assert titles(metrics) == []
    assert len(sheets(metrics)["Calibration"].rows) == 2


def test_a_run_of_an_earlier_release_has_the_usual_risks(metrics: dict[str, Any]) -> None:
    assert [row.cells[0] for row in sheets(metrics)["Thresholds"].rows] == [
        *("above 0.1", "above 0.2", "above 0.3", "above 0.5"),
    ]
    metrics["config"]["risks"] = []
    assert "Thresholds" not in sheets(metrics)


def test_a_run_without_an_evaluation_has_no_section() -> None:
    assert evaluated(make_metrics()) is None


def test_bins_without_a_border_at_a_risk_leave_the_decision_curve_out(
    metrics: dict[str, Any],
) -> None:
    one = metrics["evaluation"]["calibration"][0] | {"lower": 0.0, "upper": 1.0, "observed": 0.5}
    metrics["evaluation"]["calibration"] = [one | {"examples": 16}]
    assert titles(metrics) == ["ROC curve", "Precision by recall", CALIBRATION]
