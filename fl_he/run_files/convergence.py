"""Whether training reached the optimum, and why not: sentences that terminal and page share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fl_he.run_files.metrics_contract import COUNTS, SURVIVAL

#: Said of columns and classes: the whole table may differ.
CONSTANT = "it does not vary in the training data"
WITHIN_SITES = "it does not vary within any hospital, and each has its own intercept"
#: Said of the intercept, where each hospital has one.
OF_EACH_SITE = "each hospital has its own, which does not leave it"
_SUBJECTS = {
    **dict.fromkeys(COUNTS, "counts of 0 and counts above 0 in the training data"),
    **dict.fromkeys(SURVIVAL, "events and the patients at risk in the training data"),
}
_CLASSES = "the classes of the training data"
#: Said of models that did not reach an optimum.
NOT_THE_OPTIMUM = "training ended before it converged, so the model is not the optimum"
NO_OPTIMUM = "without a penalty the model has no finite optimum"
NO_FINITE, NO_UNIQUE = "no finite estimate", "no unique estimate"
_FIRST_ORDER = (
    "separation was not looked for, as only optimizer=newton shows one that is not complete: "
    "estimates, the largest above all, may be infinite; set optimizer=newton to find out"
)
#: Said of models whose classes weighed by their rarity.
WEIGHTED = (
    "class_weight=balanced shifts probabilities and intercept towards equal classes, so the "
    "probabilities are no forecasts of the share of patients"
)
#: Said of models with Firth's penalty.
FIRTH_BIASED = (
    "Firth's penalty biases probabilities towards 1/2, so those of rare events are too high (Puhr "
    "and others 2017)"
)
#: Said of models with differential privacy.
NOISY = (
    "the noise and clipping of differential privacy are in the model, and so in its probabilities"
)
#: Said of private runs of features that are not scaled.
DECLARE_RANGES = "declare their ranges with ranges=FILE in place of scaling=none"
#: A loss that grew by more than this factor is warned of.
_GROWN = 2
#: Optimizers that have a learning rate.
_WITH_LR = ("gd", "nesterov")
#: Columns that a sentence names.
_MOST_NAMED = 10
#: Dispersion of counts from which, with such a p value, a Poisson model is warned of: its standard
#: errors are then at least 5 % too small.
_DISPERSED, _DISPERSED_P_VALUE = 1.1, 0.001
#: The forecasts of a private run that are compared, in metrics.json.
_FORECASTS = ("class_shares", "federated")
_COUNTED = "in the encrypted counts"
#: Figures of quality that are shares of patients, and decimals of any figure at most.
_RATES, _DECIMALS = ("accuracy", "balanced_accuracy"), 3


def subject(family: str) -> str:
    """Return what a model of a family separates."""
    return _SUBJECTS.get(family, _CLASSES)


def converged(metrics: Mapping[str, Any]) -> bool | None:
    """Return whether a training run converged; ``None`` where nobody can tell.

    Nobody can with differential privacy, whose noise ends no run. In a sealed chain company X says
    whether it did, and no more.

    Parameters
    ----------
    metrics : mapping
        Of a training run, as metrics.json holds it.
    """
    last = metrics["rounds"][-1]
    sealed = metrics.get("config", {}).get("sealed", False)
    if metrics.get("privacy") or (last.get("gradient_norm") is None and not sealed):
        return None
    return bool(last.get("converged"))


def divergence(rounds: Sequence[Mapping[str, Any]], optimizer: str | None) -> str:
    """Say that training diverges if its loss has more than doubled since the first round.

    After one round of an optimizer with a learning rate the loss on the test set is all that is
    known of the step.

    Parameters
    ----------
    rounds : sequence of mapping
        Entries of ``rounds`` in metrics.json.
    optimizer : str or None
        Its name; ``None`` in metrics of earlier releases.

    Returns
    -------
    str
        A sentence, or nothing.
    """
    first, last = _first_and_last(rounds)
    if len(rounds) == 1 and optimizer in _WITH_LR:
        before, after = rounds[0]["loss"], rounds[0]["test_loss"]
        if before is None or after is None or after <= _GROWN * before:
            return ""
        return (
            f"the loss was {before:.3g}, and on the test set {after:.3g} after the first step, so "
            "the step was too long: lower optimizer.lr"
        )
    # Not "greater": the loss of a model that has overflowed is not a number.
    if first is None or last is None or last <= _GROWN * first:
        return ""
    said = f"the training loss went from {first:.3g} to {last:.3g}, so training diverges"
    return f"{said}: lower optimizer.lr" if optimizer in _WITH_LR else said


def overfitting(metrics: Mapping[str, Any]) -> str:
    """Say that the loss on the test set grew while the training loss fell; nothing if not."""
    config, rounds = metrics["config"], metrics["rounds"]
    (first, last), tested = _first_and_last(rounds), metrics["federated"]["log_loss"]
    if first is None or last is None or tested is None:
        return ""
    if last >= first or tested <= _GROWN * first:
        return ""
    C = config.get("C")
    penalty = "set C=1.0" if C is None else f"lower C, now {C:g}"
    if config.get("penalty") == "firth":
        penalty = "set penalty=l2 C=1.0"
    return (
        f"the training loss fell from {first:.3g} to {last:.3g}, but the loss on the test set is "
        f"{tested:.3g}, so the model is overfitted, or rows of the test set are far from the "
        f"others: look for wrong values, {penalty}, or train with fewer columns (data.drop) or "
        "more patients"
    )


def _first_and_last(rounds: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Return the training losses of the first and the last round that are known, if two are."""
    known = [entry["loss"] for entry in rounds if entry["loss"] is not None]
    return (known[0], known[-1]) if len(known) > 1 else (None, None)


def listed(names: Sequence[str]) -> str:
    """Name columns in a sentence, a few if there are many; quote names that hold what parts them.

    Examples
    --------
    >>> listed(["age"]), listed(["age", "bmi", "crp"])
    ('age', 'age, bmi and crp')
    >>> print(listed(["height and weight", "a, b"]))
    'height and weight' and 'a, b'
    """
    shown = [
        repr(name) if re.search(r"[,;:]|\band\b", name) else name for name in names[:_MOST_NAMED]
    ]
    if len(names) > _MOST_NAMED:
        more = len(names) - _MOST_NAMED
        return f"{', '.join(shown)} and {more} more column{'s' if more > 1 else ''}"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def combination(earlier: Sequence[str]) -> str:
    """Say what an aliased column is, by the columns that make it."""
    return f"a linear combination of {listed(earlier)} and a constant in the training data"


def carried_by(earlier: Sequence[str], columns: int = 1) -> str:
    """Say where the effects of this many aliased columns are that are left out."""
    effect = "its effect is" if columns == 1 else "their effects are"
    return f"{effect} in the estimate{'s' if len(earlier) > 1 else ''} of {listed(earlier)}"


def separating(columns: Sequence[str], largest: Sequence[str] = ()) -> str:
    """Say what separates the classes: a column, a combination of columns, or neither.

    Parameters
    ----------
    columns : sequence of str
        Those of the combination that was found, the largest part first. Fewer may separate too.
    largest : sequence of str
        Those whose parts are as large as the largest; by default the first column.

    Examples
    --------
    >>> separating(["age"]), separating([])
    ('age', 'the intercept alone')
    >>> separating(["crp", "age"])
    'a linear combination of crp and age, in which crp has the largest part'
    >>> separating(["crp", "age"], ["crp", "age"])
    'a linear combination of crp and age, in which crp and age have the largest parts'
    """
    if not columns:
        return "the intercept alone"
    if len(columns) == 1:
        return listed(columns)
    largest = largest or columns[:1]
    part = "has the largest part" if len(largest) == 1 else "have the largest parts"
    return f"a linear combination of {listed(columns)}, in which {listed(largest)} {part}"


def separation(metrics: Mapping[str, Any]) -> str:
    """Say that the classes are separated, or may be; nothing where neither is known."""
    found = (metrics.get("diagnostics") or {}).get("separation")
    if not found:
        return ""
    several, remedy = bool(metrics.get("classes")), _remedy(metrics)
    of_counts, of = metrics.get("family") in _SUBJECTS, subject(metrics.get("family", ""))
    columns = separating(found["columns"], found.get("largest") or ())
    if found["kind"] == "not proved":
        # A run that stopped by itself stops there again.
        used_up = len(metrics["rounds"]) >= metrics["config"].get("rounds", 0)
        more = "raise rounds, or" if used_up else "more rounds would tell no more;"
        return (
            f"the data tell less and less of {columns} from round to round, as where "
            f"{of.partition(' and ')[0] if of_counts else 'the classes'} are separated, but "
            f"separation was not proved: {more} {remedy}"
        )
    if len(found["columns"]) > 1:
        columns += " (fewer columns may suffice)"
    border = "of several classes" if several else "of both classes"
    border = "of both kinds" if of_counts else border
    how = {
        "complete": f"{of} are completely separated by {columns}",
        "quasi-complete": f"{of} are separated by {columns}, but for patients {border} "
        "on the border (quasi-complete separation)",
    }
    not_finite = _not_finite(metrics, found["kind"])
    return f"{how.get(found['kind'], columns)}: {NO_OPTIMUM}, and {not_finite}; {remedy}"


def _not_finite(metrics: Mapping[str, Any], kind: str) -> str:
    """Say which coefficients of separated classes are not finite, and which are finite limits."""
    diagnostics, inference = metrics["diagnostics"], metrics.get("inference") or {}
    rows = inference.get("coefficients") or ()
    left_out = {*(diagnostics.get("constant") or ()), *(diagnostics.get("aliased") or ())}
    contrast = " ({} against {})" if metrics.get("classes") else ""
    names = dict[str, list[str]]()
    for row in rows:
        if row["estimate"] is None and row["name"] not in left_out:
            infinite = (row["left_out"] or "").startswith(NO_FINITE)
            lacks = NO_FINITE if infinite else NO_UNIQUE
            name = row["name"] + contrast.format(row["class"], inference["reference"])
            names.setdefault(lacks, []).append(name)
    complete = kind == "complete"
    if complete and NO_UNIQUE not in names:
        return f"all coefficients have {NO_FINITE}"
    if not complete and all(row["estimate"] is None for row in rows):
        return f"the coefficients of the columns that separate have {NO_FINITE}"
    said = [
        f"the coefficient{'s' if len(of) > 1 else ''} of {listed(of)} "
        f"{'have' if len(of) > 1 else 'has'} {lacks}"
        for lacks, of in sorted(names.items())
    ]
    limits = "" if complete else "; the other estimates in the table are finite limits"
    return " and ".join(said) + limits


def unseen_separation(metrics: Mapping[str, Any]) -> str:
    """Say why a separation may not show; nothing if one shows or none can exist."""
    config = metrics["config"]
    if separation(metrics):
        return ""
    if config.get("C") is not None or config.get("penalty") == "firth":
        return "separation was not looked for, since a penalised model has finite estimates"
    if metrics.get("privacy"):
        return "separation was not looked for"
    if not _by_newton(metrics):
        return _FIRST_ORDER
    if converged(metrics) is False:
        steps = len(metrics["rounds"])
        return f"separation cannot be told after {steps} round{'s' if steps > 1 else ''}"
    return ""


def unsought_separation(metrics: Mapping[str, Any]) -> str:
    """Say that a first-order optimizer may have missed a separation; nothing if none can exist."""
    unseen = unseen_separation(metrics)
    return unseen if unseen == _FIRST_ORDER else ""


def _by_newton(metrics: Mapping[str, Any]) -> bool:
    return (metrics.get("optimizer") or {}).get("name") == "newton"


def _remedy(metrics: Mapping[str, Any]) -> str:
    """Return settings with which a run like this one has a finite optimum, and is not refused."""
    config = metrics["config"]
    asked = [f"inference.{key}" for key, given in (config.get("inference") or {}).items() if given]
    ways = [f"C=1.0 without {listed(asked)}" if asked else "C=1.0"]
    if metrics.get("family", "logistic") == "logistic" and not metrics.get("classes"):
        firth = ["penalty=firth"]
        if config.get("class_weight") == "balanced":
            firth.append("class_weight=equal")
        if (config.get("optimizer") or {}).get("name", "auto") not in ("auto", "newton"):
            firth.append("optimizer=newton")
        ways.insert(0, " ".join(firth))
    return f"set {', or '.join(ways)}"


def decimals_given(evaluation: Mapping[str, Any], key: str) -> int:
    """Return the decimals of a figure of the encrypted counts to show: none that were rounded away.

    Examples
    --------
    >>> counts = {"examples": 225, "min_cell": 5}
    >>> [decimals_given(counts, key) for key in ("accuracy", "roc_auc", "log_loss")]
    [3, 2, 2]
    """
    # Earlier releases, and min_cell=1, give out whole figures.
    if key in _RATES or evaluation.get("min_cell", 1) == 1:
        return _DECIMALS
    return 2 if key == "roc_auc" else min(len(str(evaluation["examples"])) - 1, _DECIMALS)


def worse_than_shares(metrics: Mapping[str, Any]) -> str:
    """Say that a model forecasts worse than the class shares; nothing if no figure shows it.

    Where nobody holds test data, the shares are those of the encrypted counts.
    """
    shares, reached = ((metrics.get(key) or {}).get("log_loss") for key in _FORECASTS)
    counted = metrics.get("evaluation") or {}
    where = "on the test set"
    if reached is None:
        reached, where = counted.get("log_loss"), _COUNTED
        shares = _entropy([one.get("examples") for one in counted.get("by_class") or ()])
    if shares is None or reached is None:
        return ""
    digits, area_digits = (
        decimals_given(counted, key) if where == _COUNTED else _DECIMALS
        for key in ("log_loss", "roc_auc")
    )
    # A difference that no figure shows is none.
    if round(reached, digits) <= round(shares, digits):
        return ""
    said = (
        f"the model's probabilities are worse than the class shares alone: log loss "
        f"{reached:.{digits}f} {where}, against {shares:.{digits}f}"
    )
    if metrics.get("privacy") and metrics["config"].get("scaling") == "none":
        return f"{said}; its features were not scaled: {DECLARE_RANGES}"
    area = (counted if where == _COUNTED else metrics["federated"]).get("roc_auc")
    ranks = ""
    if area is not None and round(area, area_digits) > 0.5:
        ranks = f"it may still rank patients (ROC AUC {area:.{area_digits}f}), but "
    return f"{said}; {ranks}use its probabilities only after calibration on other data"


def _entropy(sizes: Sequence[int | None]) -> float | None:
    """Return the log loss of the shares of classes of such sizes; ``None`` if one is not known."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not any(known):
        return None
    return -sum(size * math.log(size / sum(known)) for size in known if size) / sum(known)


def weighted_classes(metrics: Mapping[str, Any]) -> str:
    """Say that class weights shift probabilities; nothing if the classes weigh the same."""
    if metrics["config"].get("class_weight") != "balanced":
        return ""
    return (
        f"{WEIGHTED}: log loss, Brier score and calibration are those of shifted probabilities; "
        "set class_weight=equal for forecasts"
    )


def warnings(metrics: Mapping[str, Any]) -> list[str]:
    """Return warnings of a finished run, for the terminal and the head of the page."""
    told = (worse_than_shares, weighted_classes, _unfinished, unsought_separation, overdispersed)
    return [said for one in told if (said := one(metrics))]


def overdispersed(metrics: Mapping[str, Any]) -> str:
    """Say that counts vary more than a Poisson model assumes; nothing if that is not seen."""
    fit = (metrics.get("inference") or {}).get("fit") or {}
    dispersion, p_value = fit.get("dispersion"), fit.get("dispersion_p_value")
    if dispersion is None or p_value is None:
        return ""
    if dispersion < _DISPERSED or p_value >= _DISPERSED_P_VALUE:
        return ""
    return (
        f"the counts vary more than the Poisson model assumes (dispersion {dispersion:.2f}, not 1; "
        "p <0.001): the standard errors are too small by a factor of about "
        f"{math.sqrt(dispersion):.2f}, the intervals too narrow and the p values too small; use "
        "the family negative_binomial in place of poisson"
    )


def _unfinished(metrics: Mapping[str, Any]) -> str:
    """Say that training diverged, overfitted or did not converge; nothing if none is known."""
    rounds = metrics["rounds"]
    optimizer = (metrics.get("optimizer") or {}).get("name")
    if found := divergence(rounds, optimizer):
        return found
    ended_early = converged(metrics) is False
    if ended_early and (found := separation(metrics)):
        return found
    if (found := overfitting(metrics)) or not ended_early:
        return found
    before = f"before the last of {len(rounds)} steps"  # the last total is of that model
    distance, norm = rounds[-1].get("distance"), rounds[-1].get("gradient_norm")
    if distance is not None and _by_newton(metrics):
        left = f"{before} {distance:.3g} standard errors were left; raise rounds"
    elif norm is not None:
        left = f"{before} the gradient's norm was {norm:.3g}; raise rounds, or set optimizer=newton"
    else:
        left = f"company X has not seen it converge in {len(rounds)} rounds; raise rounds"
    return f"{NOT_THE_OPTIMUM}: {left}"
