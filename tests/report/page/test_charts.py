from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from fl_he.report.blocks import Chart
from fl_he.report.page.charts import bar_chart, line_chart, survival_chart
from fl_he.report.plots import Curve

pytestmark = pytest.mark.usefixtures("rendered")

XLINK = '<svg xmlns:xlink="http://www.w3.org/1999/xlink"'


def drawn(chart: Chart | None) -> ElementTree.Element:
    assert chart is not None
    return ElementTree.fromstring(chart.svg.replace("<svg", XLINK, 1))  # noqa: S314 - our own


def test_a_plot_has_the_colours_of_the_page_and_no_names() -> None:
    chart = line_chart(
        "Loss",
        [1, 2, 3],
        [Curve("<b>", [0.75, 0.5, 0.25], 1), Curve("&amp", [0.125], 2, level=True)],
    )
    root = drawn(chart)
    assert chart is not None
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", chart.svg)) == {
        *("--series-1", "--series-2", "--rule", "--muted"),
    }
    assert not re.search(r"#[0-9a-f]{6}", chart.svg), "a colour that is not the page's"
    assert "<b>" not in chart.svg
    assert "round" in [element.text for element in root.iter("text")]
    assert chart.alt == "Loss: <b> from 0.75 to 0.25; &amp 0.125."
    assert [(key.colour, key.broken) for key in chart.legend] == [(1, False), (2, True)]


def test_plots_of_one_page_do_not_share_names() -> None:
    curve = [Curve("a", [1.0, 2.0], 1)]
    names = [
        set(re.findall(r'id="([^"]+)"', chart.svg))
        for title in ("Loss", "Accuracy")
        if (chart := line_chart(title, [1, 2], curve)) is not None
    ]
    assert all(names)
    assert names[0].isdisjoint(names[1])


@pytest.mark.parametrize("values", [[], [None, None], [0.0, -1.0]])
def test_nothing_to_draw_is_no_plot(values: list[float | None]) -> None:
    assert line_chart("Norm", [1, 2], [Curve("a", values, 1)], logarithmic=True) is None


def test_unknown_and_short_series_are_drawn_as_far_as_they_go() -> None:
    drawn(line_chart("a", [1, 2, 3], [Curve("a", [0.5, None, 1.0], 1), Curve("b", [0.5], 8)]))
    drawn(bar_chart("b", [0, 1], [Curve("a", [0.5, None], 1)], axis="class"))


def test_survival_is_drawn_as_steps_from_1_at_0() -> None:
    chart = survival_chart("Survival", [12.0, 24.0], [Curve("F", [0.75, 0.25], 1)])
    root = drawn(chart)
    (line,) = [
        path.get("d", "") for path in root.iter("path") if "series-1" in path.get("style", "")
    ]
    points = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", line)]
    assert len(points) == 5, "two corners at each time"
    assert all((x == u) != (y == v) for (x, y), (u, v) in pairwise(points))


def test_the_logarithmic_scale_leaves_out_what_it_cannot_show() -> None:
    chart = line_chart("Norm", [1, 2, 3], [Curve("a", [1.0, 0.0, 0.01], 1)], logarithmic=True)
    assert chart is not None
    assert not math.isnan(len(chart.svg))
    assert "nan" not in chart.svg.lower()
