"""What CaPC costs: a secure argmax over ten classes, for a batch of one query and of many.

The argmax by itself, and a whole run in Ray on the digits, at 2048 bits, without noise. The seconds
of an argmax are CPU time, so that they are those of one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from fl_he import simulation
from fl_he.bench.argmax import argmax_seconds
from fl_he.bench.follow import Follow
from fl_he.config import compose

FULL_CAPC, QUICK_CAPC = (1, 50), (1, 2)

_ANSWERING, _CLASSES, _KEY_BITS = 3, 10, 2048
#: The steps from the query to each answering party's vote.
_VOTE = ("evaluate", "logit_bits", "compare", "vote")
_PREPARING = ("describe", "keys")


def measure_capc(batches: tuple[int, ...], follow: Follow) -> dict[str, Any]:
    """Run CaPC with batches of several sizes.

    Parameters
    ----------
    batches : tuple of int
        Numbers of queries.
    follow : callable
        Is told what goes on.
    """
    rows = []
    for queries in batches:
        follow(f"CaPC with {queries} quer{'y' if queries == 1 else 'ies'}")
        rows.append(_row(queries))
    return {
        "classes": _CLASSES,
        "answering_parties": _ANSWERING,
        "key_bits": _KEY_BITS,
        "rows": rows,
    }


def capc_table(results: Mapping[str, Any]) -> Table:
    """Return the table of `measure_capc`."""
    table = Table(
        title=(
            f"CaPC: {results['classes']} classes, {results['answering_parties']} answering "
            f"parties, {results['key_bits']}-bit keys"
        ),
        caption=(
            "argmax, vote: CPU seconds of both sides for one query and answering party; a vote is "
            "the model's evaluation, the argmax and their messages"
        ),
    )
    for title in ("queries", "hops", "argmax", "vote", "seconds in all", "bytes"):
        table.add_column(title, justify="right")
    for row in results["rows"]:
        table.add_row(
            str(row["queries"]),
            str(row["hops"]),
            f"{row['argmax_seconds']:.3f}",
            f"{row['vote_seconds']:.3f}",
            f"{row['steps_seconds']:.1f}",
            f"{row['bytes']:,}",
        )
    return table


def _row(queries: int) -> dict[str, Any]:
    config = compose(
        "config",
        [
            "experiment=capc_digits",
            f"crypto.key_bits={_KEY_BITS}",
            f"hospitals={_ANSWERING + 1}",
            f"capc.queries={queries}",
            *(f"capc.{key}=null" for key in ("sigma_gnmax", "sigma_threshold", "threshold")),
        ],
    )
    with TemporaryDirectory() as folder:
        metrics = simulation.run(config, Path(folder))
    steps = {step["step"].removeprefix("query.capc_"): step for step in metrics["steps"]}
    batch = [step for name, step in steps.items() if name not in _PREPARING]
    vote = sum(steps[name]["node_seconds"] for name in _VOTE)
    return {
        "queries": queries,
        "hops": sum(step["hops"] for step in batch),
        "argmax_seconds": argmax_seconds(
            queries, _CLASSES, config.capc.value_bits, _KEY_BITS, _ANSWERING
        ),
        "vote_seconds": vote / (queries * _ANSWERING),
        "steps_seconds": sum(step["seconds"] for step in batch),
        "bytes": sum(step["bytes_sent"] for step in batch),
    }
