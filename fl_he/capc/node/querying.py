"""The querying party's steps: ask, open the answering parties' comparisons, get the label."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import numpy as np
from flwr.app import Context

from fl_he.capc.messages import COUNTS, TESTED_COUNTS, CapcReply, CapcRequest
from fl_he.capc.node.keys import GUARDIAN, KeyPair, PublicKeys
from fl_he.capc.node.party import Memory, Party
from fl_he.capc.terms import VOTE_PACKING
from fl_he.crypto.comparison.argmax import PairSecrets, blind_pairs, compare_permuted, pairs, winner
from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import Digits, compare
from fl_he.crypto.comparison.conditional_answer import answer_layout, answers, any_of, encrypt_coins
from fl_he.crypto.comparison.relu import products
from fl_he.crypto.comparison.votes import by_class, encrypt_winners, vote_length
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.wire.records import ProtocolError

_UNITS = "units"
_MASKS, _ORDERS = "count-masks", "count-orders"
_REACHED_MASKS, _REACHED_COINS = "reached-masks", "reached-coins"


def ask(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Encrypt the queries, feature by feature, the queries in slots."""
    queries = party.queries(request.queries)
    if queries.shape != (request.queries, party.terms.features):
        raise ProtocolError(
            f"queries must be {request.queries} of {party.terms.features} features, got "
            f"{queries.shape}"
        )
    key = keys.public.paillier
    layout = party.logit_layout(key)
    plaintexts = [joined for column in queries.T.tolist() for joined in layout.join(column)]
    features = key.to_bytes(key.encrypt(plaintexts))
    return CapcReply(dict.fromkeys(request.answering, features))


def unit_bits(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Open the masked units of every answering party's hidden layer and encrypt their digits."""
    key, memory = keys.public.paillier, Memory(context, request.session)
    layout = party.logit_layout(key)
    parts = {}
    for name, blinded in request.parts.items():
        # how many units there are is the answering party's to say
        units = len(blinded) // (layout.packs(request.queries) * key.ciphertext_bytes)
        opened = keys.open(layout, blinded, units, request.queries)
        memory.keep(f"{_UNITS}-{name}", opened)
        parts[name] = keys.digits(layout, opened)
    return CapcReply(parts)


def unit_products(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Multiply each masked unit by its result, which is under a coin of the answering party's."""
    key, memory = keys.public.paillier, Memory(context, request.session)
    layout = party.logit_layout(key)
    parts = {}
    for name, compared in request.parts.items():
        opened = memory.take(f"{_UNITS}-{name}")
        found = keys.results(party.terms.value_bits, compared, len(opened))
        factors = products(key, layout, opened, found, request.queries)
        parts[name] = key.to_bytes(factors)
    return CapcReply(parts)


def logit_bits(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Open the masked differences of every answering party and encrypt their digits."""
    layout = party.logit_layout(keys.public.paillier)
    classes = party.terms.classes
    return CapcReply(
        {
            name: keys.pair_bits(layout, blinded, classes, request.queries)
            for name, blinded in request.parts.items()
        }
    )


def vote(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Find each answering party's permuted winner and encrypt it under the guardian's key."""
    terms = party.terms
    guardian = PublicKeys.from_texts(request.keys, GUARDIAN, terms.key_bits).paillier
    layout, each = party.vote_layout(guardian), len(pairs(terms.classes))
    parts = {}
    for name, compared in request.parts.items():
        found = keys.results(terms.value_bits, compared, each * request.queries)
        winners = [winner(terms.classes, found[at : at + each]) for at in _steps(found, each)]
        positions = encrypt_winners(guardian, layout, terms.classes, winners)
        parts[name] = guardian.to_bytes(positions)
    return CapcReply(parts)


def count(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Hide the differences of the noisy counts, and their distance from the threshold."""
    terms, memory = party.terms, Memory(context, request.session)
    guardian = PublicKeys.from_texts(request.keys, GUARDIAN, terms.key_bits).paillier
    layout = party.vote_layout(guardian)
    length = vote_length(guardian, layout, VOTE_PACKING, terms.classes, request.queries)

    def counts(name: str) -> list[list[int]]:
        vector = EncryptedVector.from_bytes(request.part(name), guardian)
        if (vector.packing, len(vector)) != (VOTE_PACKING, length):
            raise ProtocolError(f"{name} must be {length} counts, got {vector!r}")
        return by_class(vector, terms.classes)

    blinded, kept = blind_pairs(guardian, layout, counts(COUNTS), request.queries)
    memory.keep(_MASKS, kept.masks)
    memory.keep(_ORDERS, kept.permutations)
    parts = {"blinded": guardian.to_bytes(blinded)}
    if terms.threshold is not None:
        # d = count - threshold, at least 0 if it is reached
        reached, masks = blind(
            guardian, layout, counts(TESTED_COUNTS), request.queries, -terms.threshold
        )
        memory.keep(_REACHED_MASKS, masks)
        parts["reached"] = guardian.to_bytes([c for packs in reached for c in packs])
    return CapcReply(parts)


def compare_counts(
    request: CapcRequest, context: Context, party: Party, keys: KeyPair
) -> CapcReply:
    """Compare counts in a random order, and with the threshold, the results under coins."""
    terms, memory = party.terms, Memory(context, request.session)
    dgk = PublicKeys.from_texts(request.keys, GUARDIAN, terms.key_bits).dgk
    digits = Digits(party.vote_layout(keys.public.paillier).value_bits)
    orders = memory.take(_ORDERS)
    kept = PairSecrets(memory.take(_MASKS), orders)
    numbers = request.queries * len(pairs(terms.classes))
    encrypted = dgk.from_bytes(request.part("bits"), numbers * digits.sent)
    parts = {"compared": dgk.to_bytes(compare_permuted(dgk, digits, encrypted, kept))}
    memory.keep(_ORDERS, orders)
    if terms.threshold is not None:
        masks = [mask for label in memory.take(_REACHED_MASKS) for mask in label]
        coins = [secrets.randbits(1) for _ in masks]
        encrypted = dgk.from_bytes(request.part("reached-bits"), len(masks) * digits.sent)
        parts["reached"] = dgk.to_bytes(compare(dgk, digits, encrypted, masks, coins))
        memory.keep(_REACHED_COINS, coins)
    return CapcReply(parts)


def any_reached(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Hide from the guardian whether any class has reached the threshold."""
    terms, memory = party.terms, Memory(context, request.session)
    dgk = PublicKeys.from_texts(request.keys, GUARDIAN, terms.key_bits).dgk
    queries = request.queries
    coins = memory.take(_REACHED_COINS)
    shares = dgk.from_bytes(request.part("shares"), terms.classes * queries)
    # by class, then by query; wanted is the other way round
    order = [label * queries + query for query in range(queries) for label in range(terms.classes)]
    compared, secret = any_of(
        dgk,
        [shares[at] for at in order],
        [
            [coins[label * queries + query] for label in range(terms.classes)]
            for query in range(queries)
        ],
    )
    key = keys.public.paillier
    return CapcReply(
        {
            "compared": dgk.to_bytes(compared),
            "coins": key.to_bytes(encrypt_coins(key, secret)),
        }
    )


def learn(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Turn what the guardian released into labels and learn from them."""
    terms, memory = party.terms, Memory(context, request.session)
    orders = memory.take(_ORDERS)
    if terms.threshold is None:
        data = request.part("winners")
        if len(data) != request.queries:
            raise ProtocolError(f"winners must be {request.queries}, got {len(data)}")
        positions: list[int | None] = list(data)
    else:
        key = keys.public.paillier
        layout = answer_layout(key)
        packs = layout.packs(request.queries)
        ciphertexts = key.from_bytes(request.part("answers"), packs)
        positions = answers(layout, keys.paillier.decrypt(ciphertexts), request.queries)
    if any(p is not None and p >= terms.classes for p in positions):
        raise ProtocolError(f"winners must be below {terms.classes}, got others")
    labels = [-1 if p is None else order[p] for p, order in zip(positions, orders, strict=True)]
    report = party.learn(np.array(labels, dtype=np.int64))
    return CapcReply(report=json.dumps(report))


def _steps(values: list[int], each: int) -> Iterator[int]:
    return iter(range(0, len(values), each))
