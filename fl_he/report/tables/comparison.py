"""The federated model beside each hospital alone and the pooled data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from fl_he.report.figures import UNKNOWN, count, decimal, known, mean, run_name
from fl_he.report.tables.fitted import FittedTable, keep_whole

LOCAL = "hospitals alone, mean"
FEDERATED = "federated (encrypted)"
POOLED = "pooled (scikit-learn)"
_PRIVATE = "federated (encrypted, epsilon {:.3g})"
_WITHOUT = "the same without privacy"
_COUNTED = "its encrypted test counts"


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


#: All columns but the model's name. A figure of quality stands in
#: :data:`fl_he.run_files.metrics_contract.FIGURES` too.
COLUMNS = (
    Column("examples", "examples", "n", count),
    Column("accuracy", "accuracy", "acc."),
    Column("balanced_accuracy", "balanced\naccuracy", "bal.\nacc."),
    Column("roc_auc", "ROC AUC", "ROC\nAUC"),
    Column("log_loss", "log loss", "log\nloss"),
)
#: Hospitals that a table lists one by one; the others are counted.
_ROWS = 12
#: Narrower names than this are less readable than lines that the terminal wraps.
_NAME_WIDTH = 10


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One line of the comparison.

    Attributes
    ----------
    name : str
        What was trained, on whose data.
    cells : tuple of str
        One for each of `COLUMNS`, written; empty for a line that only counts hospitals.
    alone : bool
        Whether it is of single hospitals.
    ours : bool
        Whether it is the model of this run.
    """

    name: str
    cells: tuple[str, ...]
    alone: bool = False
    ours: bool = False


def compared_models(metrics: Mapping[str, Any]) -> list[ComparedModel]:
    """Return each hospital alone, their mean, the federated model and the pooled one.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.

    Returns
    -------
    list of ComparedModel
        With at most twelve hospitals; the others are counted, and all are in the mean.
    """
    local = metrics["local"] or []
    models = [
        ComparedModel(f"{entry['hospital']} alone", _cells(entry), alone=True)
        for entry in local[:_ROWS]
    ]
    if len(local) > _ROWS:
        models.append(ComparedModel(f"... {len(local) - _ROWS} more", (), alone=True))
    if local:
        means = {column.key: mean(known(local, column.key)) for column in COLUMNS}
        models.append(ComparedModel(LOCAL, _cells(means), alone=True))
    privacy = metrics.get("privacy")
    name = _PRIVATE.format(privacy["epsilon"]) if privacy else FEDERATED
    models.append(ComparedModel(name, _cells(metrics["federated"]), ours=True))
    if privacy and privacy["without"]:
        without = {**metrics["federated"], **privacy["without"]}
        models.append(ComparedModel(_WITHOUT, _cells(without)))
    if metrics.get("evaluation"):
        # Of the examples that were counted, not of those that were trained on.
        models.append(ComparedModel(_COUNTED, _cells(metrics["evaluation"])))
    if metrics["pooled"]:
        models.append(ComparedModel(POOLED, _cells(metrics["pooled"])))
    return models


def penalty_note(metrics: Mapping[str, Any]) -> str:
    """Say that scikit-learn's models are penalised and this run's is not; nothing if it is."""
    pooled = metrics["pooled"] or {}
    if metrics["config"].get("C") is not None or "C" not in pooled:
        return ""
    return (
        f"This run has no penalty (C=null); scikit-learn's models have its default, "
        f"C={pooled['C']:g}, since without one they may have no finite optimum."
    )


def comparison_table(metrics: Mapping[str, Any]) -> FittedTable:
    """Compare the models of a run on the held-out test set.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.
    """
    models = compared_models(metrics)
    tested = any(cell != UNKNOWN for model in models for cell in model.cells[1:])
    title = (
        f"{'On the held-out test set' if tested else 'Trained, not tested'}: {run_name(metrics)}"
    )
    note = penalty_note(metrics)
    wide = Table(title=Text(title), caption=note or None)
    narrow = Table(
        title=Text(title),
        caption="\n".join(filter(None, ("n: examples, bal. acc.: balanced accuracy", note))),
        box=SIMPLE,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for table, headings in (
        (wide, [column.heading for column in COLUMNS]),
        (narrow, [column.short for column in COLUMNS]),
    ):
        table.add_column("model", overflow="fold", min_width=_NAME_WIDTH)
        for heading in headings:
            table.add_column(heading, justify="right")
        for model in models:
            if model.ours:
                table.add_section()
            table.add_row(Text(model.name), *model.cells, style="bold" if model.ours else None)
        keep_whole(table, range(1, 1 + len(COLUMNS)))
    return FittedTable(wide, narrow)


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(column.write(entry[column.key]) for column in COLUMNS)
