"""The federated model next to each hospital alone and the pooled data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from fl_he.report.blocks import Row
from fl_he.report.figures import (
    UNKNOWN,
    count,
    decimal,
    family,
    features_of,
    known,
    mean,
    of_number,
    of_time,
    p_value,
    run_name,
)
from fl_he.report.tables.fitted import FittedTable, keep_whole
from fl_he.run_files.convergence import converged, decimals_given, worse_than_shares
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import CONCORDANCE, FIGURES, SURVIVAL

LOCAL = "hospitals alone, mean"
FEDERATED = "federated (encrypted)"
_POOLED = "pooled (scikit-learn)"
_POOLED_FIRTH = "pooled (not encrypted)"
_PRIVATE = "federated (encrypted, epsilon {:.3g})"
_WITHOUT = "the same without noise"
_SHARES = "the class shares alone"
_COUNTED = "encrypted counts, {} held out"
#: Names of figures in a sentence that are not all in small letters.
_CAPITALS = {"roc_auc": "ROC AUC", "brier_score": "Brier score"}


def _significant(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the comparison, in the terminal and on the page.

    Attributes
    ----------
    key : str
        Of a model in metrics.json.
    heading : str
        In two lines where the terminal shows it so.
    short : str
        The same in a narrow terminal.
    write : callable
        Return the text of a value, which may be None.
    """

    key: str
    heading: str
    short: str
    write: Callable[[float | None], str] = decimal


#: All columns but the model's name: the number of examples, then
#: :data:`fl_he.run_files.metrics_contract.FIGURES` in their order.
COLUMNS = (
    Column("examples", "trained\non", "n", count),
    Column("accuracy", "accuracy", "acc."),
    Column("balanced_accuracy", "balanced\naccuracy", "bal.\nacc."),
    Column("roc_auc", "ROC AUC", "ROC\nAUC"),
    Column("log_loss", "log loss", "log\nloss"),
)
#: The same of a model of a number, with NUMBER_FIGURES.
_OF_NUMBER = (
    COLUMNS[0],
    Column("rmse", "root mean\nsq. error", "RMSE", _significant),
    Column("mean_deviance", "mean\ndeviance", "mean\ndev.", _significant),
    Column("d2", "D2", "D2"),
)
#: The same of a time to an event.
_OF_TIME = (COLUMNS[0], Column(CONCORDANCE, "concordance", "conc."))
#: Figures that a reader looks for first, by family; of other families the deviance.
_HEADLINES = {
    **dict.fromkeys(("logistic", "softmax"), ("roc_auc", "log_loss")),
    **dict.fromkeys(SURVIVAL, (CONCORDANCE,)),
}
#: Means of a bin of a calibration.
_MEANS = ("predicted", "observed")
#: Hospitals that a table lists one by one; the others are counted.
_ROWS = 12
#: Narrower names than this are less readable than lines that the terminal wraps.
_NAME_WIDTH = 10
#: A larger difference from a fit of Newton's method is mostly of the other fit.
_TOLERANCE = 1e-9


def columns_of(metrics: Metrics) -> Sequence[Column]:
    """Return the columns of a run's comparison after the model's name."""
    if of_time(metrics):
        return _OF_TIME
    return _OF_NUMBER if of_number(metrics) else COLUMNS


def is_tested(metrics: Metrics) -> bool:
    """Return whether the federated model was tested on rows that are held out."""
    return any(metrics["federated"].get(one.key) is not None for one in columns_of(metrics)[1:])


def headlines(metrics: Metrics, *, with_pooled: bool = True) -> dict[str, str]:
    """Return the few figures of quality that a reader looks for first.

    On the test set, on request with those of the pooled fit; else of the encrypted counts of
    held-out examples; else the deviance on the training data.
    """
    keys = _HEADLINES.get(family(metrics), ("mean_deviance", "d2"))
    columns = [column for column in columns_of(metrics) if column.key in keys]
    federated, pooled = metrics["federated"], metrics["pooled"] or {}
    counted = metrics.get("evaluation") or {}
    found = {}
    for column in columns:
        key, name = column.key, column.heading.replace("\n", " ")
        if federated.get(key) is not None:
            found[f"{name} on the test set"] = column.write(federated[key])
            if with_pooled and pooled.get(key) is not None:
                found[f"{name} of the pooled fit"] = column.write(pooled[key])
        elif counted.get(key) is not None:
            written = decimal(counted[key], decimals_given(counted, key))
            found[f"{name} on held-out examples"] = written
    if found:
        return found
    fit = (metrics.get("inference") or {}).get("fit") or {}
    test = fit.get("likelihood_ratio") or {"p_value": None}
    if test["p_value"] is not None:
        found[f"likelihood-ratio test, {count(test['df'])} df"] = f"p {p_value(test['p_value'])}"
    if fit.get("deviance") is not None:
        found["deviance on the training data"] = f"{fit['deviance']:.5g}"
    return found


def compared_models(metrics: Metrics) -> list[Row]:
    """Return each hospital alone, their mean, the federated model and the pooled one.

    Returns
    -------
    list of Row
        The name of a model and a cell for each of `columns_of`; the run's own model is strong. At
        most twelve hospitals; the others are counted, in a row without figures, and all are in the
        mean.
    """
    local, privacy = metrics["local"] or [], metrics.get("privacy")
    columns = columns_of(metrics)

    def _row(name: str, model: Mapping[str, Any], *, strong: bool = False) -> Row:
        cells = (column.write(model.get(column.key)) for column in columns)
        return Row((name, *cells), strong=strong)

    rows = [_row(f"{entry['hospital']} alone", entry) for entry in local[:_ROWS]]
    if len(local) > _ROWS:
        rows.append(Row((f"... {len(local) - _ROWS} more",)))
    if local:
        rows.append(_row(LOCAL, {one.key: mean(known(local, one.key)) for one in columns}))
    name = _PRIVATE.format(privacy["epsilon"]) if privacy else FEDERATED
    rows.append(_row(name, metrics["federated"], strong=True))
    if privacy and privacy.get("without_noise"):
        rows.append(_row(_WITHOUT, {**metrics["federated"], **privacy["without_noise"]}))
    if metrics.get("class_shares") and (privacy or worse_than_shares(metrics)):
        rows.append(_row(_SHARES, {**metrics["federated"], **metrics["class_shares"]}))
    if metrics.get("evaluation") and not of_number(metrics):
        counted = metrics["evaluation"]
        name = _COUNTED.format(count(counted["examples"]))
        shown = (decimal(counted[key], decimals_given(counted, key)) for key in FIGURES)
        rows.append(Row((name, count(metrics["federated"]["examples"]), *shown)))
    if metrics["pooled"]:
        rows.append(_row(pooled_name(metrics), metrics["pooled"]))
    return rows


def pooled_name(metrics: Metrics) -> str:
    """Return what fitted the pooled data; scikit-learn has no penalty of Firth's."""
    by_scikit_learn = (metrics["pooled"] or {}).get("C") is not None
    firth = metrics["config"].get("penalty") == "firth" and not by_scikit_learn
    return _POOLED_FIRTH if firth else _POOLED


def others_note(metrics: Metrics) -> str:
    """Say that scikit-learn's models have another penalty than this run, or that it has none.

    Nothing if they have the same penalty, or nobody holds the pooled rows.
    """
    pooled = metrics["pooled"] or {}
    if metrics.get("simulated") and not pooled and of_number(metrics):
        return f"scikit-learn has no model of family {family(metrics)}: no pooled fit to compare."
    if metrics["config"].get("C") is not None or "C" not in pooled:
        return ""
    others = ["hospitals alone"] if metrics["local"] else []
    others += ["pooled"] if pooled["C"] is not None else []
    if not others:
        return ""
    penalty = "Firth's penalty" if metrics["config"].get("penalty") == "firth" else "no penalty"
    theirs, why = "have its default, C=1", "the classes of a small hospital are often separable"
    if of_number(metrics):
        theirs, why = "have one of C=1", "a small hospital's rows may leave no finite optimum"
    said = f"This run has {penalty}; scikit-learn's models ({', '.join(others)}) {theirs}"
    if metrics["local"]:
        said += f", as {why}"
    return f"{said}." if pooled["C"] is None else f"{said}. {_without_penalty(metrics)}"


def _without_penalty(metrics: Metrics) -> str:
    """Say why the pooled fit has scikit-learn's default penalty where the run has none."""
    found = (metrics.get("diagnostics") or {}).get("separation")
    if found and found["kind"] != "not proved":
        return "Separated classes have no finite optimum without a penalty."
    if metrics["config"].get("penalty") == "firth":
        return "On the pooled data no optimum with Firth's penalty was found."
    return "Without a penalty scikit-learn found no optimum of the pooled data."


def difference_note(metrics: Metrics) -> str:
    """Say how far the model is from the pooled fit, or why that is not known."""
    pooled = metrics["pooled"] or {}
    difference = pooled.get("largest_difference")
    if difference is None:
        if "largest_difference" not in pooled:
            return ""
        other = pooled["C"] != metrics["config"]["C"]
        why = "it has another penalty" if other else "separated classes have no finite optimum"
        return f"coefficients are not compared with the pooled fit: {why}"
    noise = ", the noise of privacy included" if metrics.get("privacy") else ""
    newton = (metrics.get("optimizer") or {}).get("name") == "newton"
    if newton and converged(metrics) and difference > _TOLERANCE:
        noise = ", the pooled fit's own stopping error included"
    return (
        f"largest difference of a coefficient from the pooled fit: {difference:.1e} "
        f"(coefficients of {features_of(metrics)}{noise})"
    )


def scores(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    """Return the Brier score and the calibration error of the encrypted counts as text."""
    names = ("brier_score", "calibration_error")
    brier, error = (decimal(evaluation.get(one), decimals_given(evaluation, one)) for one in names)
    return brier, error


def counted_text(metrics: Metrics) -> str:
    """Say in a line what company X gave out of the encrypted counts on held-out rows."""
    evaluation = metrics["evaluation"]
    of = f"{evaluation['examples']} held-out examples of {evaluation['hospitals']} hospitals"
    if not of_number(metrics):
        brier, error = scores(evaluation)
        return f"Brier score {brier}, calibration error {error} over {of}"
    bins = evaluation.get("calibration") or ()
    shares = [one["examples"] / evaluation["examples"] for one in bins]
    if not shares:
        return f"outcomes of {of} were added up"
    expected, observed = (
        _significant(sum(share * one[key] for share, one in zip(shares, bins, strict=True)))
        for key in _MEANS
    )
    return f"mean outcome {expected} expected and {observed} observed, over {of}"


def calibration_rows(evaluation: Mapping[str, Any]) -> list[Row]:
    """Return the bins of a calibration of numbers, by number, in ascending order."""
    bins = evaluation.get("calibration") or ()
    means = [Decimal(f"{one[key]:.6g}").normalize() for one in bins for key in _MEANS]
    digits = max(0, 0, *(-int(mean.as_tuple().exponent) for mean in means))
    return [
        Row((str(number), count(one["examples"]), *(f"{one[key]:.{digits}f}" for key in _MEANS)))
        for number, one in enumerate(bins, 1)
    ]


def withheld_note(evaluation: Mapping[str, Any]) -> str:
    """Say which figures company X withheld, and why; nothing if none."""
    withheld = evaluation.get("withheld") or {}
    names = [_CAPITALS.get(name, name.replace("_", " ")) for name in withheld]
    if not names:
        return ""
    return f"Company X withheld {', '.join(names)}: {next(iter(withheld.values()))}."


def tested_on(metrics: Metrics) -> str:
    """Say how large the test set is; earlier releases do not tell."""
    size = metrics.get("tested_on")
    return f"On the held-out test set{'' if size is None else f' of {count(size)} examples'}"


def comparison_table(metrics: Metrics) -> FittedTable | Text:
    """Compare the models of a run on the held-out test set; say so if none was tested."""
    rows, note = compared_models(metrics), others_note(metrics)
    if not any(cell != UNKNOWN for row in rows for cell in row.cells[2:]):
        examples = count(metrics["federated"]["examples"])
        said = f"Trained, not tested: {run_name(metrics)}, {examples} examples"
        return Text("\n".join(filter(None, (said, note))))
    title, columns = f"{tested_on(metrics)}: {run_name(metrics)}", columns_of(metrics)
    short = "n: trained on, bal. acc.: balanced accuracy"
    if of_time(metrics):
        short = "n: trained on, conc.: concordance"
    elif of_number(metrics):
        short = "n: trained on, RMSE: root mean squared error"
    wide = Table(title=Text(title), caption=note or None)
    narrow = Table(
        title=Text(title),
        caption="\n".join(filter(None, (short, note))),
        box=SIMPLE,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for table, headings in (
        (wide, [column.heading for column in columns]),
        (narrow, [column.short for column in columns]),
    ):
        table.add_column("model", overflow="fold", min_width=_NAME_WIDTH)
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows:
            if row.strong:
                table.add_section()
            name, *cells = row.cells
            table.add_row(Text(name), *cells, style="bold" if row.strong else None)
        keep_whole(table, range(1, 1 + len(columns)))
    return FittedTable(wide, narrow)
