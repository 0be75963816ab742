"""comparison.png: accuracy and log loss per round against the alternatives.

convergence.png: how several runs went, on one plot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_he.atomic import replace_file
from fl_he.report.figures import known, mean, run_name
from fl_he.report.tables.comparison import FEDERATED, LOCAL, POOLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from collections.abc import Sequence

from fl_he.report.tables.sweep import SweepRow, labels

COMPARISON_NAME = "comparison.png"
# Okabe and Ito's palette can be told apart with any colour vision; the line styles differ too.
_COLOURS = {FEDERATED: "#0072B2", LOCAL: "#D55E00", POOLED: "#009E73"}


def write_plot(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Draw comparison.png: accuracy and log loss per round against the alternatives.

    Without a test set the curve is that of the hospitals' own data, from the encrypted total.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist.
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.
    """
    # Slow to import, and the tables need none of it.
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    tested = bool(known(metrics["rounds"], "test_loss"))
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(run_name(metrics), parse_math=False)
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
    replace_file(folder / COMPARISON_NAME, image.getvalue())


def _draw(
    axes: Axes, metrics: Mapping[str, Any], title: str, curve: str, level: str | None
) -> None:
    rounds = metrics["rounds"]
    axes.plot(
        [entry["round"] for entry in rounds],
        [math.nan if entry[curve] is None else entry[curve] for entry in rounds],
        color=_COLOURS[FEDERATED],
        label=FEDERATED,
        marker="o",
        markersize=5,
        markevery=max(1, len(rounds) // 25),
    )
    if level is not None:
        local = mean(known(metrics["local"] or [], level))
        pooled = (metrics["pooled"] or {}).get(level)
        for name, value, style in ((LOCAL, local, "--"), (POOLED, pooled, "-.")):
            if value is not None:
                axes.axhline(value, color=_COLOURS[name], label=name, linestyle=style)
    axes.set(title=title, xlabel="round", ylabel=title.partition(" on ")[0].lower())
    axes.margins(y=0.1)
    pad = max(0.5, len(rounds) / 40)
    axes.set_xlim(rounds[0]["round"] - pad, rounds[-1]["round"] + pad)
    axes.grid(visible=True, alpha=0.3)


CONVERGENCE_NAME = "convergence.png"
#: More lines than these cannot be told apart.
_MOST = 12


def write_sweep_plot(folder: Path, rows: Sequence[SweepRow]) -> bool:
    """Draw loss and gradient norm by round, one line for each run that has them.

    Parameters
    ----------
    folder : Path
        Of the sweep; must exist.
    rows : sequence of SweepRow

    Returns
    -------
    bool
        Whether there was something to draw: at least two runs, and at most twelve.
    """
    drawn = [
        (label, row.metrics["rounds"])
        for label, row in zip(labels(rows), rows, strict=True)
        if row.metrics is not None
        # A run of CaPC has none.
        and any(entry["loss"] is not None for entry in row.metrics.get("rounds", [])[:1])
    ]
    if not 2 <= len(drawn) <= _MOST:
        return False
    # Slow to import, and the tables need none of it.
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, title in (
        (left, "loss", "Log loss on the hospitals' data"),
        (right, "gradient_norm", "Norm of the gradient"),
    ):
        for number, (label, rounds) in enumerate(drawn):
            # Colours repeat after ten lines.
            axes.plot(
                [entry["round"] for entry in rounds],
                [math.nan if entry.get(key) is None else entry[key] for entry in rounds],
                linestyle="-" if number < 10 else "--",
                marker="o",
                markersize=4,
                label=label,
            )
        axes.set(title=title, xlabel="round", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(visible=True, alpha=0.3)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    image = BytesIO()
    figure.savefig(image, format="png", dpi=150)
    replace_file(folder / CONVERGENCE_NAME, image.getvalue())
    return True
