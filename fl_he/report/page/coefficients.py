"""The section of the page with a model's coefficients, by the names of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fl_he.report.figures import known, short
from fl_he.report.page.blocks import Block, Note, Row, Section, Sheet

#: Rows of the table; a model of more is in model.json alone.
_ROWS = 1000
_TITLE = "Coefficients"


def coefficients(metrics: Mapping[str, Any]) -> Section:
    """Return the section of a logistic or softmax model.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.
    """
    federated, inference = metrics["federated"], metrics.get("inference")
    if not federated["coefficients"]:
        return Section(_TITLE, [Note("Only the hospitals have the model: see their own files.")])
    if len(federated["coefficients"]) > _ROWS:
        return Section(_TITLE, [Note("The model has too many coefficients: see model.json.")])
    if isinstance(federated["intercept"], list):
        return Section(_TITLE, _by_class(metrics))
    if inference is None:
        names = feature_names(metrics, len(federated["coefficients"]))
        rows = zip(names, federated["coefficients"], strict=True)
        sheet = Sheet(
            "In the units of each hospital's scaled features",
            ("feature", "estimate"),
            [
                *(Row((name, short(value))) for name, value in rows),
                Row(("intercept", short(federated["intercept"]))),
            ],
        )
        return Section(_TITLE, [sheet])
    return Section(_TITLE, _inferred(inference))


def feature_names(metrics: Mapping[str, Any], features: int) -> Sequence[str]:
    """Return the features' names; numbers in their place where an earlier release kept none."""
    names: Sequence[str] | None = metrics.get("feature_names")
    if names is None or len(names) != features:
        return [f"feature {number}" for number in range(1, features + 1)]
    return names


def _inferred(inference: Mapping[str, Any]) -> list[Block]:
    rows = inference["coefficients"]
    penalty = ", penalised" if inference["penalised"] else ""
    caption = f"In the tables' units{penalty}"
    about = (
        "An odds ratio is that of one standard deviation more, if features are scaled; that of "
        "the intercept is the odds where all features are 0."
    )
    if not known(rows, "standard_error"):
        sheet = Sheet(
            caption,
            ("feature", "estimate", "odds ratio"),
            [Row((row["name"], short(row["estimate"]), short(row["odds_ratio"]))) for row in rows],
        )
        unknown = "Standard errors need the pooled Hessian: optimizer=newton."
        return [sheet, Note(f"{about} {unknown}")]
    keys = (
        *("estimate", "standard_error", "z", "p_value"),
        *("odds_ratio", "odds_ratio_lower", "odds_ratio_upper"),
    )
    sheet = Sheet(
        caption,
        (
            *("feature", "estimate", "std. error", "z", "p", "odds ratio"),
            *("its lower bound", "its upper bound"),
        ),
        [Row((row["name"], *(short(row[key]) for key in keys))) for row in rows],
    )
    return [sheet, Note(f"{about} Its bounds are those of a {inference['level']:.0%} interval.")]


def _by_class(metrics: Mapping[str, Any]) -> list[Block]:
    """One column for each class; the rows of the metrics are classes."""
    federated = metrics["federated"]
    names = feature_names(metrics, len(federated["coefficients"][0]))
    labels = metrics.get("classes") or [f"class {n}" for n, _ in enumerate(federated["intercept"])]
    by_feature = zip(names, zip(*federated["coefficients"], strict=True), strict=True)
    rows = [Row((name, *map(short, values))) for name, values in by_feature]
    return [
        Sheet(
            "Of the scaled features, by class",
            ("feature", *labels),
            [*rows, Row(("intercept", *map(short, federated["intercept"])))],
        )
    ]
