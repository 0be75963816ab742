"""Forest plots: estimates of coefficients with their intervals, a row for each feature."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fl_he.report.blocks import Block, Chart, Charts, Key, Note
from fl_he.report.figures import count, short
from fl_he.report.page.charts import COLOURS, INK, new_axes, svg_of
from fl_he.report.tables.coefficients import INTERCEPT, ratio_key, ratio_name
from fl_he.run_files.convergence import listed
from fl_he.run_files.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Features and contrasts that are drawn; of more, the tables have all.
_ROWS, _CONTRASTS = 40, 3
#: Letters of a name in a plot.
_LETTERS = 24
#: Ends of an axis of ratios; intervals that reach beyond end in an arrow.
_LEAST, _MOST = 1e-3, 1e3
_WALD, _PROFILE = 1, 2
_KINDS = {_WALD: "Wald interval", _PROFILE: "profile likelihood interval"}


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of a forest plot: a feature, its estimate, and the interval of a kind around it."""

    name: str
    middle: float
    lower: float
    upper: float
    kind: int


def forest(metrics: Metrics) -> Iterator[Block]:
    """Yield the plots of a model's coefficients; nothing where no interval is known.

    Ratios stand on a logarithmic axis, for one unit more and for one standard deviation more of
    each feature; coefficients of means on a linear one. The intercept is no comparison, and is left
    out.
    """
    inference = metrics["inference"]
    contrasts = dict[str | None, list[Mapping[str, Any]]]()
    for row in inference["coefficients"]:
        if row["name"] != INTERCEPT:
            contrasts.setdefault(row["class"], []).append(row)
    charts, missing = list[Chart](), dict[str, None]()
    for contrast, rows in list(contrasts.items())[:_CONTRASTS]:
        of_contrast, left_out = _of_contrast(inference, contrast, rows[:_ROWS])
        charts += of_contrast
        missing |= dict.fromkeys(left_out)
    if not charts:
        return
    yield Charts(charts)
    if missing:
        yield Note(f"Not in the plots, as no interval is known: {listed([*missing])}.")
    if (features := max(map(len, contrasts.values()))) > _ROWS:
        yield Note(f"The plots have the first {_ROWS} of {count(features)} features.")
    if len(contrasts) > _CONTRASTS:
        yield Note(f"The first {_CONTRASTS} of {count(len(contrasts))} contrasts are drawn.")


def compared_forests(runs: Mapping[str, Metrics]) -> Iterator[Block]:
    """Yield the plots of several runs' coefficients, a colour for each run: see `forest`.

    Parameters
    ----------
    runs
        By what they are called, at most as many as there are colours. They are in the same plots if
        outcome, ratio and level are the same.
    """
    inferences = {name: run["inference"] for name, run in runs.items()}
    first = next(iter(inferences.values()))
    kinds = {
        (ratio_key(one), one.get("outcome"), one["reference"], one["level"])
        for one in inferences.values()
    }
    if len(kinds) > 1:
        yield Note(
            "The runs' own reports have their forest plots, as outcomes, ratios or levels differ."
        )
        return
    contrasts = dict[str | None, dict[str, None]]()
    for inference in inferences.values():
        for row in inference["coefficients"]:
            if row["name"] != INTERCEPT:
                contrasts.setdefault(row["class"], {})[row["name"]] = None
    steps = min(map(_steps, inferences.values()), key=len)
    most, charts = _ROWS // len(runs), list[Chart]()
    for contrast, features in list(contrasts.items())[:_CONTRASTS]:
        for step, figure in steps.items():
            found = _of_runs(inferences, figure, contrast, [*features][:most])
            if found:
                title, legend = _title(first, contrast, step), dict(enumerate(runs, start=1))
                charts.append(_chart(title, _name(first), found, legend, ratios=bool(figure)))
    if not charts:
        return
    yield Charts(charts)
    yield Note("A run without an interval of a feature has none in the plots.")
    if (longest := max(map(len, contrasts.values()), default=0)) > most:
        yield Note(f"The plots have the first {most} of {count(longest)} features.")
    if len(contrasts) > _CONTRASTS:
        yield Note(f"The first {_CONTRASTS} of {count(len(contrasts))} contrasts are drawn.")


def _of_runs(
    inferences: Mapping[str, Mapping[str, Any]],
    figure: str,
    contrast: str | None,
    features: Sequence[str],
) -> list[Interval]:
    """Return the intervals of each feature, run by run, whose kind is the number of the run."""
    found = list[Interval]()
    for kind, inference in enumerate(inferences.values(), start=1):
        rows = [row for row in inference["coefficients"] if row["class"] == contrast]
        own = intervals(rows, figure, _profiles(inference))
        found += [replace(one, kind=kind) for one in own]
    return sorted(
        (one for one in found if one.name in features), key=lambda one: features.index(one.name)
    )


def _name(inference: Mapping[str, Any]) -> str:
    return ratio_name(inference) or "coefficient"


def _steps(inference: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of figures for each step of a feature."""
    key = ratio_key(inference)
    # Profile likelihood intervals are known for one unit alone.
    several = key and not _profiles(inference)
    return {"one unit": key, "one SD": f"{key}_sd"} if several else {"one unit": key}


def _title(inference: Mapping[str, Any], contrast: str | None, step: str) -> str:
    """Return the title of the plot of a contrast."""
    said = f"{_name(inference)} for {step} more of the feature, {inference['level']:.0%} intervals"
    if contrast is None:
        return f"{said[:1].upper()}{said[1:]}"
    return f"{contrast} against {inference['reference']}: {said}"


def _of_contrast(
    inference: Mapping[str, Any], contrast: str | None, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Chart], list[str]]:
    """Return the plots of one contrast, and the features that are not in them."""
    charts, drawn, profiles = list[Chart](), set[str](), _profiles(inference)
    for step, figure in _steps(inference).items():
        found = intervals(rows, figure, profiles)
        if found:
            drawn |= {one.name for one in found}
            title = _title(inference, contrast, step)
            charts.append(_chart(title, _name(inference), found, _KINDS, ratios=bool(figure)))
    return charts, [row["name"] for row in rows if row["name"] not in drawn]


def _profiles(inference: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the profile likelihood intervals that have both ends, by feature."""
    profile = inference.get("profile") or {"intervals": ()}
    return {
        row["name"]: row
        for row in profile["intervals"]
        if None not in (row["odds_ratio_lower"], row["odds_ratio_upper"])
    }


def intervals(
    rows: Sequence[Mapping[str, Any]], figure: str, profiles: Mapping[str, Mapping[str, Any]]
) -> list[Interval]:
    """Return the rows of a plot.

    Parameters
    ----------
    rows : sequence of mapping
        Of ``inference.coefficients`` in metrics.json.
    figure : str
        Name of the ratio, ``odds_ratio_sd`` for instance; empty for the coefficient.
    profiles : mapping
        Rows of ``inference.profile`` by feature; their intervals replace Wald's.

    Returns
    -------
    list of Interval
        Of rows with an estimate and both ends of an interval.
    """
    middle = figure or "estimate"
    ends = (f"{figure}_lower", f"{figure}_upper") if figure else ("lower", "upper")
    found = []
    for row in rows:
        bounds = profiles.get(row["name"], row)
        lower, upper = (bounds[end] for end in ends)
        if None not in (row[middle], lower, upper):
            kind = _PROFILE if row["name"] in profiles else _WALD
            found.append(Interval(row["name"], row[middle], lower, upper, kind))
    return found


def _chart(
    title: str, name: str, rows: Sequence[Interval], kinds: Mapping[int, str], *, ratios: bool
) -> Chart:
    """Draw intervals, those of the same feature below each other; ``kinds``: words for them."""
    features = {name: place for place, name in enumerate(dict.fromkeys(row.name for row in rows))}
    lines = max(Counter(row.name for row in rows).values())
    shown = sorted(kinds) if lines > 1 else sorted({row.kind for row in rows})
    figure, axes = new_axes(
        f"{name} (logarithmic axis)" if ratios else name,
        (4.6, 1.0 + (0.27 + 0.13 * (lines - 1)) * len(features)),
    )
    if ratios:
        axes.set_xscale("log")
    low, high = _ends(rows, ratios=ratios)
    axes.axvline(1.0 if ratios else 0.0, color=INK, linewidth=1.0, linestyle="--")
    for row in rows:
        colour, place = COLOURS[row.kind - 1], float(features[row.name])
        if lines > 1:
            place += 0.7 * ((row.kind - 0.5) / len(kinds) - 0.5)
        axes.plot(
            [max(row.lower, low), min(row.upper, high)], [place] * 2, color=colour, linewidth=1.8
        )
        for beyond, end, marker in ((row.lower < low, low, "<"), (row.upper > high, high, ">")):
            if beyond:
                axes.plot([end], [place], color=colour, marker=marker, clip_on=False)
        if low <= row.middle <= high:
            axes.plot([row.middle], [place], color=colour, marker="s", markersize=5.5)
    axes.set_xlim(low, high)
    _label(axes, ratios=ratios)
    axes.margins(x=0.0)
    axes.set_ylim(len(features) - 0.4, -0.6)
    axes.set_yticks(range(len(features)), [*map(_shortened, features)], parse_math=False)
    said = (
        f"{row.name}{f' of {kinds[row.kind]}' * (lines > 1)} {short(row.middle)} "
        f"({short(row.lower)} to {short(row.upper)})"
        for row in rows
    )
    legend = [Key(kinds[kind], kind) for kind in shown]
    return Chart(title, f"{title}: {'; '.join(said)}.", svg_of(figure, title), legend)


def _ends(rows: Sequence[Interval], *, ratios: bool) -> tuple[float, float]:
    """Return the ends of the axis: all intervals and the value of no effect, with a margin."""
    none = 1.0 if ratios else 0.0
    low = min(none, *(row.lower for row in rows))
    high = max(none, *(row.upper for row in rows))
    if not ratios:
        margin = 0.05 * (high - low) or 1.0
        return low - margin, high + margin
    low, high = math.log(max(low, _LEAST)), math.log(min(high, _MOST))
    margin = 0.05 * (high - low) or 0.1
    return math.exp(low - margin), math.exp(high + margin)


def _label(axes: Axes, *, ratios: bool) -> None:
    """Label a few places of the axis in plain numbers."""
    from matplotlib import ticker  # noqa: PLC0415 - lazy: slow to import

    low, high = axes.get_xlim()
    several = ratios and high / low > 20.0
    even = ticker.MaxNLocator(4, steps=[1, 2, 5, 10])
    powers = ticker.LogLocator(subs=(1.0,), numticks=7)
    axes.xaxis.set_major_locator(powers if several else even)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _shortened(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
