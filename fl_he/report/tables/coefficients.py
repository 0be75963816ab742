"""The coefficients of a model as a statistician expects them, on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fl_he.report.blocks import Row, Sheet
from fl_he.report.figures import (
    UNKNOWN,
    count,
    family,
    fixed,
    incomplete_note,
    known,
    of_number,
    of_time,
    p_value,
    places,
    short,
)
from fl_he.report.tables.between import site_notes, site_sheets
from fl_he.report.tables.fitted import DividedTable
from fl_he.report.tables.hazards import hazard_notes, hazard_sheets
from fl_he.run_files.convergence import listed
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import BRESLOW, COX, ODDS_RATIO

#: What stands for an estimate of a column that was left out, as in R.
NOT_AVAILABLE = "NA"
_WALD = "The p values and intervals of the table are Wald's"
#: Said of estimates with Firth's penalty.
_PREFER_PROFILE = (
    "With Firth's penalty prefer profile likelihood intervals (inference.profile) to Wald's where "
    "classes can be separated, events are rare, or a category has few events (Heinze and Schemper "
    "2002). A Wald p value and a profile interval may then disagree."
)
_SEVERAL_MAXIMA = (
    "Firth's penalised likelihood can have several maxima over the other coefficients, above all "
    "where classes are separated: each bound is the farthest of many searches, which is no proof, "
    "and may be nearer to the estimate than it should be."
)
#: Standard errors by which Firth's penalty moves estimates that may be at a lower maximum.
_FAR_SHIFT = 0.5
_TOO_LARGE = "too large"
#: Heads of the table by the family of models, and outcomes whose name nobody told.
_HEADINGS = {
    "logistic": ("Log odds", "label 1 of each hospital"),
    "softmax": ("Log odds", "label 1 of each hospital"),
    "gaussian": ("Mean", "each hospital's outcome"),
    "poisson": ("Log mean", "each hospital's outcome"),
    "negative_binomial": ("Log mean", "each hospital's outcome"),
    "gamma": ("Log mean", "each hospital's outcome"),
    COX: ("Log hazard, by hospital and with Efron's ties,", "each hospital's outcome"),
    BRESLOW: ("Log hazard, by hospital and with Breslow's ties,", "each hospital's outcome"),
}
#: Name of the last row of each contrast, in metrics.json.
INTERCEPT = "(intercept)"


def coefficient_table(metrics: Metrics) -> RenderableType | None:
    """List the coefficients of a model, or say in a sentence why they have no standard errors.

    Returns
    -------
    RenderableType or None
        ``None`` where nobody but the hospitals has the model.
    """
    inference = metrics.get("inference")
    if inference is None:
        return None
    if (reason := withheld(inference)) is not None:
        return Text(reason)
    sheets = coefficient_sheets(metrics)
    blocks: list[RenderableType] = [*map(DividedTable, sheets)]
    blocks += [Text(note) for note in left_out_notes(inference)]
    if (tests := group_sheet(inference)) is not None:
        blocks.append(DividedTable(tests))
    blocks += [Text(note) for note in group_notes(inference)]
    if (profile := profile_sheet(inference)) is not None:
        blocks.append(DividedTable(profile))
    blocks += [Text(note) for note in profile_notes(inference)]
    blocks += map(DividedTable, [*hazard_sheets(inference), *site_sheets(inference)])
    blocks += map(Text, [*hazard_notes(inference), *site_notes(inference)])
    said = [f"{name}: {figure}" for name, figure in fit_facts(inference).items()]
    blocks += map(Text, filter(None, [site_note(inference)]))
    if has_estimates(inference):
        blocks.append(Text(wald_note(inference)))
        blocks += map(Text, filter(None, [lower_maximum_note(inference)]))
        said = [_caption(metrics, sheets), *reference_note(metrics), rows_note(metrics), *said]
    else:
        said = [rows_note(metrics), *said]
    return Group(*blocks, Text("\n".join(said)))


def has_estimates(inference: Mapping[str, Any]) -> bool:
    """Return whether any coefficient has an estimate: in separated classes none may have one."""
    return any(row["estimate"] is not None for row in inference["coefficients"])


def wald_note(inference: Mapping[str, Any]) -> str:
    """Say of which kind the p values and intervals of estimates are."""
    if (freedom := inference.get("freedom")) is not None:
        return f"{_WALD}, by Student's distribution with {count(freedom)} degrees of freedom."
    if not has_firth(inference):
        return f"{_WALD}."
    return f"{_WALD}, from the information without the penalty. {_PREFER_PROFILE}"


def lower_maximum_note(inference: Mapping[str, Any]) -> str | None:
    """Say that estimates with Firth's penalty may be at a lower maximum; ``None`` elsewhere."""
    shift = inference.get("penalty_shift")
    if shift is None or shift < _FAR_SHIFT:
        return None
    return (
        f"Firth's penalty moves the estimates by about {fixed(shift, 1)} standard errors. From "
        f"{_FAR_SHIFT} on, as where classes are separated, patients or events are few, or values "
        "lie far out, its penalised likelihood can have several maxima, and the estimates may be "
        "those of a lower one: no other maximum for all coefficients together was looked for. "
        "Say so where the estimates are published, and check values that lie far out."
    )


def _caption(metrics: Metrics, sheets: Sequence[Sheet]) -> str:
    said = deviation_note(metrics, sheets)
    what = (ratio_name(metrics["inference"]) or "estimate").capitalize()
    at_zero = "mean outcome" if of_number(metrics) else "odds"
    about = f"{what[0].lower()}{what[1:]}: for one unit more of the feature{said and f', {said}'}"
    if of_time(metrics) or has_site_intercepts(metrics["inference"]):
        return about
    exposed = ", for an exposure of 1" if metrics.get("exposure") else ""
    return f"{about}; {INTERCEPT}: the {at_zero} where all features are 0{exposed}"


def has_site_intercepts(inference: Mapping[str, Any]) -> bool:
    """Return whether each hospital has its own intercept."""
    return inference.get("site_intercepts") is not None


def site_note(inference: Mapping[str, Any]) -> str | None:
    """Say what hospitals with intercepts of their own contribute; ``None`` without such."""
    if (sites := inference.get("site_intercepts")) is None:
        return None
    said = (
        f"Each of {count(sites['contributing'])} hospitals has its own intercept, so the "
        "coefficients compare patients of the same hospital."
    )
    if not sites["silent"] and not sites["withheld"]:
        return said
    return said + " " + _silent_words(sites)


def _silent_words(sites: Mapping[str, int]) -> str:
    """Say how many patients have no part in the coefficients."""
    why = "of hospitals with outcomes of one class, or counts of 0, alone contribute nothing"
    if not sites["withheld"]:
        return f"{count(sites['silent'])} patients {why}."
    return f"Some patients {why}; their number is withheld, as a hospital has few."


def ratio_name(inference: Mapping[str, Any]) -> str:
    """Return the name of the exponential of a coefficient; empty where it means nothing."""
    return ratio_key(inference).replace("_", " ")


def ratio_key(inference: Mapping[str, Any]) -> str:
    """Return the same name in metrics.json."""
    return str(inference.get("ratio", ODDS_RATIO) or "")


def per_deviation(metrics: Metrics) -> str:
    """Return the heading of odds ratios for one standard deviation more of a feature."""
    return "per noisy SD" if metrics.get("privacy") else "per SD"


def deviation_note(metrics: Metrics, sheets: Sequence[Sheet], of_what: str = "") -> str:
    """Explain the odds ratios per standard deviation of tables of coefficients; "" without any."""
    heading = per_deviation(metrics)
    if not any(column.startswith(heading) for sheet in sheets for column in sheet.columns):
        return ""
    noisy = ", known only with the noise of privacy" if metrics.get("privacy") else ""
    return f"{heading}: for one standard deviation more{of_what}{noisy}"


def rows_note(metrics: Metrics) -> str:
    """Say how many patients the estimates are of, with the events if they are known."""
    inference, held_out = metrics["inference"], metrics.get("tested_on")
    said = f"n = {count(metrics['federated']['examples'])} patients"
    if (events := inference.get("events")) is not None:
        said += f", events = {count(events)}"
        if not of_time(metrics):  # whose outcome is the time
            said += f" ({inference['outcome'] or 'label 1'})"
    if held_out:
        said += f"; the test set of {count(held_out)} is left out"
    return "; ".join([said, *incomplete_note(metrics)])


def reference_note(metrics: Metrics) -> list[str]:
    """Return the levels that a schema's categories are compared with; empty if not known."""
    references = metrics.get("reference_levels") or {}
    levels = [f"{name}[{level}]" for name, level in references.items()]
    return [f"reference levels: {listed(levels)}"] * bool(levels)


def withheld(inference: Mapping[str, Any]) -> str | None:
    """Say why there are no standard errors; ``None`` if there are."""
    reason = inference["withheld"]
    return reason and f"No standard errors, p values and intervals: {reason}."


def coefficient_sheets(metrics: Metrics) -> list[Sheet]:
    """Return a table for each class that is compared with the reference, one of two classes."""
    inference = metrics["inference"]
    rows, contrasts = inference["coefficients"], dict[str | None, list[Mapping[str, Any]]]()
    for row in rows:
        contrasts.setdefault(row["class"], []).append(row)
    return [_sheet(metrics, name, found) for name, found in contrasts.items()]


def left_out_notes(inference: Mapping[str, Any]) -> list[str]:
    """Say which features have no estimate, and why: a sentence for each reason."""
    rows = inference["coefficients"]
    said = dict[str, set[str | None]]()
    for row in rows:
        said.setdefault(row["name"], set()).add(row["left_out"])
    reasons = dict[tuple[str, str], dict[str, None]]()
    for row in rows:
        if row["left_out"]:
            contrast = f" ({row['class']} against {inference['reference']})"
            key = (contrast if len(said[row["name"]]) > 1 else "", row["left_out"])
            reasons.setdefault(key, {})[row["name"]] = None
    return [
        f"{listed([*names])}{contrast}: {NOT_AVAILABLE}, "
        f"{_of_each(why) if len(names) > 1 else why}."
        for (contrast, why), names in reasons.items()
    ]


def _of_each(reason: str) -> str:
    """Return a reason of one column as one of several columns."""
    if reason.startswith("it does"):
        return reason.replace("it does", "they do", 1)
    return reason.replace("it is", "each is", 1) if reason.startswith("it is") else reason


def fit_facts(inference: Mapping[str, Any]) -> dict[str, str]:
    """Return how well the model fits, in words and figures; nothing where that is withheld."""
    fit = inference["fit"]
    if fit is None:
        return {}
    firth = has_firth(inference)
    null = fit["penalised_null_log_likelihood" if firth else "null_log_likelihood"]
    alone, against = _alone(inference)
    of_null = "" if null is None else f" ({alone}: {fixed(null, 3)})"
    unknown = "not known, as not the same hospitals were in the first and in the last total"
    test = fit["likelihood_ratio"]
    tested = unknown if test is None else _test_text(test, against)
    if firth:
        return {
            "penalised log likelihood": f"{fixed(fit['penalised_log_likelihood'], 3)}{of_null}",
            "log likelihood without the penalty": fixed(fit["log_likelihood"], 3),
            "penalised likelihood-ratio test": tested,
        }
    if is_partial(inference):
        return {
            "log partial likelihood": f"{fixed(fit['log_likelihood'], 3)}{of_null}",
            "likelihood-ratio test": tested,
            "AIC": fixed(fit["aic"], 3),
        }
    explained = {"McFadden's R2": unknown if null is None else fixed(fit["mcfadden_r2"], 4)}
    known = {
        "log likelihood": f"{fixed(fit['log_likelihood'], 3)}{of_null}",
        "likelihood-ratio test": tested,
        "AIC": fixed(fit["aic"], 3),
    }
    if (alpha := inference.get("overdispersion")) is not None:
        return {**known, **explained, "dispersion alpha": _alpha_text(alpha, inference["level"])}
    if fit.get("pearson") is not None:
        explained = _number_facts(inference)
    return {
        **known,
        "deviance": fixed(fit["deviance"], 3)
        + ("" if null is None else f" ({alone}: {fixed(fit['null_deviance'], 3)})"),
        **explained,
    }


def _alpha_text(alpha: Mapping[str, float | None], level: float) -> str:
    """Return alpha with its standard error and its interval."""
    if (error := alpha["standard_error"]) is None:
        return short(alpha["alpha"])
    figures, digits = (alpha["alpha"], error, alpha["lower"], alpha["upper"]), places([error], 3, 6)
    found, said, low, high = (fixed(one, digits) for one in figures)
    return f"{found} (std. error {said}, {level:.0%} interval {low} to {high})"


def _alone(inference: Mapping[str, Any]) -> tuple[str, str]:
    """Return words for the model without features, in a table and in a sentence."""
    if is_partial(inference):
        return "no feature", "no feature"
    if has_site_intercepts(inference):
        return "hospitals' intercepts only", "the hospitals' intercepts only"
    return "intercept only", "the intercept only"


def _number_facts(inference: Mapping[str, Any]) -> dict[str, str]:
    """Return how well a model of a number fits: the explained deviance, and the dispersion."""
    fit, linear = inference["fit"], not ratio_key(inference)
    d2, dispersion = fixed(fit["d2"], 4), fit["dispersion"]
    facts = {"R2" if linear else "explained share of the deviance (D2)": d2}
    if linear:
        root = None if dispersion is None else math.sqrt(dispersion)
        return {**facts, "residual standard deviation": UNKNOWN if root is None else f"{root:.4g}"}
    said = fixed(dispersion, 4)
    if (p := fit.get("dispersion_p_value")) is not None:
        said += f", 1 by assumption (one-sided test: p {'' if p < 0.001 else '= '}{p_value(p)})"
    return {
        **facts,
        "Pearson's chi-square": fixed(fit["pearson"], 3),
        "dispersion (Pearson's chi-square / degrees of freedom)": said,
    }


def is_partial(inference: Mapping[str, Any]) -> bool:
    """Return whether the likelihood is a partial one, as of a Cox model."""
    return ratio_key(inference) == "hazard_ratio"


def has_firth(inference: Mapping[str, Any]) -> bool:
    """Return whether the estimates have Firth's penalty."""
    return bool(inference.get("penalty") == "firth")


def profile_sheet(inference: Mapping[str, Any]) -> Sheet | None:
    """Return the profile likelihood intervals, ``None`` if there are none."""
    profile = inference.get("profile")
    if not profile or not profile["intervals"]:
        return None
    rows, level = profile["intervals"], f"{inference['level']:.0%}"
    kind = "penalised likelihood" if has_firth(inference) else "likelihood"
    widths = [
        row["upper"] - row["lower"] for row in rows if None not in (row["lower"], row["upper"])
    ]
    digits = places(widths, 3, 6)
    without = _left_out(inference)
    cells = [
        (row["name"], NOT_AVAILABLE)
        if row["name"] in without
        else (
            row["name"],
            _ends([row["lower"], row["upper"]], row, _written_as(row, digits)),
            _ends(
                [row["odds_ratio_lower"], row["odds_ratio_upper"]],
                *(row, lambda ratio: _positive(ratio, digits)),
            ),
        )
        for row in rows
    ]
    columns = ("feature", f"{level} interval", "odds ratio")
    return Sheet(f"Profile {kind} intervals", columns, list(map(Row, cells)))


def _written_as(row: Mapping[str, Any], digits: int) -> Callable[[float], str]:
    """Return how both bounds of an interval are written: with an exponent if the width is tiny."""
    ends = [value for value in (row["lower"], row["upper"]) if value is not None]
    width = max(ends) - min(ends) if len(ends) > 1 else sum(ends)
    return lambda value: _end(value, width, digits)


def profile_notes(inference: Mapping[str, Any]) -> list[str]:
    """Say which bounds of profile likelihood intervals are not there or not sure, and why."""
    profile = inference.get("profile")
    if not profile:
        return []
    if profile["withheld"]:
        return [f"No profile likelihood intervals: {profile['withheld']}."]
    without = _left_out(inference)  # which a sentence of all estimates names
    bounds = any(row[end] is not None for row in profile["intervals"] for end in ("lower", "upper"))
    searched = [_SEVERAL_MAXIMA] if has_firth(inference) and bounds else []
    return searched + [
        f"{row['name']}, {end} bound: {row[f'{end}_reason']}."
        for row in profile["intervals"]
        for end in ("lower", "upper")
        if row[f"{end}_reason"] and row["name"] not in without
    ]


def _left_out(inference: Mapping[str, Any]) -> dict[str, str]:
    """Return the reasons, by the names of columns without an estimate."""
    rows = inference["coefficients"]
    return {row["name"]: row["left_out"] for row in rows if row["left_out"]}


def _ends(
    values: Sequence[float | None],
    row: Mapping[str, Any],
    write: Callable[[float], str],
) -> str:
    """Write both ends of an interval, in words where there is none."""
    words = []
    for end, value in zip(("lower", "upper"), values, strict=True):
        reason = row[f"{end}_reason"]
        if reason is None:
            words.append(_TOO_LARGE if value is None else write(value))
        else:
            beyond = reason.startswith("beyond")
            words.append(reason.partition(":")[0] if beyond else "not found")
    return " to ".join(words)


def group_sheet(inference: Mapping[str, Any]) -> Sheet | None:
    """Return the tests of groups of columns, ``None`` if there are none."""
    if not inference["groups"]:
        return None
    rows = [
        Row((", ".join(test["columns"]), fixed(test["chi2"], 2), count(test["df"]), p_value(p)))
        for test in inference["groups"]
        for p in [test["p_value"]]
    ]
    return Sheet("Wald tests of columns together", ("columns", "chi-square", "df", "p"), rows)


def group_notes(inference: Mapping[str, Any]) -> list[str]:
    """Say which columns a test leaves out, and which tests are not there, and why."""
    without = _left_out(inference)
    notes = []
    for test in inference["groups"]:
        gone = [name for name in test["columns"] if name in without]
        if test["p_value"] is not None:
            if gone:
                notes.append(_partly_tested(test["columns"], gone))
            continue
        found = {without[name]: name for name in reversed(gone)}
        named = "{}: {}" if len(test["columns"]) > 1 else "{1}"
        why = "; ".join(named.format(name, reason) for reason, name in reversed(found.items()))
        notes.append(
            f"No Wald test of {listed(test['columns'])}: {why or 'their covariance is singular'}."
        )
    return notes


def _partly_tested(columns: Sequence[str], gone: Sequence[str]) -> str:
    """Say that a test of columns is not of those without an estimate."""
    tested = len(columns) - len(gone)
    return (
        f"{listed(gone)} {'is' if len(gone) == 1 else 'are'} {NOT_AVAILABLE}: "
        f"{count(tested)} column{'s were' if tested > 1 else ' was'} tested of {listed(columns)}."
    )


def _test_text(test: Mapping[str, Any], against: str) -> str:
    sign = "" if (test["p_value"] or 0) < 0.001 else "= "
    return (
        f"chi-square {fixed(test['chi2'], 2)}, df {count(test['df'])}, "
        f"p {sign}{p_value(test['p_value'])} (against {against})"
    )


def _sheet(metrics: Metrics, contrast: str | None, rows: Sequence[Mapping[str, Any]]) -> Sheet:
    inference, per_sd = metrics["inference"], per_deviation(metrics)
    outcome = inference["outcome"]
    if contrast is not None:
        start = "" if outcome is None else f"{outcome} = "
        outcome = f"{start}{contrast} against {inference['reference']}"
    start, nameless = _HEADINGS.get(family(metrics), _HEADINGS["logistic"])
    heading = f"{start} of {outcome or nameless}"
    if exposure := metrics.get("exposure"):
        heading += f", with exposure {exposure}"
    if inference["penalised"]:
        heading += ", with Firth's penalty" if has_firth(inference) else ", penalised"
    if metrics.get("privacy"):
        heading += ", with the noise and clipping of differential privacy"
    key, name = ratio_key(inference), ratio_name(inference)
    keys = [one for one in (key, f"{key}_sd") if key and known(rows, one)]
    headings = [name if one == key else per_sd for one in keys]
    columns = ["feature", "estimate"]
    if not known(rows, "standard_error"):
        digits = places(known(rows, "estimate"), 3, 6)
        columns += headings
        cells = [
            (
                row["name"],
                _estimate(row, "estimate", digits),
                *(_ratio(row, key, "estimate", 3) for key in keys),
            )
            for row in rows
        ]
        return Sheet(heading, columns, list(map(Row, cells)))
    interval = f"{inference['level']:.0%} interval"
    statistic = "z" if inference.get("freedom") is None else "t"
    columns += ["std. error", interval, statistic, "p"]
    columns += [f"{one} ({interval})" for one in headings]
    digits = places(known(rows, "standard_error"), 2, 6)
    shown = {key: _ratio_places(rows, key) for key in keys}
    return Sheet(heading, columns, [Row(_cells(row, digits, shown)) for row in rows])


def _cells(row: Mapping[str, Any], digits: int, shown: Mapping[str, int]) -> Sequence[str]:
    if row["left_out"]:
        return (row["name"], NOT_AVAILABLE)
    cells = [row["name"]]
    cells += [_estimate(row, key, digits) for key in ("estimate", "standard_error")]
    error = row["standard_error"]
    ends = [_end(row[key], error, digits) for key in ("lower", "upper")]
    cells += [_interval(ends), fixed(row["z"], 2), p_value(row["p_value"])]
    for key, decimals in shown.items():
        names = (("", "estimate"), ("_lower", "lower"), ("_upper", "upper"))
        middle, *ends = (_ratio(row, f"{key}{end}", of, decimals) for end, of in names)
        bare = not middle or {middle, *ends} == {_TOO_LARGE}
        cells.append(middle if bare else f"{middle} ({_interval(ends)})")
    return cells


def _interval(ends: Sequence[str]) -> str:
    return UNKNOWN if UNKNOWN in ends else " to ".join(ends)


def _estimate(row: Mapping[str, Any], key: str, digits: int) -> str:
    """Write a figure of a column's log odds, or that there is none."""
    if row["left_out"]:
        return NOT_AVAILABLE
    return _logarithm(row[key], row["standard_error"] or row["estimate"], digits)


def _logarithm(value: float | None, error: float | None, digits: int) -> str:
    """Write a figure of the log odds; with an exponent where the digits do not show its error."""
    if value and error and abs(error) < 10.0 ** (1 - digits):
        return f"{value:.2e}"
    return fixed(value, digits)


def _end(value: float | None, error: float | None, digits: int) -> str:
    """Write an end of an interval of the log odds, whose side of 0 shows."""
    text = _logarithm(value, error, digits)
    return f"{value:.1e}" if value and not float(text) else text


def _ratio(row: Mapping[str, Any], key: str, logarithm: str, digits: int) -> str:
    value = row[key]
    if value is None:
        if row["left_out"] or (row["name"] == INTERCEPT and "_sd" in key):
            return ""
        return UNKNOWN if row[logarithm] is None else _TOO_LARGE
    return _positive(value, digits)


def _positive(value: float, digits: int) -> str:
    """Write an odds ratio, which is never 0; with the side of 1 if the text reads 1."""
    smallest = 10.0**-digits
    if value < smallest / 2:
        return f"<{smallest:.{digits}f}"
    text = fixed(value, digits)
    if value == 1.0 or float(text) != 1.0:
        return text
    return f"{'<' if value < 1.0 else '>'}{text}"


def _ratio_places(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    """Return the digits that show how wide the narrowest interval of odds ratios is."""
    ends = ((row[f"{key}_lower"], row[f"{key}_upper"]) for row in rows)
    widths = [upper - lower for lower, upper in ends if None not in (lower, upper)]
    return max(3, places(widths, 3, 6) - 1)
