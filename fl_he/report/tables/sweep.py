"""One table over several runs: what each set, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from fl_he.report.figures import decimal, of_number, of_time, seconds, sentence, setting_text
from fl_he.report.tables.comparison import is_tested
from fl_he.report.tables.fitted import keep_whole
from fl_he.run_files.convergence import listed
from fl_he.run_files.metrics import Metrics, flat_settings
from fl_he.run_files.metrics_contract import CONCORDANCE

#: Keys that differ between runs and say nothing of them.
_PLACES = ("output_dir", "data.source")
#: Keys on which the rows and labels of a simulation's test set depend.
_TEST_SETS = (
    *("data.name", "data.path", "data.target", "data.positive", "data.threshold", "data.classes"),
    *("data.schema", "data.reading"),
    *("test_size", "stratify", "seed"),
)


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One run of several.

    Attributes
    ----------
    settings : tuple of str
        KEY=VALUE of what sets it apart.
    folder : str
        Its folder.
    metrics : mapping or None
        As :func:`fl_he.run_files.metrics.read_metrics` returns them. None if the run failed.
    """

    settings: tuple[str, ...]
    folder: str
    metrics: Metrics | None


def sweep_table(rows: Sequence[SweepRow]) -> Table:
    """Compare the federated models of several runs on their held-out test sets.

    Parameters
    ----------
    rows : sequence of SweepRow
        Settings that all of them share are left out.
    """
    table = Table(title="All runs")
    table.add_column("run", overflow="fold", min_width=8)
    runs = [row.metrics for row in rows if row.metrics is not None]
    figures = {key: heading for run in runs for key, heading in _headings(run).items()}
    for heading in (*figures.values(), "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("folder", overflow="fold", min_width=6)
    for label, row in zip(labels(rows), rows, strict=True):
        table.add_row(Text(label), *_figures(row.metrics, [*figures]), Text(row.folder))
    if note := different_test_sets(runs):
        table.caption = sentence(note)
    keep_whole(table, range(1, 2 + len(figures)))
    return table


def different_test_sets(runs: Sequence[Metrics]) -> str:
    """Say by which settings the test sets of several runs differ; nothing if they do not.

    Parameters
    ----------
    runs : sequence of mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them; those that were not tested do
        not count.
    """
    tested = [run for run in runs if "federated" in run and is_tested(run)]
    flat = [flat_settings(run["config"]) for run in tested]
    telling = [
        key for key in _TEST_SETS if any(config.get(key) != flat[0].get(key) for config in flat)
    ]
    if not telling and len({run.get("tested_on") for run in tested}) > 1:
        telling = ["their sizes"]
    if not telling:
        return ""
    return (
        f"no run is named the best: the test sets differ by {listed(telling)}, so figures on them "
        "are of different patients"
    )


def labels(rows: Sequence[SweepRow]) -> list[str]:
    """Return what sets each run apart: its settings without those that all runs share."""
    shared = set.intersection(*(set(row.settings) for row in rows)) if rows else set()
    return [" ".join(one for one in row.settings if one not in shared) for row in rows]


def differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Tell configurations apart by the keys whose values are not the same in all.

    Parameters
    ----------
    configs : sequence of mapping
        As `metrics.json` holds them.

    Returns
    -------
    list of tuple of str
        KEY=VALUE for each of them, in the order of its keys.
    """
    flat = [flat_settings(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    telling = [
        key
        for key in keys
        if key not in _PLACES and any(config.get(key) != flat[0].get(key) for config in flat)
    ]
    return [
        tuple(f"{key}={setting_text(config[key])}" for key in telling if key in config)
        for config in flat
    ]


def _headings(metrics: Metrics) -> dict[str, str]:
    """Return the figures of a run that the table has, with their headings."""
    if "federated" in metrics and of_time(metrics):
        return {CONCORDANCE: "concordance"}
    if "federated" in metrics and of_number(metrics):
        return {"mean_deviance": "mean\ndeviance", "d2": "D2"}
    return {"accuracy": "test\naccuracy", "log_loss": "log\nloss"}


def _figures(metrics: Metrics | None, keys: Sequence[str]) -> tuple[str | Text, ...]:
    if metrics is None:
        return Text("failed", style="bold red"), *[""] * len(keys)
    federated = metrics.get("federated", {})
    return *(decimal(federated.get(key)) for key in keys), seconds(metrics["seconds"], 1)
