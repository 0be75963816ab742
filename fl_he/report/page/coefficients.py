"""The section of the page with a model's coefficients, by the names of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fl_he.report.blocks import Block, Note, Row, Section, Sheet
from fl_he.report.figures import known, short
from fl_he.run_files.metrics import Metrics

#: Rows of the table; a model of more is in model.json alone.
_ROWS = 1000
_TITLE = "Coefficients"
#: Columns by their headings: members of ``inference`` of metrics.json.
_ESTIMATES = {"estimate": "estimate", "odds ratio": "odds_ratio"}
_WITH_ERRORS = {
    "estimate": "estimate",
    "std. error": "standard_error",
    "z": "z",
    "p": "p_value",
    "odds ratio": "odds_ratio",
    "its lower bound": "odds_ratio_lower",
    "its upper bound": "odds_ratio_upper",
}


def coefficients(metrics: Metrics) -> Section:
    """Return the section of a logistic or softmax model."""
    found, inference = metrics["federated"]["coefficients"], metrics.get("inference")
    if not found:
        return Section(_TITLE, [Note("Only the hospitals have the model: see their own files.")])
    if len(found) > _ROWS:
        return Section(_TITLE, [Note("The model has too many coefficients: see model.json.")])
    several = isinstance(metrics["federated"]["intercept"], list)
    if inference is None or several:
        return Section(_TITLE, [_scaled(metrics, several=several)])
    return Section(_TITLE, _inferred(inference))


def _scaled(metrics: Metrics, *, several: bool) -> Sheet:
    """Return the coefficients of scaled features, with a column for each of several classes."""
    found, intercepts = (metrics["federated"][key] for key in ("coefficients", "intercept"))
    caption, labels = "In the units of each hospital's scaled features", ["estimate"]
    if several:
        caption = "Of the scaled features, by class"
        labels = metrics.get("classes") or [f"class {n}" for n, _ in enumerate(intercepts)]
    else:
        found, intercepts = [found], [intercepts]
    names = [*feature_names(metrics, len(found[0])), "intercept"]
    by_feature = zip(names, [*zip(*found, strict=True), intercepts], strict=True)
    rows = [Row((name, *map(short, values))) for name, values in by_feature]
    return Sheet(caption, ("feature", *labels), rows)


def feature_names(metrics: Metrics, features: int) -> Sequence[str]:
    """Return the features' names; numbers in their place where an earlier release kept none."""
    names: Sequence[str] | None = metrics.get("feature_names")
    if names is None or len(names) != features:
        return [f"feature {number}" for number in range(1, features + 1)]
    return names


def _inferred(inference: Mapping[str, Any]) -> list[Block]:
    rows = inference["coefficients"]
    penalty = ", penalised" if inference["penalised"] else ""
    about = (
        "An odds ratio is that of one standard deviation more, if features are scaled; that of "
        "the intercept is the odds where all features are 0."
    )
    columns, more = _ESTIMATES, "Standard errors need the pooled Hessian: optimizer=newton."
    if known(rows, "standard_error"):
        columns = _WITH_ERRORS
        more = f"Its bounds are those of a {inference['level']:.0%} interval."
    sheet = Sheet(
        f"In the tables' units{penalty}",
        ("feature", *columns),
        [Row((row["name"], *(short(row[key]) for key in columns.values()))) for row in rows],
    )
    return [sheet, Note(f"{about} {more}")]
