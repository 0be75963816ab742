"""Masked sums in the messages of runs: their schemes, words and seeds, and how uniform they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray
from scipy import stats

from fl_he.crypto.masks.masked_vector import HEADER_BYTES, MaskedVector, mask_stream
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import MASKS
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import EncryptedReply, EncryptionRequest
from fl_he.wire.occasions import purpose_of
from fl_he.wire.update_layout import UpdateLayout

#: By chance a statistic of uniform words has a lower p-value once in 10**9 times.
UNLIKELY = 1e-9
_CIPHERTEXTS = "fl-he.encrypted-vector"
_SMALL_BITS = 12

Words = NDArray[np.uint8]


def sums_in(messages: Iterable[Message]) -> list[bytes]:
    """Return the sums in messages, as they travel; each once."""
    found = [
        array.data
        for message in messages
        if message.has_content()
        for record in message.content.array_records.values()
        for array in record.values()
        if array.stype == _CIPHERTEXTS
    ]
    return list(dict.fromkeys(found))


def schemes_in(messages: Iterable[Message], key: PublicKey) -> set[str]:
    """Return the schemes of all sums in messages."""
    return {TicketedSum.from_bytes(one, key).vector.scheme for one in sums_in(messages)}


def vectors_in(messages: Iterable[Message], key: PublicKey) -> list[TicketedSum]:
    """Return masked sums in messages, in their order; each once."""
    return [TicketedSum.from_bytes(one, key, [MASKS]) for one in sums_in(messages)]


def words_of(summed: TicketedSum) -> Words:
    """Return masked words as bytes, of shape (length, width)."""
    assert isinstance(summed.vector, MaskedVector)
    body = np.frombuffer(summed.vector.to_bytes(), dtype=np.uint8, offset=HEADER_BYTES)
    return body.reshape(len(summed.vector), -1)


@dataclass(frozen=True)
class Made:
    """One hospital's masked update as its reply has it, with all that company X's key shows.

    Attributes
    ----------
    words : array of bytes, shape (length, width)
    seed : bytes
        The ticket's.
    integers : int64 array, shape (length,)
        Words without their masks.
    """

    words: Words = field(repr=False)
    seed: bytes = field(repr=False)
    integers: NDArray[np.int64] = field(repr=False)


def made_in(asked: Message, reply: Message, key: PrivateKey) -> Made:
    """Open a hospital's reply to a request without a running sum."""
    assert not reply.has_error(), reply.error.reason
    request = EncryptionRequest.from_content(asked.content)
    answer = EncryptedReply.from_content(reply.content)
    layout = UpdateLayout.from_json(answer.layout)
    return opened_update(
        answer.encrypted_sum,
        key,
        session=request.session,
        purpose=purpose_of(asked.metadata.message_type),
        round_=request.round,
        layout=layout,
        packing=Packing.from_json(request.packing),
    )


def opened_update(
    data: bytes,
    key: PrivateKey,
    *,
    session: str,
    purpose: str,
    round_: int,
    layout: UpdateLayout,
    packing: Packing,
) -> Made:
    """Open one hospital's update, by all that its ticket is bound to."""
    summed = TicketedSum.from_bytes(data, key.public_key, [MASKS])
    (ticket,) = summed.tickets
    own = Occasion(
        *(key.public_key.fingerprint, session, purpose, round_, ticket.asked, packing),
        *(len(layout), layout.metric_values, MASKS),
    )
    info = own.to_bytes(ticket.hospital)
    seed = key.open_sealed(ticket.sealed, info)
    assert isinstance(summed.vector, MaskedVector)
    integers = summed.vector.unmask([mask_stream(seed, info)])
    return Made(words_of(summed), seed, integers)


def scaled(words: Words) -> NDArray[np.uint64]:
    """Return words as the highest bits of numbers of 64 bits, which wrap around as words do."""
    padded = np.zeros((len(words), 8), dtype=np.uint8)
    padded[:, 8 - words.shape[1] :] = words
    numbers: NDArray[np.uint64] = padded.view("<u8")[:, 0]
    return numbers


def difference(one: Words, other: Words) -> Words:
    """Return the words of the difference of two vectors."""
    apart = scaled(one) - scaled(other)
    words: Words = apart.view(np.uint8).reshape(-1, 8)[:, 8 - one.shape[1] :]
    return words


def same_streams(vectors: Sequence[Words]) -> list[tuple[int, int]]:
    """Return pairs of vectors with the same masks: most words differ by little, of either sign.

    Each vector has at least six words, whose values have `_SMALL_BITS` fewer bits than there is
    room for. By chance such a pair has a probability below ``comb(6, 4) * 2**-44``.
    """
    found = []
    for (at, one), (later, other) in combinations(enumerate(vectors), 2):
        if one.shape == other.shape:
            apart = scaled(difference(one, other))
            small = np.minimum(apart, -apart) >> np.uint64(64 - _SMALL_BITS) == 0
            if small.sum() > len(one) / 2:
                found.append((at, later))
    return found


def same_seeds(made: Sequence[Made]) -> list[tuple[int, int]]:
    """Return pairs of updates with the same seed."""
    pairs = combinations(range(len(made)), 2)
    return [(at, later) for at, later in pairs if made[at].seed == made[later].seed]


def least_likely(words: Words) -> float:
    """Return the least p-value of words that should be uniform and independent.

    Of all bytes (chi-squared), the highest bytes (chi-squared), the numbers (Kolmogorov-Smirnov),
    and the runs of numbers above and below one half (Wald-Wolfowitz). Each has a p-value uniform
    in [0, 1] if they are.
    """
    assert len(words) > 1000, "chi-squared needs a few of each byte"
    numbers = scaled(words) / 2.0**64
    high = numbers >= 0.5
    above, below = int(high.sum()), int((~high).sum())
    mean = 1 + 2 * above * below / len(high)
    spread = np.sqrt((mean - 1) * (mean - 2) / (len(high) - 1))
    runs = 1 + int((high[1:] != high[:-1]).sum())
    return float(
        min(
            stats.chisquare(np.bincount(words.ravel(), minlength=256)).pvalue,
            stats.chisquare(np.bincount(words[:, -1] >> 2, minlength=64)).pvalue,
            stats.kstest(numbers, "uniform").pvalue,
            2 * stats.norm.sf(abs(runs - mean) / spread),
        )
    )


def neighbours_apart(vectors: Sequence[Words]) -> Words:
    """Return the differences of each vector and the next of its length, one after another.

    Of independent uniform vectors they are independent and uniform themselves.
    """
    by_length: dict[int, list[Words]] = {}
    for vector in vectors:
        by_length.setdefault(len(vector), []).append(vector)
    pairs = [pair for group in by_length.values() for pair in pairwise(group)]
    return np.concatenate([difference(one, other) for one, other in pairs])
