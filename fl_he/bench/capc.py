"""Section `capc`: a secure argmax over ten classes and ReLUs, for a batch of one query and of many.

The argmax is measured by itself, the step functions of both sides in one process, and within a run
of CaPC in Ray on the digits, at 2048 bits, without noise. The seconds of an argmax are CPU time, so
that they are those of one core.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from fl_he import simulation
from fl_he.bench.fresh import BenchError
from fl_he.bench.timing import Follow
from fl_he.config.composition import compose
from fl_he.crypto.comparison.argmax import (
    blind_pairs,
    compare_permuted,
    largest_difference,
    pair_batch,
    pairs,
    winners,
)
from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import bits, compare, results
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.comparison.relu import (
    COMPARED_BITS,
    highest_bits,
    products,
    rectified,
    unit_batch,
)
from fl_he.crypto.comparison.slot_layout import SlotLayout, split_merged
from fl_he.crypto.paillier.private_key import PrivateKey

FULL, QUICK = (1, 50), (1, 2)

_ANSWERING, _CLASSES, _KEY_BITS, _VALUE_BITS = 3, 10, 2048, 32
#: Units of about as many bits as in the second of three layers with ``value_bits=48``.
_RELUS, _UNIT_BITS, _NETWORK_BITS = 400, 30, 48
#: The steps from the query to each answering party's vote.
_VOTE = ("evaluate", "logit_bits", "compare", "vote")
_PREPARING = ("describe", "keys")


def measure(batches: tuple[int, ...], follow: Follow) -> dict[str, Any]:
    """Run CaPC once for each size of batch.

    Returns
    -------
    dict
        ``rows``: ``argmax_seconds`` and ``vote_seconds``: CPU seconds of both sides for one query
        and answering party; ``relu_seconds``: those for one unit; hops, wall seconds and bytes of
        the batch.
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


def _row(queries: int) -> dict[str, Any]:
    config = compose(
        "config",
        [
            "experiment=capc_digits",
            "simulation.engine=ray",
            f"crypto.key_bits={_KEY_BITS}",
            f"hospitals={_ANSWERING + 1}",
            f"capc.queries={queries}",
            f"capc.value_bits={_VALUE_BITS}",
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
        "argmax_seconds": argmax_seconds(queries, _CLASSES, _VALUE_BITS, _KEY_BITS, _ANSWERING),
        "vote_seconds": vote / (queries * _ANSWERING),
        "relu_seconds": relu_seconds(max(1, _RELUS // queries), queries, _UNIT_BITS, _KEY_BITS),
        "steps_seconds": sum(step["seconds"] for step in batch),
        "bytes": sum(step["bytes_sent"] for step in batch),
    }


def argmax_seconds(
    queries: int, classes: int, value_bits: int, key_bits: int, parties: int
) -> float:
    """Measure one batch for each answering party, under new keys of the querying party.

    All tables of powers are built on the way: the first batch pays for them.

    Parameters
    ----------
    queries, classes : int
    value_bits : int
        Numbers are below ``2**value_bits`` in size.
    key_bits : int
        Of both keys.
    parties : int
        Answering parties.

    Returns
    -------
    float
        CPU seconds of both sides for a query and party, from encrypted numbers to the winner.

    Raises
    ------
    BenchError
        If a winner is not the largest number.
    """
    paillier, dgk = PrivateKey.generate(key_bits), DgkPrivateKey.generate(key_bits)
    layout = SlotLayout(value_bits, key_bits)
    batch = pair_batch(dgk.public_key, value_bits, classes, queries)
    span = largest_difference(classes, value_bits)
    each, total = len(pairs(classes)), 0.0
    for _ in range(parties):
        numbers = [
            [secrets.randbelow(span) - span // 2 for _ in range(queries)] for _ in range(classes)
        ]
        encrypted = [paillier.public_key.encrypt(layout.join(row)) for row in numbers]

        start = process_time()
        blinded, kept = blind_pairs(paillier.public_key, layout, encrypted, queries)
        opened = split_merged(layout, paillier.decrypt(blinded), each, queries)
        sent = bits(dgk, batch, opened)
        answers = compare_permuted(dgk.public_key, batch, sent, kept)
        won = winners(classes, queries, results(dgk, batch, answers))
        total += process_time() - start

        for query, position in enumerate(won):
            row = [numbers[label][query] for label in range(classes)]
            if row[kept.permutations[query][position]] != max(row):
                raise BenchError("the secure argmax did not find the largest number")
    return total / (parties * queries)


def relu_seconds(units: int, queries: int, value_bits: int, key_bits: int) -> float:
    """Measure one hidden layer's ReLUs under new keys of the querying party.

    Parameters
    ----------
    units, queries : int
    value_bits : int
        Units are below ``2**value_bits`` in size.
    key_bits : int
        Of both keys.

    Returns
    -------
    float
        CPU seconds of both sides for a unit and query, from encrypted units to encrypted ReLUs.

    Raises
    ------
    BenchError
        If a ReLU is neither 0 nor its unit.
    """
    paillier, dgk = PrivateKey.generate(key_bits), DgkPrivateKey.generate(key_bits)
    key = paillier.public_key
    layout = SlotLayout(_NETWORK_BITS, key_bits).narrowed(value_bits)
    limit = 1 << (value_bits - 1)
    numbers = [[secrets.randbelow(2 * limit) - limit for _ in range(queries)] for _ in range(units)]
    encrypted = [key.encrypt(layout.join(row)) for row in numbers]

    start = process_time()
    blinded, masks = blind(key, layout, encrypted, queries)
    opened = [z for packs in blinded for z in layout.split(paillier.decrypt(packs), queries)]
    batch = unit_batch(dgk.public_key, layout, len(opened))
    sent = bits(dgk, batch, highest_bits(layout, opened))
    coins = [[secrets.randbits(1) for _ in row] for row in masks]
    shares = [mask for row in masks for mask in row], [coin for row in coins for coin in row]
    answers = compare(dgk.public_key, batch, sent, highest_bits(layout, shares[0]), shares[1])
    factors = products(key, layout, opened, results(dgk, batch, answers), queries)
    rectified_units = rectified(key, layout, factors, masks, coins)
    seconds = process_time() - start

    # room below 0, where slots hold no numbers
    up = key.encrypt(layout.join([limit] * queries))
    for row, packs in zip(numbers, rectified_units, strict=True):
        sums = [key.add(*two) for two in zip(packs, up, strict=True)]
        found = [number - limit for number in layout.split(paillier.decrypt(sums), queries)]
        near = 1 << max(0, value_bits - COMPARED_BITS)
        if any(f != max(n, 0) and not (f == n >= -near) for f, n in zip(found, row, strict=True)):
            raise BenchError("a ReLU is neither 0 nor its unit")
    return seconds / (units * queries)
