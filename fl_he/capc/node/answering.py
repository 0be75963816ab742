"""The answering party's steps: evaluate layer by layer, compare, collect."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from flwr.app import Context

from fl_he.capc.messages import (
    COUNTS,
    NOISE,
    SUM,
    TEST_NOISE,
    TESTED_COUNTS,
    CapcReply,
    CapcRequest,
)
from fl_he.capc.node.keys import GUARDIAN, QUERYING, PublicKeys
from fl_he.capc.node.party import Memory, Party
from fl_he.capc.terms import VOTE_PACKING
from fl_he.crypto.comparison.argmax import PairSecrets, blind_pairs, compare_permuted, pairs
from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import Digits
from fl_he.crypto.comparison.comparison import compare as dgk_compare
from fl_he.crypto.comparison.linear_map import linear_map
from fl_he.crypto.comparison.relu import PRODUCTS, rectified
from fl_he.crypto.comparison.votes import collect_votes
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector

_MASKS, _ORDERS = "logit-masks", "orders"
_LAYER, _UNIT_MASKS, _UNITS = "layer", "unit-masks", "units"


def evaluate(request: CapcRequest, context: Context, party: Party) -> CapcReply:
    """Evaluate the model's first layer on encrypted queries."""
    party.require_budget(request.queries)
    key = PublicKeys.from_texts(request.keys, QUERYING, party.terms.key_bits).paillier
    packs = party.logit_layout(key).packs(request.queries)
    ciphertexts = key.from_bytes(request.part("features"), party.terms.features * packs)
    features = [ciphertexts[at : at + packs] for at in range(0, len(ciphertexts), packs)]
    return _layer(0, features, request, context, party)


def compare_units(request: CapcRequest, context: Context, party: Party) -> CapcReply:
    """Compare a hidden layer's units with 0, each result under a coin of its own."""
    memory = Memory(context, request.session)
    dgk = PublicKeys.from_texts(request.keys, QUERYING, party.terms.key_bits).dgk
    digits = Digits(party.terms.value_bits)
    masks = memory.take(_UNIT_MASKS)
    coins = [[secrets.randbits(1) for _ in row] for row in masks]
    flat = [mask for row in masks for mask in row]
    encrypted = dgk.from_bytes(request.part("bits"), len(flat) * digits.sent)
    compared = dgk_compare(dgk, digits, encrypted, flat, [coin for row in coins for coin in row])
    memory.keep(_UNITS, [masks, coins])
    return CapcReply({"compared": dgk.to_bytes(compared)})


def rectify(request: CapcRequest, context: Context, party: Party) -> CapcReply:
    """Take the ReLU of a hidden layer's units and evaluate the next layer."""
    memory = Memory(context, request.session)
    key = PublicKeys.from_texts(request.keys, QUERYING, party.terms.key_bits).paillier
    masks, coins = memory.take(_UNITS)
    count = PRODUCTS * len(masks) * request.queries
    factors = key.from_bytes(request.part("products"), count)
    units = rectified(key, party.logit_layout(key), factors, masks, coins)
    return _layer(memory.take(_LAYER) + 1, units, request, context, party)


def compare(request: CapcRequest, context: Context, party: Party) -> CapcReply:
    """Compare the classes in a random order of each query's own."""
    terms, memory = party.terms, Memory(context, request.session)
    dgk = PublicKeys.from_texts(request.keys, QUERYING, terms.key_bits).dgk
    digits = Digits(terms.value_bits)
    orders = memory.take(_ORDERS)
    kept = PairSecrets(memory.take(_MASKS), orders)
    numbers = request.queries * len(pairs(terms.classes))
    encrypted = dgk.from_bytes(request.part("bits"), numbers * digits.sent)
    compared = compare_permuted(dgk, digits, encrypted, kept)
    memory.keep(_ORDERS, orders)
    return CapcReply({"compared": dgk.to_bytes(compared)})


def collect(request: CapcRequest, context: Context, party: Party) -> CapcReply:
    """Put the encrypted vote back into the order of the classes and add it to the running sum.

    Where parts travel sealed, the last party of a chain adds the guardian's noise as well: it is
    those whose patients are at stake that see to it.
    """
    terms, memory = party.terms, Memory(context, request.session)
    key = PublicKeys.from_texts(request.keys, GUARDIAN, terms.key_bits).paillier
    count = request.queries * terms.classes
    positions = key.from_bytes(request.part("positions"), count)
    orders = memory.take(_ORDERS)
    votes = collect_votes(key, party.vote_layout(key), VOTE_PACKING, positions, orders)
    if SUM in request.parts:
        votes.add_in_place(EncryptedVector.from_bytes(request.part(SUM), key), key)
    # Until here nobody has learned anything of this party's patients.
    party.spend(request.session, request.queries)
    if NOISE not in request.parts:
        return CapcReply({SUM: votes.to_bytes()})

    def noisy(name: str) -> bytes:
        return votes.add(EncryptedVector.from_bytes(request.part(name), key), key).to_bytes()

    parts = {COUNTS: noisy(NOISE)}
    if terms.threshold is not None:
        parts[TESTED_COUNTS] = noisy(TEST_NOISE)
    return CapcReply(parts)


def _layer(
    number: int,
    inputs: Sequence[Sequence[int]],
    request: CapcRequest,
    context: Context,
    party: Party,
) -> CapcReply:
    """Evaluate one layer, inputs of shape (inputs, packs), and hide what the querying party opens.

    That is each unit of a hidden layer, and after the last one the differences of all pairs of
    classes.
    """
    key = PublicKeys.from_texts(request.keys, QUERYING, party.terms.key_bits).paillier
    model, layout = party.model(), party.logit_layout(key)
    layer, queries = model.layers[number], request.queries
    outputs = []
    for pack, features in enumerate(zip(*inputs, strict=True)):
        # each query's slot gets the offset; those after the last query hold nothing that is used
        count = min(layout.slots, queries - pack * layout.slots)
        offsets = [layout.join([offset] * count)[0] for offset in layer.offsets]
        outputs.append(linear_map(key, layer.weights, features, offsets))
    units = list(zip(*outputs, strict=True))
    memory = Memory(context, request.session)
    if number < len(model.layers) - 1:
        hidden, masks = blind(key, layout, units, queries)
        memory.keep(_LAYER, number)
        memory.keep(_UNIT_MASKS, masks)
        name, blinded = "units", [c for packs in hidden for c in packs]
    else:
        blinded, kept = blind_pairs(key, layout, units, queries)
        memory.keep(_MASKS, kept.masks)
        memory.keep(_ORDERS, kept.permutations)
        name = "blinded"
    return CapcReply({name: key.to_bytes(blinded)})
