"""Plots for the page: SVG whose colours are the page's own, so that they are right in the dark too.

Matplotlib draws with placeholder colours, which are replaced by the style sheet's variables.
Names from elsewhere stand in a plot's legend, which the template escapes, or in its text, which
Matplotlib does; they are never read as its formulas.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING
from warnings import catch_warnings, filterwarnings

from fl_he.report.blocks import Chart, Key
from fl_he.report.figures import short
from fl_he.report.plots import Curve, draw_lines, fair_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Ends of an interval.
Band = tuple[float, float]
#: Series that can be told apart; further ones repeat the colours with broken lines.
SERIES = 6
INK, RULE = "#0a0b01", "#0a0b02"
COLOURS = [f"#0c0d0{number}" for number in range(1, SERIES + 1)]
_STYLE = {INK: "var(--muted)", RULE: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS, start=1)
}
_DASHES = ("-", "--", ":")
_SIZE = (4.6, 2.7)


def line_chart(
    title: str, places: Sequence[float], curves: Sequence[Curve], *, logarithmic: bool = False
) -> Chart | None:
    """Draw curves over the rounds.

    Parameters
    ----------
    title : str
    places : sequence of float
        Numbers of the rounds.
    curves : sequence of Curve
        Those with no known value are left out. One with fewer values than places ends early.
    logarithmic : bool
        Whether the scale is; values that are not above 0 are left out then.

    Returns
    -------
    Chart or None
        ``None`` if there is nothing to draw.
    """
    if logarithmic:
        curves = [replace(c, values=[v if v and v > 0 else None for v in c.values]) for c in curves]
    shown = _known(curves)
    if not shown or not places:
        return None
    figure, axes = new_axes("round")
    draw_lines(axes, places, shown, COLOURS, _DASHES)
    if logarithmic:
        axes.set_yscale("log")
    else:
        fair_limits(axes, title)
    return Chart(title, _alt(title, shown), svg_of(figure, title), _legend(shown))


def bar_chart(
    title: str, places: Sequence[float], curves: Sequence[Curve], axis: str = "round"
) -> Chart | None:
    """Draw bars side by side at each place; unknown values are left out. See `line_chart`."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - lazy: slow to import

    shown = _known(curves)
    if not shown or not places:
        return None
    figure, axes = new_axes(axis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    width = 0.8 / len(shown)
    for index, curve in enumerate(shown):
        shift = (index - (len(shown) - 1) / 2) * width
        axes.bar(
            [place + shift for place in places],
            [0.0 if value is None else value for value in curve.values],
            width=width * 0.92,
            color=COLOURS[(curve.series - 1) % SERIES],
        )
    return Chart(title, _alt(title, shown), svg_of(figure, title), _legend(shown))


def survival_chart(
    title: str,
    times: Sequence[float],
    curves: Sequence[Curve],
    bands: Mapping[str, Sequence[Band | None]] | None = None,
    *,
    axis: str = "time",
) -> Chart | None:
    """Draw shares that begin at 1 and change at each time; see `line_chart`.

    ``bands``: the intervals of a curve at each time, by its label. ``axis``: name of the time.
    """
    shown, bands = _known(curves), bands or {}
    if not shown or not times:
        return None
    figure, axes = new_axes(axis)
    for curve in shown:
        place = curve.series - 1
        if ends := bands.get(curve.label):
            low, high = zip(*(one or (math.nan, math.nan) for one in ends), strict=True)
            axes.fill_between(
                [0.0, *times],
                [1.0, *low],
                [1.0, *high],
                step="post",
                color=COLOURS[place % SERIES],
                alpha=0.15,
                linewidth=0.0,
            )
        axes.step(
            [0.0, *times],
            [1.0, *(math.nan if value is None else value for value in curve.values)],
            where="post",
            color=COLOURS[place % SERIES],
            linestyle=_DASHES[place // SERIES % len(_DASHES)],
        )
    axes.set_ylim(0.0, 1.0)
    alt = _alt(title, shown) + _of_bands(times, bands)
    return Chart(title, alt, svg_of(figure, title), _legend(shown))


def _of_bands(times: Sequence[float], bands: Mapping[str, Sequence[Band | None]]) -> str:
    """Say in words where each band is at the last time at which it is known."""
    said = []
    for label, ends in bands.items():
        known = [(time, one) for time, one in zip(times, ends, strict=True) if one is not None]
        if known:
            time, (low, high) = known[-1]
            said.append(f"{label} {short(low)} to {short(high)} at {time:g}")
    return f" Intervals: {'; '.join(said)}." if said else ""


def _known(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if any(value is not None for value in curve.values)]


def new_axes(axis: str, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches, and its empty axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - lazy: slow, and the tables need none

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(axis, color=INK)
    axes.tick_params(colors=INK, which="both", length=0)
    axes.grid(visible=True, axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    return figure, axes


def svg_of(figure: Figure, title: str) -> str:
    """Return a figure as markup; the title tells its names from those of the page's others."""
    from matplotlib import rc_context  # noqa: PLC0415 - lazy: slow to import

    text = StringIO()
    # The salt keeps the names that plots refer to by apart.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), catch_warnings():
        filterwarnings("ignore", "Glyph")  # of Matplotlib's font: the browser draws the texts
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    _, _, body = text.getvalue().partition("<svg")
    _, _, inner = body.partition(">")
    width, height = (72 * inches for inches in figure.get_size_inches())
    inner = re.sub(r"<(metadata|style)\b.*?</\1>", "", inner, flags=re.DOTALL)
    # What nothing refers to would be there twice, once in each plot of the page.
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", inner))
    names = {name for pair in used for name in pair if name}
    inner = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in names else "", inner)
    inner = re.sub(r"font-family: [^;\"]*; ", "", inner)
    for placeholder, variable in _STYLE.items():
        inner = inner.replace(placeholder, variable)
    return f'<svg viewBox="0 0 {width:g} {height:g}" aria-hidden="true">{inner}'


def _legend(curves: Sequence[Curve]) -> list[Key]:
    return [Key(c.label, (c.series - 1) % SERIES + 1, c.series > SERIES or c.level) for c in curves]


def _alt(title: str, curves: Sequence[Curve]) -> str:
    parts = []
    for curve in curves:
        values = [value for value in curve.values if value is not None]
        if len(values) == 1:
            parts.append(f"{curve.label} {short(values[0])}")
        else:
            parts.append(f"{curve.label} from {short(values[0])} to {short(values[-1])}")
    return f"{title}: {'; '.join(parts)}."
