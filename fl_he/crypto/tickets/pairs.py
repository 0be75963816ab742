"""Pairwise masks: numbers that each two hospitals of a set share, and that cancel in its total.

Hospital u adds to its update, for each other hospital v of the set, a number of the stream that
only u and v can make: with a plus if u's name comes first, else with a minus. So each pair's number
is in the total of the whole set once with either sign (Bonawitz et al., "Practical Secure
Aggregation for Privacy-Preserving Machine Learning", CCS 2017, section 4; here without its
recovery from dropouts, since a set waits for all of its hospitals).

**Secrecy.** Let a coalition hold company X's key, all tickets' seeds, the coordinator, and all
hospitals of the set but two or more. It knows all streams but those between two of the others.
These are independent and uniform, up to attacks on AES-256 and HKDF: modulo n on Paillier's packed
plaintexts, modulo ``2**64`` on masked words, modulo `TAG_MODULUS` on a masked vector's tag. So the
others' updates are independent and uniform to the coalition, but for their sum, as long as each
stream serves one update of each of its two hospitals.

**Use.** A stream is of a sum's occasion, all that the hospital was asked, the value key that it was
given, and the set (`Occasion.pair_info`). What was asked decides about the update, and with the
value key about its tags: without them a coalition could repeat a question with another value key,
and each answer's tag would be one more equation in the same update; or it could ask two hospitals
about different models, in two sessions, so that one of them cancels. Streams of hospitals that were
asked differently do not cancel. A hospital answers the same question again with the same update
only.

**Seeds.** Each hospital of a pair gives one half, so no one of them, and nobody who repeats
messages to a hospital that has lost its own half, brings an old stream back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.streams import KEY_BYTES, KeyStream, derive
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import TAG_MODULUS

_HALF, _SEED = b"fl-he pair half 1", b"fl-he pair seed 1"
_SET = b"fl-he masked set 1"
_PLAINTEXTS, _WORDS, _TAG = b"plaintexts", b"words", b"tag"
#: A number from this many bytes more than a modulus has is uniform to 2**-128.
_EXTRA_BYTES = 16


def set_digest(hospitals: Mapping[str, bytes]) -> bytes:
    """Return the digest of a set of hospitals.

    Parameters
    ----------
    hospitals : mapping of str to bytes
        Names, each with the digest of its identity.
    """
    pairs = (part for name in sorted(hospitals) for part in (name.encode(), hospitals[name]))
    return sha256(encode_fields(_SET, *pairs)).digest()


def half_for(secret: bytes, other: str) -> bytes:
    """Return a hospital's half of a pair's seed, from the hospital's own secret of a session.

    Parameters
    ----------
    secret : bytes of length 32
    other : str
        The pair's other hospital.
    """
    return derive(secret, encode_fields(_HALF, other.encode()))


@dataclass(frozen=True, slots=True, repr=False)
class PairMasks:
    """Masks of one hospital's update.

    Parameters
    ----------
    hospital : str
        Name of the hospital.
    secret : bytes of length 32
        The hospital's own, of a session.
    halves : mapping of str to bytes
        What the other hospitals of the set gave for the pairs with this one, by their names.
    info : bytes
        The use; see `Occasion.pair_info`.

    Raises
    ------
    CryptoError
        If there is no other hospital, or a half has another length.
    """

    hospital: str
    secret: bytes
    halves: Mapping[str, bytes]
    info: bytes

    def __post_init__(self) -> None:
        if not self.halves or self.hospital in self.halves:
            raise CryptoError("masks must be of pairs with other hospitals")
        if any(len(half) != KEY_BYTES for half in self.halves.values()):
            raise CryptoError(f"halves of seeds must have {KEY_BYTES} bytes")

    def plaintexts(self, count: int, modulus: int) -> list[int]:
        """Return the sum of a hospital's numbers for each packed plaintext, modulo Paillier's n.

        Parameters
        ----------
        count : int
            Number of plaintexts.
        modulus : int
        """
        return self._numbers(_PLAINTEXTS, count, modulus)

    def tag(self) -> int:
        """Return the number for a masked vector's tag."""
        return self._numbers(_TAG, 1, TAG_MODULUS)[0]

    def words(self, own: KeyStream) -> WordStream:
        """Return the stream for words: that of the update's ticket and those of the pairs."""
        return WordStream(own, list(self._streams(_WORDS)))

    def _numbers(self, use: bytes, count: int, modulus: int) -> list[int]:
        width = -(-int(modulus).bit_length() // 8) + _EXTRA_BYTES
        sums = [0] * count
        for sign, stream in self._streams(use):
            data = stream.read(count * width)
            for at in range(count):
                sums[at] += sign * int.from_bytes(data[at * width : (at + 1) * width], "big")
        return [number % modulus for number in sums]

    def _streams(self, use: bytes) -> Iterator[tuple[int, KeyStream]]:
        info = encode_fields(self.info, use)
        for other, half in self.halves.items():
            own = half_for(self.secret, other)
            first = self.hospital < other
            halves = (own, half) if first else (half, own)
            yield 1 if first else -1, KeyStream(derive(b"".join(halves), _SEED), info)


class WordStream:
    """The sum of a stream and of pairs' streams, word by word modulo ``2**64``.

    Parameters
    ----------
    own : KeyStream
    pairs : list of (int, KeyStream)
        Each with its sign, 1 or -1.
    """

    __slots__ = ("_own", "_pairs")

    def __init__(self, own: KeyStream, pairs: list[tuple[int, KeyStream]]) -> None:
        self._own, self._pairs = own, pairs

    def read(self, length: int) -> bytes:
        """Return the next bytes, whole words of 8."""
        words = np.frombuffer(self._own.read(length), "<u8").copy()
        for sign, stream in self._pairs:
            numbers = np.frombuffer(stream.read(length), "<u8")
            words = words + numbers if sign > 0 else words - numbers
        return words.tobytes()
