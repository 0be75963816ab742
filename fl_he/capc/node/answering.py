"""The answering party's steps: evaluate layer by layer, compare, collect."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from functools import partial
from hashlib import sha256

from fl_he.capc import protocol
from fl_he.capc.node.party import Parts, Turn
from fl_he.capc.terms import VOTE_PACKING
from fl_he.crypto.comparison.argmax import PairSecrets, blind_pairs, compare_permuted, pair_batch
from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import compare as dgk_compare
from fl_he.crypto.comparison.linear_map import linear_map
from fl_he.crypto.comparison.relu import PRODUCTS, highest_bits, rectified, unit_batch
from fl_he.crypto.comparison.votes import collect_votes, vote_length
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector

_ASKED, _MASKS, _ORDERS = "asked", "logit-masks", "orders"
_LAYER, _UNIT_MASKS, _UNITS = "layer", "unit-masks", "units"


def evaluate(turn: Turn) -> Parts:
    """Evaluate the model's first layer on encrypted queries."""
    turn.party.begin(turn.request.session, turn.request.querying, turn.queries)
    turn.memory.keep(_ASKED, sha256(turn.part(protocol.FEATURES)).hexdigest())
    key = turn.querying.paillier
    packs = turn.terms.logit_layout.packs(turn.queries)
    count = turn.terms.features * packs
    ciphertexts = key.from_bytes(turn.part(protocol.FEATURES), count)
    features = [ciphertexts[at : at + packs] for at in range(0, len(ciphertexts), packs)]
    return _layer(0, features, turn)


def compare_units(turn: Turn) -> Parts:
    """Compare a hidden layer's units with 0, each result under a coin of its own."""
    dgk, (value_bits, masks) = turn.querying.dgk, turn.memory.take(_UNIT_MASKS)
    layout = turn.terms.logit_layout.narrowed(value_bits)
    coins = [[secrets.randbits(1) for _ in row] for row in masks]
    flat = [mask for row in masks for mask in row]
    batch = unit_batch(dgk, layout, len(flat))
    encrypted = dgk.from_bytes(turn.part(protocol.UNIT_BITS), batch.sent)
    shares = highest_bits(layout, flat), [coin for row in coins for coin in row]
    compared = dgk_compare(dgk, batch, encrypted, *shares)
    turn.memory.keep(_UNITS, [value_bits, masks, coins])
    return {protocol.COMPARED_UNITS: dgk.to_bytes(compared)}


def rectify(turn: Turn) -> Parts:
    """Take the ReLU of a hidden layer's units and evaluate the next layer."""
    key = turn.querying.paillier
    value_bits, masks, coins = turn.memory.take(_UNITS)
    count = PRODUCTS * len(masks) * turn.queries
    factors = key.from_bytes(turn.part(protocol.PRODUCTS), count)
    layout = turn.terms.logit_layout.narrowed(value_bits)
    units = rectified(key, layout, factors, masks, coins)
    return _layer(turn.memory.take(_LAYER) + 1, units, turn)


def compare(turn: Turn) -> Parts:
    """Compare the classes in a random order of each query's own."""
    terms, dgk, orders = turn.terms, turn.querying.dgk, turn.memory.take(_ORDERS)
    kept = PairSecrets(turn.memory.take(_MASKS), orders)
    batch = pair_batch(dgk, terms.value_bits, terms.classes, turn.queries)
    encrypted = dgk.from_bytes(turn.part(protocol.LOGIT_BITS), batch.sent)
    compared = compare_permuted(dgk, batch, encrypted, kept)
    turn.memory.keep(_ORDERS, orders)
    return {protocol.COMPARED_LOGITS: dgk.to_bytes(compared)}


def collect(turn: Turn) -> Parts:
    """Put the encrypted vote back into the order of the classes and add it to the running sum.

    With pairwise masks the vote is hidden in all sums but that of all answering parties.

    Where parts travel sealed, the last party of a chain adds the guardian's noise as well: it is
    those whose patients are at stake that see to it.
    """
    key = turn.guardian.paillier
    count = turn.queries * turn.terms.classes
    positions = key.from_bytes(turn.part(protocol.POSITIONS), count)
    orders, asked = turn.memory.take(_ORDERS), bytes.fromhex(turn.memory.take(_ASKED))
    layout, masks = turn.terms.vote_layout, None
    if (own := turn.read_pairs()) is not None:
        length = vote_length(key, layout, VOTE_PACKING, turn.terms.classes, turn.queries)
        vote = turn.part(protocol.POSITIONS) + json.dumps(orders).encode()
        pairs = own.masks(turn.request, turn.guardian, asked, length, vote)
        masks = partial(pairs.plaintexts, modulus=key.n)
    votes = collect_votes(key, layout, VOTE_PACKING, positions, orders, masks=masks)
    if turn.has(protocol.SUM):
        votes.add_in_place(EncryptedVector.from_bytes(turn.part(protocol.SUM), key), key)
    # Until here nobody has learned anything of this party's patients.
    turn.party.spend(turn.request.session, turn.queries)
    if not turn.has(protocol.NOISE):
        return {protocol.SUM: votes.to_bytes()}
    return {
        counts: votes.add(EncryptedVector.from_bytes(turn.part(noise), key), key).to_bytes()
        for counts, noise in protocol.NOISE_IN.items()
        if turn.terms.threshold is not None or not noise.tested
    }


def _layer(number: int, inputs: Sequence[Sequence[int]], turn: Turn) -> Parts:
    """Evaluate one layer, inputs of shape (inputs, packs), and hide what the querying party opens.

    That is each unit of a hidden layer, and after the last one the differences of all pairs of
    classes.
    """
    key = turn.querying.paillier
    model, layout = turn.party.model(), turn.terms.logit_layout
    layer, queries = model[number], turn.queries
    outputs = []
    for pack, features in enumerate(zip(*inputs, strict=True)):
        # each query's slot gets the offset; those after the last query hold nothing that is used
        count = min(layout.slots, queries - pack * layout.slots)
        offsets = [layout.join([offset] * count)[0] for offset in layer.offsets]
        outputs.append(linear_map(key, layer.weights, features, offsets))
    units = list(zip(*outputs, strict=True))
    if number < len(model) - 1:
        hidden, masks = blind(key, layout.narrowed(layer.bits), units, queries)
        turn.memory.keep(_LAYER, number)
        turn.memory.keep(_UNIT_MASKS, [layer.bits, masks])
        body = key.to_bytes([c for packs in hidden for c in packs])
        return {protocol.UNITS: bytes([layer.bits]) + body}
    blinded, kept = blind_pairs(key, layout, units, queries)
    turn.memory.keep(_MASKS, kept.masks)
    turn.memory.keep(_ORDERS, kept.permutations)
    return {protocol.LOGITS: key.to_bytes(blinded)}
