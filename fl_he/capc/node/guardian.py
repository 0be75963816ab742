"""The privacy guardian's steps: noise, and comparisons of noisy counts that it cannot see."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fl_he.capc import protocol
from fl_he.capc.node.party import Parts, Turn
from fl_he.capc.terms import VOTE_BITS, VOTE_PACKING, Terms
from fl_he.crypto.comparison.argmax import pair_batch
from fl_he.crypto.comparison.comparison import Batch, Digits
from fl_he.crypto.comparison.conditional_answer import release
from fl_he.crypto.comparison.votes import encrypt_counts
from fl_he.learning.voting.noisy_vote import vote_noise
from fl_he.wire.records import ProtocolError

_WINNERS = "winners"
_DRAWN = "noise"


def noise(turn: Turn) -> Parts:
    """Encrypt noise for each count, and for the threshold test one number for all classes."""
    terms, queries = turn.terms, turn.queries
    turn.party.require_budget(queries)
    turn.memory.keep(_DRAWN, queries)  # one set of noise for each batch
    shape = (terms.classes, queries)
    key = turn.own.public.paillier
    drawn = _fitting(terms, terms.variance_gnmax, terms.classes * queries).reshape(shape)
    parts = {protocol.NOISE: drawn}
    if terms.threshold is not None:
        test = _fitting(terms, terms.variance_threshold, queries)
        # the largest noisy count reaches the threshold exactly if any does
        parts[protocol.TEST_NOISE] = np.broadcast_to(test, shape)
    return {
        part: encrypt_counts(key, terms.vote_layout, VOTE_PACKING, values).to_bytes()
        for part, values in parts.items()
    }


def count_bits(turn: Turn) -> Parts:
    """Open masked differences and encrypt their digits."""
    own, classes, queries = turn.own, turn.terms.classes, turn.queries
    if turn.memory.take(_DRAWN) != queries:
        raise ProtocolError("counts must be compared with the noise of this batch")
    layout = turn.terms.vote_layout
    counts = own.open_pairs(layout, turn.part(protocol.BLINDED_COUNTS), classes, queries)
    batch = pair_batch(own.public.dgk, VOTE_BITS, classes, queries)
    parts = {protocol.COUNT_BITS: own.bits(batch, counts)}
    if turn.terms.threshold is not None:
        distances = own.open(layout, turn.part(protocol.BLINDED_DISTANCES), classes, queries)
        parts[protocol.DISTANCE_BITS] = own.bits(_distances(turn), distances)
    return parts


def decide(turn: Turn) -> Parts:
    """Find each query's winner, a position in an order that only the querying party knows."""
    own, classes, queries = turn.own, turn.terms.classes, turn.queries
    winners = own.winners(VOTE_BITS, turn.part(protocol.COMPARED_COUNTS), classes, queries)
    if turn.terms.threshold is None:
        return {protocol.WINNERS: bytes(winners)}
    turn.memory.keep(_WINNERS, winners)
    compared = turn.part(protocol.COMPARED_DISTANCES)
    shares = own.results(_distances(turn), compared)
    return {protocol.SHARES: own.public.dgk.to_bytes(own.dgk.encrypt_bits(shares))}


def _distances(turn: Turn) -> Batch:
    """Return the comparisons with the threshold, by class, then by query."""
    primes = turn.own.public.dgk.primes
    return Batch(Digits(VOTE_BITS), primes, turn.terms.classes * turn.queries)


def release_winners(turn: Turn) -> Parts:
    """Hand each winner over where a class has reached the threshold, without learning where."""
    querying, dgk, classes = turn.querying.paillier, turn.own.dgk, turn.terms.classes
    winners = turn.memory.take(_WINNERS)
    compared = turn.part(protocol.ANY_REACHED)
    zero = dgk.are_zero(dgk.public_key.from_bytes(compared, classes * turn.queries))
    found = [int(any(zero[at : at + classes])) for at in range(0, len(zero), classes)]
    coins = querying.from_bytes(turn.part(protocol.COINS), turn.queries)
    answers = release(querying, winners, found, coins)
    return {protocol.ANSWERS: querying.to_bytes(answers)}


def _fitting(terms: Terms, variance: Fraction | None, size: int) -> NDArray[np.int64]:
    """Draw noise; refuse a sample that the counts have no room for."""
    drawn = vote_noise(variance, size)
    if np.abs(drawn).max() + VOTE_PACKING.max_contributors > terms.largest_count:
        raise ProtocolError("the noise must fit the counts, and a sample does not: lower sigma")
    return drawn
