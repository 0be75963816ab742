"""Cost of the encryption, and the time of a run by its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from fl_he.report.blocks import Row
from fl_he.report.figures import count, is_masked, known, mean, others_of, seconds, size, total
from fl_he.report.tables.fitted import keep_whole
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import STEPS


def costs(metrics: Metrics) -> tuple[list[Row], list[Row]]:
    """Return what the encrypted sums cost, and the run around them.

    Returns
    -------
    tuple of two lists of Row
        Name, mean per round (empty for what happens once) and total.
    """
    rounds = metrics["rounds"]
    of_sums = [_row(f"seconds to {key.removesuffix('_seconds')}", rounds, key) for key in STEPS]
    of_sums.append(_row("data sent", rounds, "bytes_sent", size))
    in_rounds = total(known(rounds, "seconds"))
    once = {**_beside_the_rounds(metrics, in_rounds), "seconds in all": metrics["seconds"]}
    return of_sums, [
        _row("seconds in rounds", rounds, "seconds"),
        *(Row((name, "", seconds(value))) for name, value in once.items()),
    ]


def cost_table(metrics: Metrics) -> Table:
    """Tell what the encryption cost, and where the time of the run went.

    Returns
    -------
    rich.table.Table
        The rows of `costs`; the caption describes an update.
    """
    table = Table(title="What the encryption cost", caption="\n".join(update_size(metrics)))
    table.add_column("", overflow="fold")
    table.add_column("mean\nper round", justify="right")
    table.add_column("total", justify="right")
    for rows in costs(metrics):
        for row in rows:
            table.add_row(*row.cells)
        table.add_section()
    keep_whole(table, (1, 2))
    return table


def update_size(metrics: Metrics) -> tuple[str, str]:
    """Describe one encrypted update, and the algorithms that protect it."""
    crypto = metrics["crypto"]
    ticket = crypto.get("ticket_bytes_per_update")
    number, fingerprint = crypto["ciphertexts_per_update"], crypto["key_fingerprint"][:12]
    data = size(crypto["bytes_per_update"])
    if ticket is not None:
        data += f", and a ticket of {size(ticket)}"
    if masked := crypto.get("masked_set"):
        data += f", masked pairwise: company X learns one only with {others_of(masked)}"
    if is_masked(metrics):
        return (
            f"one update: masks, {data}",
            "AES-256-CTR with HKDF-SHA-256, tickets by HPKE with X-Wing (all post-quantum), "
            f"key {fingerprint}",
        )
    kind = f"of kind {crypto['key_kind']}, " if "key_kind" in crypto else ""
    tickets = "" if ticket is None else "; tickets by HPKE with X-Wing (post-quantum)"
    return (
        f"one update: {count(number)} ciphertext{'' if number == 1 else 's'}, {data}",
        f"{count(crypto['slots_per_ciphertext'])} slots in each, Paillier with a "
        f"{crypto['key_bits']}-bit key {kind}{fingerprint} (not post-quantum){tickets}",
    )


def _row(
    name: str,
    rounds: list[dict[str, Any]],
    key: str,
    write: Callable[[float | None], str] = seconds,
) -> Row:
    values = known(rounds, key)
    return Row((name, write(mean(values)), write(total(values))))


def _beside_the_rounds(metrics: Metrics, in_rounds: float | None) -> dict[str, float]:
    """Divide the seconds outside the rounds into what is known of them."""
    if metrics["seconds"] is None or in_rounds is None:
        return {}
    start = metrics.get("start_seconds")
    profile = ((metrics.get("inference") or {}).get("profile") or {}).get("seconds")
    if start is None:
        return {"seconds before and after": metrics["seconds"] - in_rounds}
    searched = {} if profile is None else {"seconds of profile likelihoods": profile}
    return {
        "seconds to start up": start,
        **searched,
        "seconds to compare and save": metrics["seconds"] - in_rounds - start - (profile or 0.0),
    }
