"""Batches of a run with several labels, and one result from those of all labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_he.atomic import replace_file
from fl_he.config.capc import CapcConfig, Voting

#: Name of the file of a simulated querying party's answers.
LABELS = "labels.csv"
_COUNTS = ("queries", "answered", "refused", "equal_to_plain_majority")


def voted_labels(capc: CapcConfig) -> Sequence[int]:
    """Return the numbers of the labels that have a batch each, from 1; 0 for one batch of all."""
    return range(1, len(capc.labels) + 1) if capc.voting is Voting.binary else (0,)


def of_all_labels(learned: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the result of a party that has asked about several labels.

    A question about one label of one case counts as a query. Accuracies are means over the labels.

    Parameters
    ----------
    learned : sequence of mapping
        What the party says of each label, see `SimulatedParty.learn`.
    names : sequence of str
        Of the labels.
    """
    first = learned[0]
    right = [one["label_accuracy"] for one in learned if one["label_accuracy"] is not None]
    return {
        "party": first["party"],
        **{key: sum(one[key] for one in learned) for key in _COUNTS},
        "label_accuracy": sum(right) / len(right) if right else None,
        "examples": first["examples"],
        **{when: _quality([one[when] for one in learned], names) for when in ("before", "after")},
    }


def _quality(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    keys = ("accuracy", "balanced_accuracy")
    labels = [
        {"label": name, **{key: one[key] for key in (*keys, "roc_auc")}}
        for name, one in zip(names, found, strict=True)
    ]
    means = {key: sum(one[key] for one in labels) / len(labels) for key in keys}
    return {**means, "per_class_accuracy": [], "labels": labels}


def write_labels(
    path: Path, rows: Sequence[int], name: str, labels: Sequence[str], *, more: bool
) -> None:
    """Write a CSV file (mode 0600) of answers: numbers of rows and a column for each label.

    Parameters
    ----------
    path : Path
    rows : sequence of int
        Of the table.
    name : str
        Of the label.
    labels : sequence of str
        The answer for each row, empty where there is none.
    more : bool
        Whether the columns of other labels are in the file already.
    """
    lines = [["row"], *([str(row)] for row in rows)]
    if more:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    text = io.StringIO()
    columns = zip(lines, (name, *labels), strict=True)
    csv.writer(text, lineterminator="\n").writerows([*line, cell] for line, cell in columns)
    replace_file(path, text.getvalue().encode(), 0o600)
