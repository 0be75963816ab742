"""Masked words of one vector: mask, add, bytes with their header, validation, unmask.

The word of value i is ``c_i = x_i + k_i mod 2**(8 * w)``: x_i is the fixed-point integer, k_i the
i-th number of 8 bytes of a key stream, and w the width, 4 to 8 bytes, which the packing fixes. The
stream is that of AES-256 in counter mode, under a key that HKDF derives from the seed of the
update's ticket and the occasion of the hospital. Seeds are fresh for every vector and stored
nowhere, so no two vectors share a stream. Words add up modulo ``2**(8 * w)``, and a total of
`Packing.max_contributors` vectors has fewer bits.

**Secrecy.** To everybody without the seeds of some vectors the words of these vectors are
independent and uniform, up to attacks on AES-256, HKDF and the seal of tickets. The same holds for
a sum in which one seed is unknown. A hospital knows the seed of its own vector, for as long as it
masks; the coordinator knows none.

**Company X's answer is the total of the tickets' vectors plus numbers that the coordinator knows,**
for any words y that the coordinator submits with a set T of tickets. Let H be the tickets in T
that hospitals have issued; c_t, x_t and k_t are words, integers and stream of the vector of ticket
t. The coordinator has made the other tickets of T, so it knows the sum m of their streams. Company
X computes, modulo ``2**(8 * w)`` and by k_t = c_t - x_t,

    y - m - (sum of k_t for t in H)  =  (sum of x_t for t in H) + (y - m - sum of c_t for t in H)

The coordinator knows the second bracket. So all that an answer, or a refusal by the range check,
shows of updates is the total of H, and company X decides by the tickets, before anything is
unmasked, whether that total may be opened. The seal must not be malleable, or T could have a ticket
whose seed is related to another's: HPKE is secure against chosen ciphertexts. Cases:

One ticket twice in T, or two tickets of one hospital
    Refused before a seed is opened. The first would open ``2 * x_t``.
One ticket in two sets
    The seal opens for the ticket's occasion alone, and the ledger opens one total of an occasion.
A vector in y without its ticket in T: its stream is left out
    The second bracket contains c_t. So to the coordinator the answer is as above, and to everybody
    without the seed of t, company X included, it is uniform. It is refused with a value key.
    Without one the range check lets each word pass with probability
    ``(2 * n * maximum_integer + 1) / 2**(8 * w)``, for n tickets: a long vector is nearly always
    refused, unless the packing fills the words.
A vector twice in y
    The same, but company X has the seed of t, and so has been handed two sums of which one is
    ``x_t`` more. Only a coordinator that works with company X gains by that, as with Paillier.
Vectors of two hospitals swapped
    In one sum nothing changes. One hospital's vector with the other's ticket is a vector without
    its ticket.

The second bracket is also how a coordinator shifts a total by numbers of its choice. To prevent it,
hospitals have a value key, and a tag covers all values of a vector; see
:mod:`fl_he.crypto.tickets.tags`.

**Company X** sees a sum and the seeds of its contributors. Handed one hospital's vector with a
ticket of that hospital, company X can open the update, as with Paillier.

`MaskedVector` is read and written by blocks of `BLOCK` words. Its methods need less than 1 MiB in
addition to the arrays that they take and return, for any length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from cryptography.utils import Buffer
from numpy.typing import NDArray

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.streams import KeyStream, Stream
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import TAG_MODULUS, Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.summed_vector import SummedVector
from fl_he.crypto.schemes import MASKS, Scheme
from fl_he.errors import kind_in_words

_STREAM = b"fl-he mask 1"
# In this order: magic, version, fraction_bits, integer_bits, width, max_contributors, length, the
# key's fingerprint, the occasion's digest, 1 for a vector with a tag, or 0, and the tag, or zeros.
_LAYOUT = struct.Struct(">4s4BIQ32s32sB13s")
#: First bytes of a masked vector.
MAGIC = b"FLHM"
_VERSION = 1
_TAG_BYTES = 13
_WORD_BYTES = 8

HEADER_BYTES = _LAYOUT.size

#: Words masked at a time.
BLOCK = 2**14

# A word's parts by its width: numbers that numpy has, each named by its lowest bit.
_PARTS = {
    4: [("0", "<u4")],
    5: [("0", "<u4"), ("32", "u1")],
    6: [("0", "<u4"), ("32", "<u2")],
    7: [("0", "<u4"), ("32", "<u2"), ("48", "u1")],
    8: [("0", "<u8")],
}


@dataclass(frozen=True, slots=True)
class MaskHeader:
    """Header of a masked vector's bytes.

    Parameters
    ----------
    fingerprint : str
        Fingerprint of company X's key, 64 hexadecimal digits.
    occasion : bytes of length 32
        Digest of the sum's occasion; see `Occasion.digest`.
    packing : Packing
        Fixed-point format of the values.
    length : int
        Number of values, at least 1.
    tag : int or None
        Tag of the values, below `TAG_MODULUS`; ``None`` without a value key.
    """

    fingerprint: str
    occasion: bytes
    packing: Packing
    length: int
    tag: int | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise CryptoError(f"a masked vector must have at least one value, got {self.length}")
        if self.tag is not None and not 0 <= self.tag < TAG_MODULUS:
            raise CryptoError("a masked vector's tag must be below the modulus of tags")

    @property
    def width(self) -> int:
        """Bytes of a word: the fewest, 4 at least, that hold a total."""
        return max(min(_PARTS), -(-self.packing.slot_bits // 8))

    def to_bytes(self) -> bytes:
        """Return the header's 98 bytes."""
        packing, tag = self.packing, self.tag or 0
        bits = (packing.fraction_bits, packing.integer_bits, self.width)
        numbers = (*bits, packing.max_contributors, self.length)
        digests = (bytes.fromhex(self.fingerprint), self.occasion)
        tags = (self.tag is not None, tag.to_bytes(_TAG_BYTES, "big"))
        return _LAYOUT.pack(MAGIC, _VERSION, *numbers, *digests, *tags)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> MaskHeader:
        """Read the header at the start of data that another node sent.

        Raises
        ------
        CryptoError
            If there is none.
        """
        if len(data) < HEADER_BYTES:
            raise CryptoError(
                f"a masked vector must have at least {HEADER_BYTES} bytes, got {len(data)}"
            )
        magic, version, fraction_bits, integer_bits, width, *rest = _LAYOUT.unpack_from(data)
        contributors, length, key, occasion, tagged, tag = rest
        if magic != MAGIC:
            raise CryptoError(f"a masked vector must start with {MAGIC!r}, got {magic!r}")
        if version != _VERSION:
            raise CryptoError(f"the version must be {_VERSION}, got {version}")
        number = int.from_bytes(tag, "big")
        if tagged not in (0, 1) or number > tagged * (TAG_MODULUS - 1):
            raise CryptoError("a masked vector's tag must be below the modulus of tags, or absent")
        packing = Packing(fraction_bits, integer_bits, contributors)
        header = cls(key.hex(), occasion, packing, length, number if tagged else None)
        if width != header.width:
            raise CryptoError(f"the width of a word must be {header.width}, got {width}")
        return header


def mask_stream(seed: bytes, info: bytes) -> KeyStream:
    """Return the stream of one vector, apart from all other uses of its ticket's seed.

    Parameters
    ----------
    seed : bytes of length 32
        The ticket's.
    info : bytes
        Occasion of the hospital; see `Occasion.to_bytes`.
    """
    return KeyStream(seed, encode_fields(_STREAM, info))


class MaskedVector(SummedVector):
    """A vector of totals under masks.

    Made by `mask` or `from_bytes`.

    Parameters
    ----------
    header : MaskHeader
    body : bytearray or memoryview
        ``header.length`` little-endian words of ``header.width`` bytes. A total has a body
        of its own if it is read-only.

    Attributes
    ----------
    header : MaskHeader
    """

    __slots__ = ("_body", "header")
    scheme: ClassVar[Scheme] = MASKS

    def __init__(self, header: MaskHeader, body: bytearray | memoryview) -> None:
        expected = header.length * header.width
        if len(body) != expected:
            raise CryptoError(f"body must have {expected} bytes, got {len(body)}")
        super().__init__(header.fingerprint, header.packing, tagged=header.tag is not None)
        self.header, self._body = header, body

    @property
    def ciphertexts(self) -> int:
        """Number of ciphertexts: all words are one."""
        return 1

    def __len__(self) -> int:
        return self.header.length

    def __repr__(self) -> str:
        return (
            f"MaskedVector({len(self)} values, {self.header.width} bytes each, "
            f"key {self.fingerprint[:16]})"
        )

    @classmethod
    def mask(cls, header: MaskHeader, integers: NDArray[np.int64], stream: Stream) -> MaskedVector:
        """Mask one contributor's fixed-point integers.

        Parameters
        ----------
        header : MaskHeader
            With the tag of these integers, or without.
        integers : int64 array of shape (header.length,)
            As `Packing.encode` makes them.
        stream : Stream
            Of a seed that masks no other vector.

        Raises
        ------
        RangeError
            If an integer is out of range.
        CryptoError
            If there are fewer integers, or more.
        """
        header.packing.check(integers)
        vector = cls(header, bytearray(len(integers) * header.width))
        for block, words in zip(_blocks(integers), _blocks(vector._words()), strict=True):
            _store(words, block.view(np.uint64) + _numbers(stream, len(block)))
        return vector

    def unmask(self, streams: Sequence[Stream]) -> NDArray[np.int64]:
        """Return the words less the numbers of streams: the totals if all streams are right.

        Parameters
        ----------
        streams : sequence of Stream
            One for each contributor.

        Returns
        -------
        int64 array of shape (len(self),)
            Signed, in ``8 * header.width`` bits.
        """
        totals = np.empty(len(self), dtype=np.int64)
        unused = 8 * (_WORD_BYTES - self.header.width)
        for block, words in zip(_blocks(totals), _blocks(self._words()), strict=True):
            numbers = _load(words)
            for stream in streams:
                numbers -= _numbers(stream, len(block))
            numbers <<= np.uint64(unused)  # the word's highest bit becomes the sign
            np.right_shift(numbers.view(np.int64), unused, out=block)
        return totals

    def _add(self, other: MaskedVector, public_key: PublicKey) -> None:
        if other.header.occasion != self.header.occasion:
            raise CryptoError("both vectors must be for one occasion")
        mine, theirs = self._words(), other._words()
        if memoryview(self._body).readonly:
            self._body = bytearray(len(self._body))
        for total, one, two in zip(*map(_blocks, (self._words(), mine, theirs)), strict=True):
            _store(total, _load(one) + _load(two))
        if self.header.tag is not None and other.header.tag is not None:
            tag = (self.header.tag + other.header.tag) % TAG_MODULUS
            self.header = replace(self.header, tag=tag)

    def parts(self) -> tuple[Buffer, ...]:
        """Return a header of 98 bytes, and the words."""
        return self.header.to_bytes(), self._body

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, public_key: PublicKey) -> MaskedVector:
        """Read a vector that another node sent; see `SummedVector.from_bytes`.

        Any words are valid. They are not copied.
        """
        if not isinstance(data, bytes | memoryview):
            raise CryptoError(f"a masked vector must be bytes, got {kind_in_words(data)}")
        header = MaskHeader.from_bytes(data)
        # The constructor compares the declared length with the bytes that are there.
        vector = cls(header, memoryview(data)[HEADER_BYTES:])
        vector.require_key(public_key)
        return vector

    def _words(self) -> NDArray[Any]:
        return np.frombuffer(self._body, dtype=_PARTS[self.header.width])


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (array[at : at + BLOCK] for at in range(0, len(array), BLOCK))


def _numbers(stream: Stream, count: int) -> NDArray[np.uint64]:
    return np.frombuffer(stream.read(count * _WORD_BYTES), dtype="<u8")


def _load(words: NDArray[Any]) -> NDArray[np.uint64]:
    """Return words as numbers, in a new array."""
    names = words.dtype.names or ()
    numbers = words[names[0]].astype(np.uint64)
    for name in names[1:]:
        numbers |= words[name].astype(np.uint64) << np.uint64(name)
    return numbers


def _store(words: NDArray[Any], numbers: NDArray[np.uint64]) -> None:
    """Write the lowest bits of numbers."""
    for name in words.dtype.names or ():
        words[name] = numbers >> np.uint64(name)
