"""Plots of held-out examples, of one run or of several in the same plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fl_he.config.groups import RISKS
from fl_he.report.blocks import Chart, Key
from fl_he.report.figures import count, short
from fl_he.report.page.charts import COLOURS, INK, new_axes, svg_of
from fl_he.report.thresholds import Threshold, net_benefit, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: A run's bins, as ``evaluation.calibration`` of metrics.json has them.
Bins = Sequence[Mapping[str, Any]]
_T = TypeVar("_T")
_Line = dict[str, Any]
_SQUARE, _TALL = (4.6, 3.8), (4.6, 4.4)
_COUNTS = Key("examples in a bin", 2)
_WITHIN = (-0.02, 1.02)
_ALL, _NOBODY = 2, 3


def roc(runs: Mapping[str, Sequence[Threshold]]) -> Chart:
    """Draw ROC curves.

    Parameters
    ----------
    runs
        Counts at the borders of bins, by what a run is called: at most as many as there are
        colours.
    """
    title, said = "ROC curve", list[str]()
    figure, axes = new_axes("1 - specificity", _SQUARE)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle="--")
    for start, line, found in _each(runs):
        pairs = [(1.0 - (one.specificity or 0.0), one.sensitivity or 0.0) for one in found]
        axes.plot(*zip(*pairs, strict=True), marker="o", **line(1.5, 3.5))
        said += [
            f"{start}above {short(one.risk)} sensitivity {short(y)}, 1 - specificity {short(x)}"
            for one, (x, y) in zip(found[1:-1], pairs[1:-1], strict=True)
        ]
    _unit(axes, "sensitivity")
    return Chart(
        title,
        f"{title}, sensitivity by 1 - specificity: {_joined(said)}",
        svg_of(figure, title),
        [*_keys(runs), Key("chance", 0, broken=True)],
    )


def precision(runs: Mapping[str, Sequence[Threshold]]) -> Chart:
    """Draw precision by recall; see `roc`."""
    title, said = "Precision by recall", list[str]()
    figure, axes = new_axes("recall (sensitivity)", _SQUARE)
    for share in dict.fromkeys(found[0].precision or 0.0 for found in runs.values()):
        axes.axhline(share, color=INK, linewidth=1.0, linestyle="--")
    for start, line, found in _each(runs):
        points = [one for one in found if one.flagged]
        # A line between two points would promise a precision that no threshold has.
        axes.plot(
            [one.sensitivity or 0.0 for one in points],
            [one.precision or 0.0 for one in points],
            marker="o",
            linestyle="none",
            **line(1.5, 4.5),
        )
        said += [
            f"{start}above {short(one.risk)} recall {short(one.sensitivity)}, precision "
            f"{short(one.precision)}"
            for one in points
        ]
    _unit(axes, "precision (PPV)")
    return Chart(
        title,
        f"{title}: {_joined(said)}",
        svg_of(figure, title),
        [*_keys(runs), Key("share of positives", 0, broken=True)],
    )


def calibration(runs: Mapping[str, Bins]) -> Chart:
    """Draw the observed share by the mean predicted probability, of one run with its counts."""
    title, said = "Calibration, with 95% intervals", list[str]()
    alone = len(runs) == 1
    title += " and counts" * alone
    figure, axes = new_axes("mean predicted probability", _TALL if alone else _SQUARE)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle="--")
    for start, line, bins in _each(runs):
        for one in bins:
            positive = round(one["observed"] * one["examples"])
            low, high = wilson(positive, one["examples"])
            axes.plot([one["predicted"]] * 2, [low, high], **line(1.2, 4.0))
            axes.plot(one["predicted"], one["observed"], marker="o", **line(1.2, 4.0))
            said.append(
                f"{start}predicted {short(one['predicted'])}, observed {short(one['observed'])} of "
                f"{count(one['examples'])}"
            )
    _unit(axes, "observed share")
    legend = [*_keys(runs), Key("observed as predicted", 0, broken=True)]
    if alone:
        _counts_below(axes, *runs.values())
        legend.append(_COUNTS)
    return Chart(title, f"{title}: {_joined(said)}", svg_of(figure, title), legend)


def outcomes(runs: Mapping[str, Bins]) -> Chart:
    """Plot means of outcomes; their spread within bins is not known, so there is no interval."""
    alone, said = len(runs) == 1, list[str]()
    title = "Calibration, with counts" if alone else "Calibration"
    figure, axes = new_axes("mean expected outcome", _TALL if alone else _SQUARE)
    every = [one for bins in runs.values() for one in bins]
    values = [one[key] for one in every for key in ("predicted", "observed")]
    margin = 0.05 * (max(values) - min(values)) or 1.0
    ends = (min(values) - margin, max(values) + margin)
    axes.plot(ends, ends, color=INK, linewidth=1.0, linestyle="--")
    for start, line, bins in _each(runs):
        pairs = [(one["predicted"], one["observed"]) for one in bins]
        axes.plot(*zip(*pairs, strict=True), marker="o", linestyle="none", **line(1.5, 6.0))
        said += [
            f"{start}expected {short(one['predicted'])}, observed {short(one['observed'])} of "
            f"{count(one['examples'])}"
            for one in bins
        ]
    axes.set_ylabel("mean observed outcome", color=INK)
    axes.set(xlim=ends, ylim=ends)
    legend = [*_keys(runs), Key("as expected", 0, broken=True)]
    if alone:
        _counts_below(axes, every)
        legend.append(_COUNTS)
    return Chart(title, f"{title}: {_joined(said)}", svg_of(figure, title), legend)


def decision(runs: Mapping[str, Sequence[Threshold]]) -> Chart | None:
    """Draw net benefits, of runs with as many held-out examples of each class; see `roc`.

    ``None`` if no border of bins is a risk at which patients might be treated.
    """
    title, said = "Decision curve", list[str]()
    points = {
        name: [one for one in found if RISKS[0] <= one.risk <= RISKS[-1]]
        for name, found in runs.items()
    }
    known = [one for found in points.values() for one in found]
    if not known:
        return None
    figure, axes = new_axes("risk from which patients are treated", _SQUARE)
    whole, last = next(iter(runs.values()))[0], max(one.risk for one in known)
    grid = [last * step / 100 for step in range(101)]
    everybody = [
        net_benefit(whole.positives, whole.false_positives, whole.examples, risk) for risk in grid
    ]
    treat_all, nobody = (_ALL, _NOBODY) if len(runs) == 1 else (0, 0)
    axes.plot(grid, everybody, color=_colour(treat_all), linewidth=1.4)
    axes.axhline(0.0, color=_colour(nobody), linewidth=1.4, linestyle="--")
    for start, line, found in _each(points):
        benefits, risks = [one.net_benefit for one in found], [one.risk for one in found]
        axes.plot(risks, benefits, marker="o", linestyle="none", **line(1.5, 4.5))
        pairs = zip(risks, benefits, strict=True)
        said += [f"{start}at {short(x)} net benefit {short(y)}" for x, y in pairs]
    share = whole.positives / whole.examples
    lowest = min(-0.25 * share, *(one.net_benefit for one in known))
    axes.set(xlim=(0.0, 1.02 * last), ylim=(lowest, 1.1 * share))
    axes.set_ylabel("net benefit per patient", color=INK)
    legend = [
        *_keys(runs),
        Key("treat all", treat_all),
        Key("treat nobody", nobody, broken=True),
    ]
    return Chart(title, f"{title}: {_joined(said)}", svg_of(figure, title), legend)


def _each(runs: Mapping[str, _T]) -> Iterator[tuple[str, Callable[[float, float], _Line], _T]]:
    """Yield how words about a run start, its line of a width and a size of marks, and its data."""
    for series, (name, found) in enumerate(runs.items(), start=1):
        yield f"{name}: " * (len(runs) > 1), partial(_line, series, len(runs)), found


def _line(series: int, of: int, width: float, size: float) -> _Line:
    # Where runs are the same, the lower ones look out from under the upper ones.
    below = min(3, of - series)
    return {
        "color": _colour(series),
        "linewidth": width + 1.3 * below,
        "markersize": size + 2.2 * below,
    }


def _keys(runs: Mapping[str, Any]) -> list[Key]:
    return [Key(name, series) for series, name in enumerate(runs, start=1)]


def _colour(series: int) -> str:
    return COLOURS[series - 1] if series else INK


def _joined(parts: Sequence[str]) -> str:
    return f"{'; '.join(parts)}."


def _counts_below(axes: Axes, bins: Bins) -> None:
    """Draw how many examples each bin has below the plot, on the same axis."""
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_ylim(low - 0.3 * (high - low), high)
    below = axes.inset_axes((0.0, 0.0, 1.0, 0.17), sharex=axes)
    below.vlines([one["predicted"] for one in bins], 0, [one["examples"] for one in bins])
    below.collections[0].set(color=COLOURS[1], linewidth=4.0)
    below.set_ylim(0, 1.1 * max(one["examples"] for one in bins))
    below.set_axis_off()


def _unit(axes: Axes, label: str) -> None:
    axes.set(xlim=_WITHIN, ylim=_WITHIN)
    axes.set_ylabel(label, color=INK)
