"""Predictions against outcomes that their owner knows, as a page of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fl_he.learning.regression.validation import Estimate, Part, Validation
from fl_he.report.blocks import Note, Page, Row, Section, Sheet
from fl_he.report.figures import UNKNOWN, count, decimal, fixed, places, short

_LOCAL = "Computed on this machine from the table's own outcomes: nothing leaves it."
#: Figures by their names in metrics.json, and those that are in the unit of the outcome.
_NAMES = {
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "brier_score": "Brier score",
    "log_loss": "log loss",
    "concordance": "concordance",
    "rmse": "root mean square error",
    "mean_deviance": "mean deviance",
    "d2": "D2",
}
_IN_UNITS = ("rmse", "mean_deviance")
#: Sums from here on have no digits after the point.
_LARGE = 1000.0


def validation_page(found: Validation, model: str, table: str, notes: Sequence[str] = ()) -> Page:
    """Return the comparison of predictions with outcomes as a page.

    Parameters
    ----------
    found : Validation
    model, table : str
        Names of the two.
    notes : sequence of str
        Sentences about rows that are left out.
    """
    columns = ("figure", "value", "95% interval")
    figures = Sheet("Predictions against outcomes", columns, list(map(Row, _figures(found))))
    sections = [Section("Figures", [figures]), Section("Tenths", [_tenths(found)])]
    if found.classes:
        sections.append(Section("Classes", [_classes(found)]))
    return Page(
        title=f"Predictions of {model} against outcomes",
        subtitle=f"{count(found.whole.rows)} rows of {table}. {_LOCAL}",
        tiles={},
        notes=[Note(one) for one in notes],
        sections=sections,
    )


def _figures(found: Validation) -> Iterator[tuple[str, ...]]:
    whole, figures = found.whole, found.figures
    yield "rows", count(whole.rows)
    if "concordance" in figures:
        yield "events", _sum(whole.observed)
    elif not found.classes:
        # Of predictions on both sides of 0 a ratio of sums means nothing.
        is_ratio = whole.lower >= 0.0 and whole.predicted > 0.0
        ratio = whole.observed / whole.predicted if is_ratio else None
        yield "observed", _sum(whole.observed)
        yield "expected", _sum(whole.predicted)
        yield "observed / expected", decimal(ratio)
        yield "calibration in the large", *_estimate(found.in_the_large)
        yield "calibration intercept", *_estimate(found.intercept)
    if not found.classes:
        yield "calibration slope", *_estimate(found.slope)
    for key, name in _NAMES.items():
        if key in figures:
            yield name, (short if key in _IN_UNITS else decimal)(figures[key])


def _estimate(found: Estimate | None) -> tuple[str, str]:
    if found is None:
        return UNKNOWN, UNKNOWN
    if found.lower is None or found.upper is None:
        return decimal(found.value), UNKNOWN
    return decimal(found.value), f"{decimal(found.lower)} to {decimal(found.upper)}"


def _sum(value: float) -> str:
    is_whole = value == round(value) or abs(value) >= _LARGE
    return count(value) if is_whole else fixed(value, places([value], 1, 3))


def _tenths(found: Validation) -> Sheet:
    columns = ["tenth: predictions", "rows", "mean prediction", "mean outcome"]
    if "concordance" in found.figures:  # a relative risk expects no number of events
        columns[-1] = "share with an event"
    else:
        columns += ["expected", "observed"]
    rows = [
        Row(_tenth(place, one)[: len(columns)]) for place, one in enumerate(found.tenths, start=1)
    ]
    return Sheet("By tenths of the prediction", columns, rows)


def _tenth(place: int, part: Part) -> tuple[str, ...]:
    means = (short(part.predicted / part.rows), short(part.observed / part.rows))
    name = f"{place}: {short(part.lower)} to {short(part.upper)}"
    sums = (_sum(part.predicted), _sum(part.observed))
    return name, count(part.rows), *means, *sums


def _classes(found: Validation) -> Sheet:
    rows = [
        Row((one.name, _sum(one.observed), _sum(one.predicted), decimal(one.roc_auc)))
        for one in found.classes
    ]
    columns = ("class", "observed", "expected", "ROC AUC")
    return Sheet("Each class against the others", columns, rows)
