"""convergence.png: how several runs went, on one plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from fl_he.metrics_file import replace_file
from fl_he.report.sweep_table import SweepRow, labels

NAME = "convergence.png"
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
    replace_file(folder / NAME, image.getvalue())
    return True
