"""What a secure argmax costs by itself: the step functions of both sides in one process."""

from __future__ import annotations

import secrets
from time import process_time

from fl_he.bench.fresh import BenchError
from fl_he.crypto.argmax import blind_pairs, compare_permuted, largest_difference, pairs, winner
from fl_he.crypto.comparison import Digits, bits, results
from fl_he.crypto.dgk_private_key import DgkPrivateKey
from fl_he.crypto.merging import split_merged
from fl_he.crypto.private_key import PrivateKey
from fl_he.crypto.slot_layout import SlotLayout


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
    batches = (_batch_seconds(paillier, dgk, queries, classes, value_bits) for _ in range(parties))
    return sum(batches) / (parties * queries)


def _batch_seconds(
    paillier: PrivateKey, dgk: DgkPrivateKey, queries: int, classes: int, value_bits: int
) -> float:
    layout, digits = SlotLayout(value_bits, paillier.public_key.key_bits), Digits(value_bits)
    span = largest_difference(classes, value_bits)
    numbers = [
        [secrets.randbelow(span) - span // 2 for _ in range(queries)] for _ in range(classes)
    ]
    encrypted = [paillier.public_key.encrypt(layout.join(row)) for row in numbers]
    each = len(pairs(classes))

    start = process_time()
    blinded, kept = blind_pairs(paillier.public_key, layout, encrypted, queries)
    opened = split_merged(layout, paillier.decrypt(blinded), each, queries)
    sent = bits(dgk, digits, opened)
    answers = compare_permuted(dgk.public_key, digits, sent, kept)
    found = results(dgk, digits.returned, answers)
    won = [winner(classes, found[at : at + each]) for at in range(0, len(found), each)]
    seconds = process_time() - start

    for query, position in enumerate(won):
        row = [numbers[label][query] for label in range(classes)]
        if row[kept.permutations[query][position]] != max(row):
            raise BenchError("the secure argmax must find the largest number, and it did not")
    return seconds
