"""What a run shows: metrics.json, model.json and comparison.png in its folder, and the tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from fl_he.fitted_table import FittedTable, keep_whole
from fl_he.metrics_file import (
    FIGURES,
    STEPS,
    MetricsError,
    read_metrics,
    replace_file,
    write_metrics,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MetricsError",
    "coefficient_table",
    "comparison_table",
    "cost_table",
    "load_metrics",
    "write_plot",
    "write_run",
]

load_metrics = read_metrics

#: Hospitals that a table lists one by one; the others are counted.
_ROWS = 12
#: Narrower names than this are less readable than lines that the terminal wraps.
_NAME_WIDTH = 10
_LOCAL = "hospitals alone, mean"
_FEDERATED = "federated (encrypted)"
_PRIVATE = "federated (encrypted, epsilon {:.3g})"
_WITHOUT = "the same without privacy"
_COUNTED = "its encrypted test counts"
_POOLED = "pooled (scikit-learn)"
# Okabe and Ito's palette can be told apart with any colour vision; the line styles differ too.
_COLOURS = {_FEDERATED: "#0072B2", _LOCAL: "#D55E00", _POOLED: "#009E73"}


def write_run(folder: Path, metrics: Mapping[str, Any], model_json: str) -> None:
    """Write metrics.json, model.json and comparison.png, each at once or not at all.

    Parameters
    ----------
    folder : Path
        The run's folder; made if it does not exist.
    metrics : mapping
        By the contract in :mod:`fl_he.metrics_file`. A number that is not finite becomes null.
    model_json : str
        The text of model.json.

    Raises
    ------
    MetricsError
        If `metrics` break the contract; then nothing is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = write_metrics(folder, metrics)
    replace_file(folder / "model.json", model_json.encode())
    write_plot(folder, written)


def comparison_table(metrics: Mapping[str, Any]) -> FittedTable:
    """Compare each hospital alone, their mean, federated and pooled on the held-out test set.

    Parameters
    ----------
    metrics : mapping
        As `load_metrics` returns them.

    Returns
    -------
    FittedTable
        With at most twelve hospitals; the others are counted, and all are in the mean.
    """
    title = f"On the held-out test set: {_run(metrics)}"
    wide = Table(title=Text(title))
    narrow = Table(
        title=Text(title),
        caption="n: examples, bal. acc.: balanced accuracy",
        box=SIMPLE,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for table, headings in (
        (wide, ("examples", "accuracy", "balanced\naccuracy", "ROC AUC", "log loss")),
        (narrow, ("n", "acc.", "bal.\nacc.", "ROC\nAUC", "log\nloss")),
    ):
        table.add_column("model", overflow="fold", min_width=_NAME_WIDTH)
        for heading in headings:
            table.add_column(heading, justify="right")
        _add_models(table, metrics)
        keep_whole(table, range(1, 6))
    return FittedTable(wide, narrow)


def _add_models(table: Table, metrics: Mapping[str, Any]) -> None:
    local = metrics["local"] or []
    for entry in local[:_ROWS]:
        table.add_row(Text(f"{entry['hospital']} alone"), *_cells(entry))
    if len(local) > _ROWS:
        table.add_row(f"... {len(local) - _ROWS} more")
    if local:
        mean = {key: _mean(_known(local, key)) for key in ("examples", *FIGURES)}
        table.add_row(_LOCAL, *_cells(mean))
    table.add_section()
    privacy = metrics.get("privacy")
    name = _PRIVATE.format(privacy["epsilon"]) if privacy else _FEDERATED
    table.add_row(name, *_cells(metrics["federated"]), style="bold")
    if privacy and privacy["without"]:
        table.add_row(_WITHOUT, *_cells({**metrics["federated"], **privacy["without"]}))
    if metrics.get("evaluation"):
        # Of the examples that were counted, not of those that were trained on.
        table.add_row(_COUNTED, *_cells(metrics["evaluation"]))
    if metrics["pooled"]:
        table.add_row(_POOLED, *_cells(metrics["pooled"]))


def coefficient_table(metrics: Mapping[str, Any]) -> Table | None:
    """List the coefficients of a logistic model as a statistician expects them.

    Parameters
    ----------
    metrics : mapping
        As `load_metrics` returns them.

    Returns
    -------
    rich.table.Table or None
        ``None`` where there is nothing to say beside model.json: no standard error is known.
    """
    inference = metrics.get("inference")
    if inference is None or not _known(inference["coefficients"], "standard_error"):
        return None
    rows = inference["coefficients"]
    penalty = ", penalised" if inference["penalised"] else ""
    percent = f"{inference['level']:.0%}"
    table = Table(
        title=Text(f"Coefficients in the tables' units{penalty}"),
        caption="odds ratio: of one standard deviation more, if features are scaled",
        box=SIMPLE,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("feature", overflow="fold", min_width=_NAME_WIDTH)
    for heading in ("estimate", "std. err.", "p", "odds ratio", f"{percent} interval"):
        table.add_column(heading, justify="right")
    for row in rows:
        known = row["odds_ratio_lower"] is not None and row["odds_ratio_upper"] is not None
        interval = f"{row['odds_ratio_lower']:.3g}, {row['odds_ratio_upper']:.3g}" if known else ""
        table.add_row(
            Text(row["name"]),
            *(_short(row[key]) for key in ("estimate", "standard_error", "p_value", "odds_ratio")),
            interval,
        )
    return table


def cost_table(metrics: Mapping[str, Any]) -> Table:
    """Tell what the encryption cost, and where the time of the run went.

    Parameters
    ----------
    metrics : mapping
        As `load_metrics` returns them.

    Returns
    -------
    rich.table.Table
        Seconds of each step and bytes, mean per round and total; the caption describes an update.
    """
    crypto, rounds = metrics["crypto"], metrics["rounds"]
    ciphertexts = crypto["ciphertexts_per_update"]
    table = Table(
        title="What the encryption cost",
        caption=(
            f"one update: {_count(ciphertexts)} ciphertext{'' if ciphertexts == 1 else 's'}, "
            f"{_count(crypto['bytes_per_update'])} bytes\n"
            f"{_count(crypto['slots_per_ciphertext'])} slots in each, "
            f"{crypto['key_bits']}-bit key {crypto['key_fingerprint'][:12]}"
        ),
    )
    table.add_column("", overflow="fold")
    table.add_column("mean\nper round", justify="right")
    table.add_column("total", justify="right")
    for key in STEPS:
        values = _known(rounds, key)
        name = key.removesuffix("_seconds")
        table.add_row(f"seconds to {name}", _seconds(_mean(values)), _seconds(_sum(values)))
    values = _known(rounds, "bytes_sent")
    table.add_row("bytes sent", _count(_mean(values)), _count(_sum(values)))
    table.add_section()
    values = _known(rounds, "seconds")
    table.add_row("seconds in rounds", _seconds(_mean(values)), _seconds(_sum(values)))
    for name, seconds in _beside_the_rounds(metrics, _sum(values)).items():
        table.add_row(name, "", _seconds(seconds))
    table.add_row("seconds in all", "", _seconds(metrics["seconds"]))
    keep_whole(table, (1, 2))
    return table


def _beside_the_rounds(metrics: Mapping[str, Any], in_rounds: float | None) -> dict[str, float]:
    """Divide the seconds outside the rounds into what is known of them."""
    if metrics["seconds"] is None or in_rounds is None:
        return {}
    start = metrics.get("start_seconds")
    if start is None:
        return {"seconds before and after": metrics["seconds"] - in_rounds}
    return {
        "seconds to start up": start,
        "seconds to compare and save": metrics["seconds"] - in_rounds - start,
    }


def write_plot(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Draw comparison.png: accuracy and log loss per round against the alternatives.

    Without a test set the curve is that of the hospitals' own data, from the encrypted total.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist.
    metrics : mapping
        As `load_metrics` returns them.
    """
    # Slow to import, and the tables need none of it.
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    tested = bool(_known(metrics["rounds"], "test_loss"))
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(_run(metrics), parse_math=False)
    left, right = figure.subplots(1, 2)
    if tested:
        _draw(left, metrics, "Accuracy on the test set", "test_accuracy", "accuracy")
        _draw(right, metrics, "Log loss on the test set", "test_loss", "log_loss")
    else:
        _draw(left, metrics, "Accuracy on the hospitals' data", "accuracy", None)
        _draw(right, metrics, "Log loss on the hospitals' data", "loss", None)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    image = BytesIO()
    figure.savefig(image, format="png", dpi=150)
    replace_file(folder / "comparison.png", image.getvalue())


def _draw(
    axes: Axes, metrics: Mapping[str, Any], title: str, curve: str, level: str | None
) -> None:
    rounds = metrics["rounds"]
    axes.plot(
        [entry["round"] for entry in rounds],
        [math.nan if entry[curve] is None else entry[curve] for entry in rounds],
        color=_COLOURS[_FEDERATED],
        label=_FEDERATED,
        marker="o",
        markersize=5,
        markevery=max(1, len(rounds) // 25),
    )
    if level is not None:
        local = _mean(_known(metrics["local"] or [], level))
        pooled = (metrics["pooled"] or {}).get(level)
        for name, value, style in ((_LOCAL, local, "--"), (_POOLED, pooled, "-.")):
            if value is not None:
                axes.axhline(value, color=_COLOURS[name], label=name, linestyle=style)
    axes.set(title=title, xlabel="round", ylabel=title.partition(" on ")[0].lower())
    axes.margins(y=0.1)
    pad = max(0.5, len(rounds) / 40)
    axes.set_xlim(rounds[0]["round"] - pad, rounds[-1]["round"] + pad)
    axes.grid(visible=True, alpha=0.3)


def _run(metrics: Mapping[str, Any]) -> str:
    config, rounds = metrics["config"], len(metrics["rounds"])
    return (
        f"{config['data']['name']}, {_count(config['hospitals'])} hospitals, "
        f"{config['topology']}, {rounds} {'round' if rounds == 1 else 'rounds'}"
    )


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [_count(entry["examples"]), *(_decimal(entry[key]) for key in FIGURES)]


def _known(entries: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [entry[key] for entry in entries if entry[key] is not None]


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _sum(values: list[float]) -> float | None:
    return math.fsum(values) if values else None


def _count(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"


def _decimal(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _short(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def _seconds(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
