"""comparison.png, and the curves that it shares with the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fl_he.atomic import replace_file, require_own
from fl_he.report.figures import family, known, mean, of_number, of_time, run_name
from fl_he.report.tables.comparison import FEDERATED, LOCAL, pooled_name
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import NEGATIVE_BINOMIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPARISON_NAME = "comparison.png"
#: Okabe and Ito's palette can be told apart with any colour vision; the line styles differ too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_LEVELS = ("--", "-.")
_DEVIANCE = "Half the mean deviance"
_LIKELIHOOD = "Negative log likelihood by patient"
_PARTIAL = "Negative log partial likelihood by patient"
#: Least height of an axis of likelihoods, which have no natural zero, in nats.
_NATS = 0.1


@dataclass(frozen=True, slots=True)
class Curve:
    """One series of a plot.

    Attributes
    ----------
    label : str
    values : sequence of float or None
        One for each place.
    series : int
        Its number, from 1, which is its colour.
    level : bool
        Whether it is a single value, to be drawn across.
    """

    label: str
    values: Sequence[float | None]
    series: int
    level: bool = False


def quality_curves(metrics: Metrics) -> dict[str, list[Curve]]:
    """Return accuracy and log loss per round against the alternatives, by the plots' titles.

    Of an outcome that is a number it is half the mean deviance alone, of counts with an alpha the
    likelihood, of a time to an event the partial likelihood.

    Without a test set the curve is that of the hospitals' own data, from the encrypted totals.
    """
    rounds = metrics["rounds"]
    tested = bool(known(rounds, "test_loss"))
    where = "the test set" if tested else "the hospitals' data"
    plots = {}
    kinds = [("Accuracy", "accuracy", "accuracy"), ("Log loss", "loss", "log_loss")]
    if of_number(metrics):
        title = _PARTIAL
        if family(metrics) == NEGATIVE_BINOMIAL:
            title = _LIKELIHOOD
        elif not of_time(metrics):
            title = _DEVIANCE
        kinds = [(title, "loss", "mean_deviance")]
    for title, key, level in kinds:
        values = [entry[f"test_{key}" if tested else key] for entry in rounds]
        curves = [Curve(FEDERATED if tested else "from the encrypted totals", values, 1)]
        if tested:
            alone = mean(known(metrics["local"] or [], level))
            pooled = (metrics["pooled"] or {}).get(level)
            levels = ((LOCAL, alone, 2), (pooled_name(metrics), pooled, 3))
            share = 0.5 if of_number(metrics) else 1.0
            curves += [Curve(n, [share * v], s, level=True) for n, v, s in levels if v is not None]
        plots[f"{title} on {where}"] = curves
    return plots


def fair_limits(axes: Axes, title: str) -> None:
    """Have the axis of an accuracy from 0 to 1, and that of a loss from 0: noise must not fill it.

    An axis of likelihoods is at least 0.1 high.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With all curves.
    title : str
        Of the plot, which begins with the figure that it shows.
    """
    figure = title.partition(" on ")[0]
    if figure == "Accuracy":
        axes.set_ylim(0.0, 1.02)
    elif figure in ("Log loss", _DEVIANCE):
        axes.set_ylim(0.0, 1.1 * axes.get_ylim()[1])
    elif figure in (_LIKELIHOOD, _PARTIAL):
        low, high = axes.get_ylim()
        more = max(0.0, _NATS - (high - low)) / 2.0
        axes.set_ylim(low - more, high + more)


def draw_lines(
    axes: Axes,
    places: Sequence[float],
    curves: Sequence[Curve],
    colours: Sequence[str],
    dashes: Sequence[str] = ("-",),
) -> None:
    """Draw curves over the rounds; unknown values are bridged by nothing.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    places : sequence of float
        Numbers of the rounds. A curve with fewer values than places ends early.
    curves : sequence of Curve
    colours, dashes : sequence of str
        Curves take the colours in turn, and the next line style when all were taken.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - lazy: slow, and tables need none

    levels = iter(_LEVELS * len(curves))
    for index, curve in enumerate(curves):
        again, colour = divmod(curve.series - 1, len(colours))
        values = [math.nan if value is None else value for value in curve.values]
        if curve.level:
            style = next(levels)
            axes.axhline(values[0], color=colours[colour], linestyle=style, label=curve.label)
            continue
        axes.plot(
            places[: len(values)],
            values,
            color=colours[colour],
            label=curve.label,
            linestyle=dashes[again % len(dashes)],
            # Where curves are the same, the lower ones look out from under the upper ones.
            linewidth=1.8 + 1.3 * min(3, sum(not c.level for c in curves[index + 1 :])),
            marker="o",
            markersize=3.5,
            markevery=max(1, len(values) // 25),
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.03, y=0.12)


def write_plot(folder: Path, metrics: Metrics) -> None:
    """Draw comparison.png: accuracy and log loss per round against the alternatives.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist.
    metrics : Metrics
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - lazy: slow, and the tables need none

    path = folder / COMPARISON_NAME
    require_own(path, b"\x89PNG")
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(run_name(metrics), parse_math=False)
    plots = quality_curves(metrics)
    (parts,) = figure.subplots(1, len(plots), squeeze=False)
    places = [entry["round"] for entry in metrics["rounds"]]
    for axes, (title, curves) in zip(parts, plots.items(), strict=True):
        draw_lines(axes, places, curves, _COLOURS)
        fair_limits(axes, title)
        axes.set(title=title, xlabel="round", ylabel=title.partition(" on ")[0].lower())
        axes.grid(visible=True, alpha=0.3)
    handles, labels = parts[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    image = BytesIO()
    figure.savefig(image, format="png", dpi=150)
    replace_file(path, image.getvalue())
