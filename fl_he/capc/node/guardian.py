"""The privacy guardian's steps: noise, and comparisons of noisy counts that it cannot see."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from fl_he.capc.messages import NOISE, TEST_NOISE, CapcReply, CapcRequest
from fl_he.capc.node.keys import QUERYING, KeyPair, PublicKeys
from fl_he.capc.node.party import Memory, Party
from fl_he.capc.terms import VOTE_BITS, VOTE_PACKING, Terms
from fl_he.crypto.comparison.argmax import pairs, winner
from fl_he.crypto.comparison.conditional_answer import release
from fl_he.crypto.comparison.votes import encrypt_counts
from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian
from fl_he.wire.records import ProtocolError

_WINNERS = "winners"
_DRAWN = "noise"


def noise(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Encrypt noise for each count, and for the threshold test one number for all classes."""
    terms, queries = party.terms, request.queries
    party.require_budget(queries)
    Memory(context, request.session).keep(_DRAWN, queries)  # one set of noise for each batch
    shape = (terms.classes, queries)
    key = keys.public.paillier
    drawn = _gaussian(terms, terms.variance_gnmax, terms.classes * queries).reshape(shape)
    parts = {NOISE: drawn}
    if terms.threshold is not None:
        test = _gaussian(terms, terms.variance_threshold, queries)
        # the largest noisy count reaches the threshold exactly if any does
        parts[TEST_NOISE] = np.broadcast_to(test, shape)
    layout = party.vote_layout(key)
    return CapcReply(
        {
            name: encrypt_counts(key, layout, VOTE_PACKING, values).to_bytes()
            for name, values in parts.items()
        }
    )


def count_bits(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Open masked differences and encrypt their digits."""
    terms, queries = party.terms, request.queries
    if Memory(context, request.session).take(_DRAWN) != queries:
        raise ProtocolError("counts must be compared with the noise of this batch")
    layout = party.vote_layout(keys.public.paillier)
    blinded = request.part("blinded")
    parts = {"bits": keys.pair_bits(layout, blinded, terms.classes, queries)}
    if terms.threshold is not None:
        reached = request.part("reached")
        parts["reached-bits"] = keys.bits(layout, reached, terms.classes, queries)
    return CapcReply(parts)


def decide(request: CapcRequest, context: Context, party: Party, keys: KeyPair) -> CapcReply:
    """Find each query's winner, a position in an order that only the querying party knows."""
    terms, queries = party.terms, request.queries
    each = len(pairs(terms.classes))
    found = keys.results(VOTE_BITS, request.part("compared"), each * queries)
    winners = [winner(terms.classes, found[at : at + each]) for at in range(0, len(found), each)]
    if terms.threshold is None:
        return CapcReply({"winners": bytes(winners)})
    Memory(context, request.session).keep(_WINNERS, winners)
    shares = keys.results(VOTE_BITS, request.part("reached"), terms.classes * queries)
    return CapcReply({"shares": keys.public.dgk.to_bytes(keys.dgk.encrypt_bits(shares))})


def release_winners(
    request: CapcRequest, context: Context, party: Party, keys: KeyPair
) -> CapcReply:
    """Hand each winner over where a class has reached the threshold, without learning where."""
    terms, queries = party.terms, request.queries
    querying = PublicKeys.from_texts(request.keys, QUERYING, terms.key_bits).paillier
    winners = Memory(context, request.session).take(_WINNERS)
    dgk, classes = keys.public.dgk, terms.classes
    zero = keys.dgk.are_zero(dgk.from_bytes(request.part("compared"), classes * queries))
    found = [int(any(zero[at : at + classes])) for at in range(0, len(zero), classes)]
    coins = querying.from_bytes(request.part("coins"), queries)
    return CapcReply({"answers": querying.to_bytes(release(querying, winners, found, coins))})


def _gaussian(terms: Terms, variance: Fraction | None, size: int) -> NDArray[np.int64]:
    if variance is None:
        return np.zeros(size, dtype=np.int64)
    drawn = discrete_gaussian(variance, size)
    if np.abs(drawn).max() + VOTE_PACKING.max_contributors > terms.largest_count:
        raise ProtocolError("the noise must fit the counts, and a sample does not: lower sigma")
    return drawn
