"""The querying party's steps: ask, open the answering parties' comparisons, get the label."""

from __future__ import annotations

import json
import secrets

import numpy as np

from fl_he.capc import protocol
from fl_he.capc.node.party import Parts, Turn
from fl_he.capc.terms import VOTE_BITS, VOTE_PACKING
from fl_he.crypto.comparison.argmax import PairSecrets, blind_pairs, compare_permuted, pair_batch
from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import Batch, Digits, compare
from fl_he.crypto.comparison.conditional_answer import answer_layout, answers, any_of, encrypt_coins
from fl_he.crypto.comparison.relu import highest_bits, products, unit_batch
from fl_he.crypto.comparison.votes import by_class, encrypt_winners, vote_length
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.wire.records import ProtocolError

_UNITS = "units"
_MASKS, _ORDERS = "count-masks", "count-orders"
_REACHED_MASKS, _REACHED_COINS = "reached-masks", "reached-coins"


def ask(turn: Turn) -> Parts:
    """Encrypt the queries, feature by feature, the queries in slots."""
    queries = turn.party.queries(turn.queries)
    if queries.shape != (turn.queries, turn.terms.features):
        raise ProtocolError(
            f"queries must be {turn.queries} of {turn.terms.features} features, got {queries.shape}"
        )
    key = turn.own.public.paillier
    layout = turn.terms.logit_layout
    plaintexts = [joined for column in queries.T.tolist() for joined in layout.join(column)]
    return {protocol.FEATURES: key.to_bytes(key.encrypt(plaintexts))}


def unit_bits(turn: Turn) -> Parts:
    """Open the masked units of one answering party's hidden layer and encrypt their digits."""
    own, part = turn.own, turn.part(protocol.UNITS)
    # the bits of a unit and how many there are is the answering party's to say
    layout = turn.terms.logit_layout.narrowed(int.from_bytes(part[:1], "big"))
    width = layout.packs(turn.queries) * own.public.paillier.ciphertext_bytes
    opened = own.open(layout, part[1:], len(part) // width, turn.queries)
    turn.memory.keep(f"{_UNITS}-{turn.answering}", [layout.value_bits, opened])
    batch = unit_batch(own.public.dgk, layout, len(opened))
    return {protocol.UNIT_BITS: own.bits(batch, highest_bits(layout, opened))}


def unit_products(turn: Turn) -> Parts:
    """Multiply each masked unit by its result, which is under a coin of the answering party's."""
    own, key = turn.own, turn.own.public.paillier
    value_bits, opened = turn.memory.take(f"{_UNITS}-{turn.answering}")
    layout = turn.terms.logit_layout.narrowed(value_bits)
    batch = unit_batch(own.public.dgk, layout, len(opened))
    found = own.results(batch, turn.part(protocol.COMPARED_UNITS))
    factors = products(key, layout, opened, found, turn.queries)
    return {protocol.PRODUCTS: key.to_bytes(factors)}


def logit_bits(turn: Turn) -> Parts:
    """Open the masked differences of one answering party and encrypt their digits."""
    terms, own, queries = turn.terms, turn.own, turn.queries
    blinded = turn.part(protocol.LOGITS)
    opened = own.open_pairs(terms.logit_layout, blinded, terms.classes, queries)
    batch = pair_batch(own.public.dgk, terms.value_bits, terms.classes, queries)
    return {protocol.LOGIT_BITS: own.bits(batch, opened)}


def vote(turn: Turn) -> Parts:
    """Find one answering party's permuted winners and encrypt them under the guardian's key."""
    guardian, classes = turn.guardian.paillier, turn.terms.classes
    compared = turn.part(protocol.COMPARED_LOGITS)
    winners = turn.own.winners(turn.terms.value_bits, compared, classes, turn.queries)
    positions = encrypt_winners(guardian, turn.terms.vote_layout, classes, winners)
    return {protocol.POSITIONS: guardian.to_bytes(positions)}


def count(turn: Turn) -> Parts:
    """Hide the differences of the noisy counts, and their distance from the threshold."""
    terms, queries, guardian = turn.terms, turn.queries, turn.guardian.paillier
    layout = terms.vote_layout
    length = vote_length(guardian, layout, VOTE_PACKING, terms.classes, queries)

    def counts(part: protocol.Part) -> list[list[int]]:
        vector = EncryptedVector.from_bytes(turn.part(part), guardian)
        if (vector.packing, len(vector)) != (VOTE_PACKING, length):
            raise ProtocolError(f"{part.name} must be {length} counts, got {vector!r}")
        return by_class(vector, terms.classes)

    blinded, kept = blind_pairs(guardian, layout, counts(protocol.COUNTS), queries)
    turn.memory.keep(_MASKS, kept.masks)
    turn.memory.keep(_ORDERS, kept.permutations)
    parts = {protocol.BLINDED_COUNTS: guardian.to_bytes(blinded)}
    if terms.threshold is not None:
        # d = count - threshold, at least 0 if it is reached
        tested = counts(protocol.TESTED_COUNTS)
        reached, masks = blind(guardian, layout, tested, queries, -terms.threshold)
        turn.memory.keep(_REACHED_MASKS, masks)
        distances = [c for packs in reached for c in packs]
        parts[protocol.BLINDED_DISTANCES] = guardian.to_bytes(distances)
    return parts


def compare_counts(turn: Turn) -> Parts:
    """Compare counts in a random order, and with the threshold, the results under coins."""
    terms, memory, dgk = turn.terms, turn.memory, turn.guardian.dgk
    kept = PairSecrets(memory.take(_MASKS), memory.take(_ORDERS))
    batch = pair_batch(dgk, VOTE_BITS, terms.classes, turn.queries)
    encrypted = dgk.from_bytes(turn.part(protocol.COUNT_BITS), batch.sent)
    compared = dgk.to_bytes(compare_permuted(dgk, batch, encrypted, kept))
    memory.keep(_ORDERS, kept.permutations)
    parts = {protocol.COMPARED_COUNTS: compared}
    if terms.threshold is not None:
        masks = [mask for label in memory.take(_REACHED_MASKS) for mask in label]
        coins = [secrets.randbits(1) for _ in masks]
        batch = Batch(Digits(VOTE_BITS), dgk.primes, len(masks))
        encrypted = dgk.from_bytes(turn.part(protocol.DISTANCE_BITS), batch.sent)
        reached = dgk.to_bytes(compare(dgk, batch, encrypted, masks, coins))
        parts[protocol.COMPARED_DISTANCES] = reached
        memory.keep(_REACHED_COINS, coins)
    return parts


def any_reached(turn: Turn) -> Parts:
    """Hide from the guardian whether any class has reached the threshold."""
    dgk, key, queries = turn.guardian.dgk, turn.own.public.paillier, turn.queries
    coins = turn.memory.take(_REACHED_COINS)
    shares = dgk.from_bytes(turn.part(protocol.SHARES), turn.terms.classes * queries)
    # by class, then by query; wanted is the other way round
    compared, secret = any_of(
        dgk,
        [share for query in range(queries) for share in shares[query::queries]],
        [coins[query::queries] for query in range(queries)],
    )
    return {
        protocol.ANY_REACHED: dgk.to_bytes(compared),
        protocol.COINS: key.to_bytes(encrypt_coins(key, secret)),
    }


def learn(turn: Turn) -> str:
    """Turn what the guardian released into labels and learn from them; return the report."""
    terms, queries = turn.terms, turn.queries
    orders = turn.memory.take(_ORDERS)
    if terms.threshold is None:
        data = turn.part(protocol.WINNERS)
        if len(data) != queries:
            raise ProtocolError(f"winners must be {queries}, got {len(data)}")
        positions: list[int | None] = list(data)
    else:
        key = turn.own.public.paillier
        layout = answer_layout(key)
        packed = turn.part(protocol.ANSWERS)
        ciphertexts = key.from_bytes(packed, layout.packs(queries))
        positions = answers(layout, turn.own.paillier.decrypt(ciphertexts), queries)
    if any(p is not None and p >= terms.classes for p in positions):
        raise ProtocolError(f"received a winner outside 0..{terms.classes - 1}")
    labels = [-1 if p is None else order[p] for p, order in zip(positions, orders, strict=True)]
    return json.dumps(turn.party.learn(np.array(labels, dtype=np.int64)))
