"""The section of the page with a model's coefficients, by the names of the features."""

from __future__ import annotations

from collections.abc import Sequence

from fl_he.report.blocks import Block, Facts, Note, Row, Section, Sheet
from fl_he.report.figures import features_of, of_number, of_time, sentence, short
from fl_he.report.page.forest import forest
from fl_he.report.tables.between import site_notes, site_sheets
from fl_he.report.tables.coefficients import (
    coefficient_sheets,
    deviation_note,
    fit_facts,
    group_notes,
    group_sheet,
    has_estimates,
    left_out_notes,
    lower_maximum_note,
    profile_notes,
    profile_sheet,
    ratio_name,
    reference_note,
    rows_note,
    site_note,
    wald_note,
    withheld,
)
from fl_he.report.tables.hazards import hazard_notes, hazard_sheets
from fl_he.run_files.metrics import Metrics

#: Rows of the table; a model of more is in model.json alone.
_ROWS = 1000
_TITLE = "Coefficients"
_ABOUT = (
    "An estimate is the change of the {what} for one unit more of the feature, all others equal"
    "{ratio}. {per_sd}{at_zero}"
)
_AT_ZERO = "The intercept is of patients whose features are all 0{exposed}."
_OF_TIME = (
    "Each hospital has a baseline hazard, which nobody else learns: patients are compared with "
    "those of the same hospital only."
)
_OF_WHAT = " of the feature in the pooled data"


def _what(metrics: Metrics, ratio: str) -> str:
    if of_time(metrics):
        return "hazard's logarithm"
    return "log odds" if not of_number(metrics) else "mean's logarithm" if ratio else "mean"


def _at_zero(metrics: Metrics) -> str:
    return _AT_ZERO.format(exposed=" and whose exposure is 1" if metrics.get("exposure") else "")


def coefficients(metrics: Metrics) -> Section:
    """Return the section of a model of any family."""
    found, inference = metrics["federated"]["coefficients"], metrics.get("inference")
    if not found:
        return Section(_TITLE, [Note("Only the hospitals have the model: see their own files.")])
    several = isinstance(metrics["federated"]["intercept"], list)
    if len(found[0] if several else found) > _ROWS:
        return Section(_TITLE, [Note("The model has too many coefficients: see model.json.")])
    if inference is None:
        return Section(_TITLE, [_scaled(metrics, several=several)])
    reason = withheld(inference)
    blocks: list[Block] = [Note(f"{rows_note(metrics)}."), *map(Note, [reason] if reason else [])]
    # The parameters of a class are no contrasts, whose estimates the separation takes.
    separated = bool((metrics.get("diagnostics") or {}).get("separation"))
    if not inference["coefficients"] or (several and reason is not None and not separated):
        return Section(_TITLE, [*blocks, _scaled(metrics, several=several)])
    sheets = coefficient_sheets(metrics)
    per_sd = deviation_note(metrics, sheets, _OF_WHAT)
    name = ratio_name(inference)
    about = _ABOUT.format(
        what=_what(metrics, name),
        ratio=name and f", and the {name} its exponential",
        per_sd=per_sd and f"{sentence(per_sd)} ",
        at_zero=_OF_TIME if of_time(metrics) else site_note(inference) or _at_zero(metrics),
    )
    blocks += [*sheets, *map(Note, left_out_notes(inference)), *forest(metrics)]
    facts = fit_facts(inference)
    if has_estimates(inference):
        blocks.append(Note(about))
        blocks += [Note(sentence(one)) for one in reference_note(metrics)]
        blocks += [Note(wald_note(inference))] if facts else []
        blocks += map(Note, filter(None, [lower_maximum_note(inference)])) if facts else []
    if facts:
        blocks.append(Facts(facts))
    if (tests := group_sheet(inference)) is not None:
        blocks += [tests, *map(Note, group_notes(inference))]
    if (profile := profile_sheet(inference)) is not None:
        blocks.append(profile)
    blocks += map(Note, profile_notes(inference))
    blocks += [
        *hazard_sheets(inference),
        *map(Note, hazard_notes(inference)),
        *site_sheets(inference),
        *map(Note, site_notes(inference)),
    ]
    return Section(_TITLE, blocks)


def _scaled(metrics: Metrics, *, several: bool) -> Sheet:
    """Return the coefficients of scaled features, with a column for each of several classes."""
    found, intercepts = (metrics["federated"][key] for key in ("coefficients", "intercept"))
    caption, labels = "In the units of each hospital's scaled features", ["estimate"]
    if several:
        caption = f"Of {features_of(metrics)}, by class"
        labels = metrics.get("classes") or [f"class {n}" for n, _ in enumerate(intercepts)]
    else:
        found, intercepts = [found], [intercepts]
    names = [*feature_names(metrics, len(found[0])), "(intercept)"]
    by_feature = zip(names, [*zip(*found, strict=True), intercepts], strict=True)
    rows = [Row((name, *map(short, values))) for name, values in by_feature]
    return Sheet(caption, ("feature", *labels), rows)


def feature_names(metrics: Metrics, features: int) -> Sequence[str]:
    """Return the features' names; numbers in their place where an earlier release kept none."""
    names: Sequence[str] | None = metrics.get("feature_names")
    if names is None or len(names) != features:
        return [f"feature {number}" for number in range(1, features + 1)]
    return names
