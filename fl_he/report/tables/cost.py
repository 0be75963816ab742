"""What the encryption cost, and where the time of a run went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from fl_he.report.figures import count, known, mean, seconds, total
from fl_he.report.tables.fitted import keep_whole
from fl_he.run_files.metrics_contract import STEPS


@dataclass(frozen=True, slots=True)
class Cost:
    """One line: a figure per round and of the run, written.

    Attributes
    ----------
    name : str
    per_round : str
        Empty for what happens once.
    total : str
    encryption : bool
        Whether it is of the encrypted sums, and not of the run around them.
    """

    name: str
    per_round: str
    total: str
    encryption: bool = False


def costs(metrics: Mapping[str, Any]) -> list[Cost]:
    """Return seconds of each step and bytes, mean per round and in all.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.
    """
    rounds = metrics["rounds"]
    lines = []
    for key in STEPS:
        values = known(rounds, key)
        name = f"seconds to {key.removesuffix('_seconds')}"
        lines.append(Cost(name, seconds(mean(values)), seconds(total(values)), encryption=True))
    values = known(rounds, "bytes_sent")
    lines.append(Cost("bytes sent", count(mean(values)), count(total(values)), encryption=True))
    values = known(rounds, "seconds")
    lines.append(Cost("seconds in rounds", seconds(mean(values)), seconds(total(values))))
    for name, value in _beside_the_rounds(metrics, total(values)).items():
        lines.append(Cost(name, "", seconds(value)))
    return [*lines, Cost("seconds in all", "", seconds(metrics["seconds"]))]


def cost_table(metrics: Mapping[str, Any]) -> Table:
    """Tell what the encryption cost, and where the time of the run went.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.

    Returns
    -------
    rich.table.Table
        The lines of `costs`; the caption describes an update.
    """
    table = Table(title="What the encryption cost", caption="\n".join(update_size(metrics)))
    table.add_column("", overflow="fold")
    table.add_column("mean\nper round", justify="right")
    table.add_column("total", justify="right")
    in_encryption = True
    for line in costs(metrics):
        if in_encryption and not line.encryption:
            table.add_section()
        in_encryption = line.encryption
        table.add_row(line.name, line.per_round, line.total)
    keep_whole(table, (1, 2))
    return table


def update_size(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Describe one encrypted update, and the ciphertexts that it consists of."""
    crypto = metrics["crypto"]
    ciphertexts = crypto["ciphertexts_per_update"]
    return (
        f"one update: {count(ciphertexts)} ciphertext{'' if ciphertexts == 1 else 's'}, "
        f"{count(crypto['bytes_per_update'])} bytes",
        f"{count(crypto['slots_per_ciphertext'])} slots in each, "
        f"{crypto['key_bits']}-bit key {crypto['key_fingerprint'][:12]}",
    )


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
