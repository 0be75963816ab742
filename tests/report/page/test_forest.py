from __future__ import annotations

import copy
import re
from typing import Any
from warnings import catch_warnings

import numpy as np
import pytest
from example_pages import HOSTILE, make_newton
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fl_he.report.blocks import Chart, Charts, Note
from fl_he.report.page.forest import forest, intervals
from fl_he.run_files.metrics_contract import COEFFICIENT

pytestmark = pytest.mark.usefixtures("rendered")


def row(
    name: str, middle: float | None, lower: float | None, upper: float | None
) -> dict[str, Any]:
    ends = ("", "_lower", "_upper")
    values = dict(zip((f"odds_ratio{end}" for end in ends), (middle, lower, upper), strict=True))
    sd = {name.replace("ratio", "ratio_sd"): value for name, value in values.items()}
    plain = {"name": name, "class": None, "left_out": None, **dict.fromkeys(COEFFICIENT)}
    return plain | values | sd


def metrics_of(*rows: dict[str, Any], **inference: Any) -> dict[str, Any]:
    metrics = copy.deepcopy(make_newton())
    metrics["inference"] |= {"coefficients": [*rows], "profile": None} | inference
    return metrics


def drawn(metrics: dict[str, Any]) -> tuple[list[Chart], list[str]]:
    """Return the plots, and the notes below them."""
    blocks = list(forest(metrics))
    charts = [chart for one in blocks if isinstance(one, Charts) for chart in one.charts]
    return charts, [one.text for one in blocks if isinstance(one, Note)]


def xs(line: Line2D) -> list[float]:
    found: list[float] = np.asarray(line.get_xdata()).tolist()
    return found


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, rendered: None) -> list[Figure]:
    """Collect every figure that is saved."""
    saved, save = list[Figure](), Figure.savefig

    def spy(figure: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def test_intervals_stand_on_a_logarithmic_axis_about_1(figures: list[Figure]) -> None:
    charts, notes = drawn(
        metrics_of(
            row("age", 1.5, 1.25, 1.8), row("male", 0.5, 0.25, 1.0), row("(intercept)", 9, 8, 10)
        )
    )
    assert [chart.title for chart in charts] == [
        "Odds ratio for one unit more of the feature, 95% intervals",
        "Odds ratio for one SD more of the feature, 95% intervals",
    ]
    assert charts[0].alt.endswith("age 1.5 (1.25 to 1.8); male 0.5 (0.25 to 1).")
    assert notes == []
    (axes,) = figures[0].axes
    assert axes.get_xscale() == "log"
    none, *lines = axes.get_lines()
    assert xs(none) == [1.0, 1.0]
    assert [xs(line) for line in lines] == [[1.25, 1.8], [1.5], [0.25, 1.0], [0.5]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["age", "male"]
    bottom, top = axes.get_ylim()
    assert top < 0.0 < bottom, "the first feature is above"


def test_coefficients_of_means_stand_on_a_linear_axis_about_0(figures: list[Figure]) -> None:
    plain = row("age", None, None, None) | {"estimate": -0.5, "lower": -1.0, "upper": 0.25}
    ((chart,), _) = drawn(metrics_of(plain, ratio=None))
    assert chart.title == "Coefficient for one unit more of the feature, 95% intervals"
    (axes,) = figures[0].axes
    assert axes.get_xscale() == "linear"
    none, line, _ = axes.get_lines()
    assert xs(none) == [0.0, 0.0]
    assert xs(line) == [-1.0, 0.25]


def test_features_without_an_interval_are_named() -> None:
    found = metrics_of(
        row("age", 1.5, 1.25, 1.8), row("fixed", None, None, None), row("wide", 2, 1, None)
    )
    charts, notes = drawn(found)
    assert len(charts) == 2
    assert notes == ["Not in the plots, as no interval is known: fixed and wide."]


def test_an_interval_beyond_the_axis_ends_in_an_arrow(figures: list[Figure]) -> None:
    drawn(metrics_of(row("age", 5.0, 1e-9, 1e12)))
    (axes,) = figures[0].axes
    low, high = axes.get_xlim()
    assert low == pytest.approx(1e-3, rel=0.6)
    assert high == pytest.approx(1e3, rel=1.1)
    _, line, *marks = axes.get_lines()
    assert xs(line) == pytest.approx([low, high])
    assert [mark.get_marker() for mark in marks] == ["<", ">", "s"]
    assert [x for mark in marks for x in xs(mark)] == pytest.approx([low, high, 5.0])


def test_profile_intervals_replace_walds() -> None:
    bounds = {"name": "age", "odds_ratio_lower": 1.1, "odds_ratio_upper": 2.2}
    profile = {"intervals": [bounds, bounds | {"name": "male", "odds_ratio_upper": None}]}
    rows = (row("age", 1.5, 1.25, 1.8), row("male", 0.5, 0.25, 1.0))
    ((chart,), _) = drawn(metrics_of(*rows, profile=profile))
    assert chart.alt.endswith("age 1.5 (1.1 to 2.2); male 0.5 (0.25 to 1).")
    assert [key.label for key in chart.legend] == ["Wald interval", "profile likelihood interval"]


def test_each_contrast_has_plots() -> None:
    rows = [row("age", 1.5, 1.25, 1.8) | {"class": name} for name in ("ill", "dead")]
    charts, _ = drawn(metrics_of(*rows, reference="well"))
    assert [chart.title.partition(":")[0] for chart in charts[::2]] == [
        "ill against well",
        "dead against well",
    ]


def test_of_many_features_the_first_are_drawn() -> None:
    charts, notes = drawn(metrics_of(*(row(f"x{n}", 1.5, 1.25, 1.8) for n in range(50))))
    assert "x39 " in charts[0].alt
    assert "x40 " not in charts[0].alt
    assert notes == ["The plots have the first 40 of 50 features."]


def test_no_interval_is_no_plot() -> None:
    assert drawn(metrics_of(row("age", 1.5, None, None))) == ([], [])


def test_a_name_is_neither_markup_nor_a_formula() -> None:
    charts, _ = drawn(
        metrics_of(row(HOSTILE, 1.5, 1.25, 1.8), row("$\\frac$ \n <b>", 1.5, 1.25, 1.8))
    )
    assert not re.search(r"<(script|b)\b", charts[0].svg)
    assert "&lt;script&gt;" in charts[0].svg
    assert "$\\frac$ &lt;b&gt;" in charts[0].svg


def test_a_letter_that_the_font_of_matplotlib_lacks_is_no_warning() -> None:
    with catch_warnings(action="error"):
        charts, _ = drawn(metrics_of(row("\u5e74\u9f62", 1.5, 1.25, 1.8)))
    assert "\u5e74\u9f62</text>" in charts[0].svg


def test_rows_keep_their_order() -> None:
    rows = [row("b", 1.5, 1.25, 1.8), row("a", 1.5, 1.25, 1.8)]
    assert [one.name for one in intervals(rows, "odds_ratio", {})] == ["b", "a"]
