"""Figures and plots of held-out examples, from what company X gives out of encrypted counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fl_he.report.blocks import Block, Charts, Note, Row, Section, Sheet
from fl_he.report.figures import UNKNOWN, count, decimal, family, of_number, sentence, short
from fl_he.report.page import curves
from fl_he.report.tables.comparison import calibration_rows, counted_text, scores, withheld_note
from fl_he.report.thresholds import Threshold, at_risks, thresholds, wilson
from fl_he.run_files.convergence import listed, weighted_classes
from fl_he.run_files.metrics import Metrics

_DEFAULT_RISKS = (0.1, 0.2, 0.3, 0.5)
#: What one run's model is called.
_MODEL, _BINS = "federated model", "bins"
_BIN = ("lower", "upper", "examples", "predicted", "observed")
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
    if _is_known(bins):
        charts = [curves.calibration({_BINS: bins})]
        if found := _of_both(metrics, bins):
            runs = {_MODEL: found}
            charts = [curves.roc(runs), curves.precision(runs), *charts]
            if not weighted and (benefits := curves.decision(runs)):
                charts.append(benefits)
        yield Charts(charts)
        if family(metrics) == "logistic":
            yield Note(_EDGES)
            yield from _at_risks(metrics, thresholds(bins))
    if bins:
        yield _bins(evaluation, bins)
    yield from _confusion(evaluation, _names(metrics))


def compared_curves(runs: Mapping[str, Metrics]) -> Iterator[Block]:
    """Yield the plots of several runs, each as one of all of them: see `evaluated`.

    Decision curves are of runs with as many held-out examples of each class.
    """
    bins = {name: run["evaluation"].get("calibration") or () for name, run in runs.items()}
    of_classes = {
        name: found
        for name, found in bins.items()
        if not of_number(runs[name]) and _is_known(found)
    }
    both = {name: _of_both(runs[name], found) for name, found in of_classes.items()}
    both = {name: found for name, found in both.items() if found}
    of_numbers = {name: found for name, found in bins.items() if of_number(runs[name]) and found}
    charts = [curves.roc(both), curves.precision(both)] if both else []
    if of_classes:
        charts.append(curves.calibration(of_classes))
    shares = {name: found for name, found in both.items() if not weighted_classes(runs[name])}
    same = len({(found[0].positives, found[0].examples) for found in shares.values()}) == 1
    if same and (benefits := curves.decision(shares)):
        charts.append(benefits)
    if of_numbers:
        charts.append(curves.outcomes(of_numbers))
    if charts:
        yield Charts(charts)
    if both:
        yield Note(_EDGES)
    weighted = [name for name in both if name not in shares]
    if weighted:
        yield Note(
            f"Predictions of {listed(weighted)} are no shares of patients: classes were weighted."
        )


def _is_known(bins: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether there are bins, all with borders and figures."""
    return bool(bins) and not any(one.get(key) is None for one in bins for key in _BIN)


def _of_both(metrics: Metrics, bins: Sequence[Mapping[str, Any]]) -> list[Threshold]:
    """Return the counts at the borders of bins, if there are examples of two classes."""
    found = thresholds(bins) if family(metrics) == "logistic" else []
    return found if found and 0 < found[0].positives < found[0].examples else []


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
        "Calibration on held-out examples: if the model fits, the mean predicted probability of a "
        "bin is the observed share of label 1, but for chance; neighbouring bins are merged until "
        f"each class has 0 or at least {evaluation['min_cell']} examples in each"
    )
    return Sheet(
        caption, ("predicted", "examples", "mean predicted probability", "observed share"), rows
    )


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
        yield Charts([curves.outcomes({_BINS: evaluation["calibration"]})])
        caption = (
            "Calibration on held-out examples, in bins of a tenth or more, by expected outcome; "
            f"neighbouring bins are merged until 0 or at least {evaluation['min_cell']} examples "
            "in each have an outcome of 0, and likewise another outcome"
        )
        yield Sheet(
            caption, ("bin", "examples", "mean expected outcome", "mean observed outcome"), rows
        )


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
        columns = ("predicted", "flagged", "sensitivity", "specificity", "PPV", "NPV")
        yield Sheet(caption, columns, rows)
    if without:
        cell = metrics["evaluation"]["min_cell"]
        yield Note(
            f"Withheld at {', '.join(without)}: no bin ends there, as a class would have 1 to "
            f"{cell - 1} examples in a bin below or above, or no prediction lies there."
        )


def _proportion(part: int, whole: int) -> str:
    if not whole:
        return UNKNOWN
    low, high = wilson(part, whole)
    return f"{part / whole:.3f} ({low:.3f} to {high:.3f})"
