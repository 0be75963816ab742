"""Figures and plots of held-out examples, from what company X gives out of encrypted counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fl_he.config.groups import RISKS
from fl_he.report.blocks import Block, Chart, Charts, Key, Note, Row, Section, Sheet
from fl_he.report.figures import UNKNOWN, count, decimal, family, of_number, sentence, short
from fl_he.report.page.charts import COLOURS, INK, new_axes, svg_of
from fl_he.report.tables.comparison import calibration_rows, counted_text, scores, withheld_note
from fl_he.report.thresholds import Threshold, at_risks, net_benefit, thresholds, wilson
from fl_he.run_files.convergence import weighted_classes
from fl_he.run_files.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DEFAULT_RISKS = (0.1, 0.2, 0.3, 0.5)
_MODEL, _ALL, _NOBODY = 1, 2, 3
_SQUARE, _TALL = (4.6, 3.8), (4.6, 4.4)
_COUNTS = Key("examples in a bin", 2)
_BIN = ("lower", "upper", "examples", "predicted", "observed")
_WITHIN = (-0.02, 1.02)
_EDGES = (
    "Counts are known at the borders of the merged bins alone, which are the marks of the plots: "
    "nothing is smoothed, and the line of the ROC curve joins them and measures nothing. The "
    "borders follow the outcomes, so shares in bins scatter somewhat more than their intervals say."
)


def evaluated(metrics: Metrics) -> Section | None:
    """Return the section of a run with ``evaluate=true``; ``None`` of any other."""
    evaluation = metrics.get("evaluation")
    if not evaluation:
        return None
    blocks = list(_of_numbers(metrics) if of_number(metrics) else _of_classes(metrics))
    return Section("Encrypted evaluation", blocks)


def _of_classes(metrics: Metrics) -> Iterator[Block]:
    evaluation = metrics["evaluation"]
    if weighted := weighted_classes(metrics):
        yield Note(sentence(weighted))
    brier, error = scores(evaluation)
    yield Note(
        f"The encrypted counts are of {count(evaluation['examples'])} held-out examples of "
        f"{count(evaluation['hospitals'])} hospitals, whose Brier score is {brier} and whose "
        f"calibration error is {error}."
    )
    if withheld := withheld_note(evaluation):
        yield Note(withheld)
    bins = [one for one in evaluation.get("calibration") or () if "lower" in one]
    two = family(metrics) == "logistic"
    if bins and not any(one[key] is None for one in bins for key in _BIN):
        found = thresholds(bins)
        charts = [_calibration(bins)]
        if two and 0 < found[0].positives < found[0].examples:
            charts = [_roc(found), _precision(found), *charts]
            if not weighted:
                charts.append(_decision(found))
        yield Charts(charts)
        if two:
            yield Note(_EDGES)
            yield from _at_risks(metrics, found)
    if bins:
        yield _bins(evaluation, bins)
    yield from _confusion(evaluation, _names(metrics))


def _names(metrics: Metrics) -> Sequence[str]:
    """Return the names of the classes, as far as anybody told them."""
    if metrics.get("classes"):
        return list(metrics["classes"])
    outcome = (metrics.get("inference") or {}).get("outcome")
    return ("all others", outcome) if outcome else ("label 0", "label 1")


def _bins(evaluation: Mapping[str, Any], bins: Sequence[Mapping[str, Any]]) -> Sheet:
    borders = _told_apart([one["lower"] for one in bins] + [bins[-1]["upper"]])
    rows = [
        Row(
            (
                f"{decimal(one['lower'], borders)} to {decimal(one['upper'], borders)}",
                str(one["examples"]),
                short(one["predicted"]),
                decimal(one["observed"]),
            )
        )
        for one in bins
    ]
    caption = (
        "Calibration on held-out examples; neighbouring bins are merged until each class has 0 "
        f"or at least {evaluation['min_cell']} examples in each"
    )
    return Sheet(caption, ("forecast", "examples", "mean forecast", "came true"), rows)


def _told_apart(borders: Sequence[float | None]) -> int:
    """Return the decimals that tell the borders of bins apart, as far as six do."""
    few, most = 3, 6
    for digits in range(few, most):
        if len({decimal(one, digits) for one in borders}) == len(borders):
            return digits
    return most


def _of_numbers(metrics: Metrics) -> Iterator[Block]:
    evaluation = metrics["evaluation"]
    yield Note(sentence(counted_text(metrics)))
    if withheld := withheld_note(evaluation):
        yield Note(withheld)
    if rows := calibration_rows(evaluation):
        yield Charts([_outcomes(evaluation["calibration"])])
        caption = (
            "Calibration on held-out examples, in bins of a tenth or more, by expected outcome; "
            f"neighbouring bins are merged until 0 or at least {evaluation['min_cell']} examples "
            "in each have an outcome of 0, and likewise another outcome"
        )
        yield Sheet(caption, ("bin", "examples", "mean expected", "mean observed"), rows)


def _confusion(evaluation: Mapping[str, Any], classes: Sequence[str]) -> Iterator[Block]:
    """Show the confusion matrix and the accuracy of each class, as far as they are given out."""
    matrix = evaluation.get("confusion")
    shares = [decimal(one.get("accuracy")) for one in evaluation.get("by_class") or ()]
    if not matrix and not {*shares} - {UNKNOWN}:
        return
    shares = shares or [UNKNOWN] * len(classes)
    counts = matrix or [()] * len(shares)
    rows = [
        Row((name, *map(count, row or [None] * len(shares)), share))
        for name, row, share in zip(classes, counts, shares, strict=True)
    ]
    caption = "Held-out examples by class (rows) and by predicted class (columns)"
    yield Sheet(caption, ("class", *classes, "predicted right"), rows)


def _at_risks(metrics: Metrics, found: Sequence[Threshold]) -> Iterator[Block]:
    """Show sensitivity, specificity and predictive values at the declared risks."""
    risks = metrics["config"].get("risks", _DEFAULT_RISKS)
    rows, without = list[Row](), list[str]()
    for risk, one in zip(risks, at_risks(found, risks), strict=True):
        cells: tuple[str, ...] = ("withheld",)
        if one is None:
            without.append(f"{risk:g}")
        else:
            negatives, others = one.examples - one.positives, one.examples - one.flagged
            cells = (
                f"{count(one.flagged)} ({one.flagged / one.examples:.1%})",
                _proportion(one.true_positives, one.positives),
                _proportion(one.true_negatives, negatives),
                _proportion(one.true_positives, one.flagged),
                _proportion(one.true_negatives, others),
            )
        rows.append(Row((f"above {risk:g}", *cells)))
    if rows:
        caption = "Thresholds at declared risks (setting risks), with Wilson's 95% intervals"
        columns = ("forecast", "flagged", "sensitivity", "specificity", "PPV", "NPV")
        yield Sheet(caption, columns, rows)
    if without:
        cell = metrics["evaluation"]["min_cell"]
        yield Note(
            f"Withheld at {', '.join(without)}: no bin ends there, as a class would have 1 to "
            f"{cell - 1} examples in a bin below or above, or no example has a forecast there."
        )


def _proportion(part: int, whole: int) -> str:
    if not whole:
        return UNKNOWN
    low, high = wilson(part, whole)
    return f"{part / whole:.3f} ({low:.3f} to {high:.3f})"


def _joined(parts: Sequence[str]) -> str:
    return f"{'; '.join(parts)}."


def _roc(found: Sequence[Threshold]) -> Chart:
    title = "ROC curve"
    figure, axes = new_axes("1 - specificity", _SQUARE)
    pairs = [(1.0 - (one.specificity or 0.0), one.sensitivity or 0.0) for one in found]
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle="--")
    axes.plot(*zip(*pairs, strict=True), color=COLOURS[0], marker="o", markersize=3.5)
    _unit(axes, "sensitivity")
    said = [
        f"above {short(one.risk)} sensitivity {short(y)}, 1 - specificity {short(x)}"
        for one, (x, y) in zip(found[1:-1], pairs[1:-1], strict=True)
    ]
    return Chart(
        title,
        f"{title}, sensitivity by 1 - specificity: {_joined(said)}",
        svg_of(figure, title),
        [Key("federated model", _MODEL), Key("chance", 0, broken=True)],
    )


def _precision(found: Sequence[Threshold]) -> Chart:
    title = "Precision by recall"
    figure, axes = new_axes("recall (sensitivity)", _SQUARE)
    points = [one for one in found if one.flagged]
    axes.axhline(found[0].precision or 0.0, color=INK, linewidth=1.0, linestyle="--")
    # A line between two points would promise a precision that no threshold has, and so below.
    axes.plot(
        [one.sensitivity or 0.0 for one in points],
        [one.precision or 0.0 for one in points],
        color=COLOURS[0],
        marker="o",
        markersize=4.5,
        linestyle="none",
    )
    _unit(axes, "precision (PPV)")
    said = [
        f"above {short(one.risk)} recall {short(one.sensitivity)}, precision {short(one.precision)}"
        for one in points
    ]
    return Chart(
        title,
        f"{title}: {_joined(said)}",
        svg_of(figure, title),
        [Key("federated model", _MODEL), Key("share of positives", 0, broken=True)],
    )


def _calibration(bins: Sequence[Mapping[str, Any]]) -> Chart:
    title = "Calibration, with 95% intervals and counts"
    figure, axes = new_axes("mean forecast", _TALL)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle="--")
    said = []
    for one in bins:
        positive = round(one["observed"] * one["examples"])
        low, high = wilson(positive, one["examples"])
        axes.plot([one["predicted"]] * 2, [low, high], color=COLOURS[0], linewidth=1.2)
        axes.plot(one["predicted"], one["observed"], color=COLOURS[0], marker="o", markersize=4)
        said.append(
            f"forecast {short(one['predicted'])}, came true {short(one['observed'])} of "
            f"{count(one['examples'])}"
        )
    _unit(axes, "came true")
    _counts_below(axes, bins)
    legend = [Key("bins", _MODEL), Key("as forecast", 0, broken=True), _COUNTS]
    return Chart(title, f"{title}: {_joined(said)}", svg_of(figure, title), legend)


def _outcomes(bins: Sequence[Mapping[str, Any]]) -> Chart:
    """Plot means of outcomes; their spread within bins is not known, so there is no interval."""
    title = "Calibration, with counts"
    figure, axes = new_axes("mean expected outcome", _TALL)
    values = [one[key] for one in bins for key in ("predicted", "observed")]
    margin = 0.05 * (max(values) - min(values)) or 1.0
    ends = (min(values) - margin, max(values) + margin)
    axes.plot(ends, ends, color=INK, linewidth=1.0, linestyle="--")
    pairs = [(one["predicted"], one["observed"]) for one in bins]
    axes.plot(*zip(*pairs, strict=True), color=COLOURS[0], marker="o", linestyle="none")
    axes.set_ylabel("mean observed outcome", color=INK)
    axes.set(xlim=ends, ylim=ends)
    _counts_below(axes, bins)
    said = [
        f"expected {short(one['predicted'])}, observed {short(one['observed'])} of "
        f"{count(one['examples'])}"
        for one in bins
    ]
    legend = [Key("bins", _MODEL), Key("as expected", 0, broken=True), _COUNTS]
    return Chart(title, f"{title}: {_joined(said)}", svg_of(figure, title), legend)


def _counts_below(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Draw how many examples each bin has below the plot, on the same axis."""
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_ylim(low - 0.3 * (high - low), high)
    below = axes.inset_axes((0.0, 0.0, 1.0, 0.17), sharex=axes)
    below.vlines([one["predicted"] for one in bins], 0, [one["examples"] for one in bins])
    below.collections[0].set(color=COLOURS[1], linewidth=4.0)
    below.set_ylim(0, 1.1 * max(one["examples"] for one in bins))
    below.set_axis_off()


def _decision(found: Sequence[Threshold]) -> Chart:
    title = "Decision curve"
    figure, axes = new_axes("risk from which patients are treated", _SQUARE)
    points = [one for one in found if RISKS[0] <= one.risk <= RISKS[-1]]
    whole, last = found[0], max((one.risk for one in points), default=0.5)
    grid = [last * step / 100 for step in range(101)]
    everybody = [
        net_benefit(whole.positives, whole.false_positives, whole.examples, risk) for risk in grid
    ]
    axes.plot(grid, everybody, color=COLOURS[_ALL - 1], linewidth=1.4)
    axes.axhline(0.0, color=COLOURS[_NOBODY - 1], linewidth=1.4, linestyle="--")
    benefits = [one.net_benefit for one in points]
    risks = [one.risk for one in points]
    axes.plot(risks, benefits, color=COLOURS[0], marker="o", markersize=4.5, linestyle="none")
    share = whole.positives / whole.examples
    axes.set(xlim=(0.0, 1.02 * last), ylim=(min(-0.25 * share, *benefits), 1.1 * share))
    axes.set_ylabel("net benefit per patient", color=INK)
    said = [f"at {short(one.risk)} net benefit {short(one.net_benefit)}" for one in points]
    legend = [
        Key("federated model", _MODEL),
        Key("treat all", _ALL),
        Key("treat nobody", _NOBODY, broken=True),
    ]
    return Chart(title, f"{title}: {_joined(said)}", svg_of(figure, title), legend)


def _unit(axes: Axes, label: str) -> None:
    axes.set(xlim=_WITHIN, ylim=_WITHIN)
    axes.set_ylabel(label, color=INK)
