"""The answering party's steps: evaluate, compare, collect."""

from __future__ import annotations

from flwr.app import Context

from fl_he.capc_messages import CapcReply, CapcRequest
from fl_he.capc_terms import VOTE_PACKING
from fl_he.clients.capc_keys import GUARDIAN, QUERYING, PublicKeys
from fl_he.clients.capc_memory import Memory
from fl_he.clients.capc_party import Party
from fl_he.crypto.argmax import PairSecrets, blind_pairs, compare_permuted, pairs
from fl_he.crypto.ciphertext_bytes import ciphertexts_from_bytes, ciphertexts_to_bytes
from fl_he.crypto.comparison import Digits
from fl_he.crypto.linear_map import linear_map
from fl_he.crypto.votes import collect_votes

_MASKS, _ORDERS = "logit-masks", "orders"


def evaluate(request: CapcRequest, context: Context, party: Party) -> CapcReply:
    """Evaluate the model on encrypted queries and hide the differences of all pairs of classes."""
    terms, memory = party.terms, Memory(context, request.session)
    key = PublicKeys.from_texts(request.keys, QUERYING, terms.key_bits).paillier
    layout = party.logit_layout(key)
    packs = layout.packs(request.queries)
    features = ciphertexts_from_bytes(key, request.part("features"), terms.features * packs)
    model = party.model()
    logits = []
    for pack in range(packs):
        # each query's slot gets the offset; those after the last query hold nothing that is used
        count = min(layout.slots, request.queries - pack * layout.slots)
        offsets = [layout.join([offset] * count)[0] for offset in model.offsets]
        logits.append(linear_map(key, model.weights, features[pack::packs], offsets))
    blinded, kept = blind_pairs(key, layout, list(zip(*logits, strict=True)), request.queries)
    memory.keep(_MASKS, kept.masks)
    memory.keep(_ORDERS, kept.permutations)
    return CapcReply(
        {"blinded": ciphertexts_to_bytes(key, [number for packs in blinded for number in packs])}
    )


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
    """Put the encrypted vote back into the order of the classes."""
    terms, memory = party.terms, Memory(context, request.session)
    key = PublicKeys.from_texts(request.keys, GUARDIAN, terms.key_bits).paillier
    count = request.queries * terms.classes
    positions = ciphertexts_from_bytes(key, request.part("positions"), count)
    orders = memory.take(_ORDERS)
    votes = collect_votes(key, party.vote_layout(key), VOTE_PACKING, positions, orders)
    return CapcReply({"votes": votes.to_bytes()})
