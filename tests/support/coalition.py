"""Company X, the coordinator and some hospitals collude: the rest of the others' updates.

The coalition has company X's key, all messages and the files of its hospitals. It takes the
encryption off each update and every pairwise mask that one of its hospitals shares.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from masked_transcripts import Words, words_of
from numpy.typing import NDArray

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.streams import KeyStream, derive
from fl_he.crypto.masks.masked_vector import MaskedVector, mask_stream
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

#: Of the lowest bytes of a plaintext modulo n, which are as good as uniform.
_LOW_BYTES = 120


@dataclass
class Files:
    """A hospital's file about a session's masks."""

    secret: bytes = b""
    set_digest: bytes = b""
    halves: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, lines: Sequence[str]) -> Files:
        """Read a file's lines."""
        found = cls()
        for entry in map(json.loads, lines):
            if "secret" in entry:
                found.secret = _decoded(entry["secret"])
                found.set_digest = bytes.fromhex(entry["digest"])
            elif "half" in entry:
                found.halves[entry["hospital"]] = _decoded(entry["half"])
        return found

    def stream(self, own: str, other: str, info: bytes, use: bytes) -> tuple[int, KeyStream]:
        """Return the sign and key stream that the other hospital of a pair adds, computed here."""
        mine = derive(self.secret, encode_fields(b"fl-he pair half 1", other.encode()))
        halves = (mine, self.halves[other]) if own < other else (self.halves[other], mine)
        seed = derive(b"".join(halves), b"fl-he pair seed 1")
        return (-1 if own < other else 1), KeyStream(seed, encode_fields(info, use))


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Left:
    """Rest of one hospital's update after the coalition has subtracted all that it can.

    Attributes
    ----------
    numbers : list of int
        Plaintexts modulo n, or words modulo ``2**64``.
    words : array of bytes, shape (words, 8)
        The same, to be tested.
    """

    numbers: list[int] = field(repr=False)
    words: Words = field(repr=False)


def left_of(
    update: TicketedSum,
    occasion: Occasion,
    key: PrivateKey,
    members: Mapping[str, Files],
    value_key: bytes | None = None,
) -> Left:
    """Take off the encryption of one update, and the masks of the coalition's hospitals."""
    (ticket,) = update.tickets
    own, vector = replace(occasion, asked=ticket.asked), update.vector
    info = own.to_bytes(ticket.hospital)
    seed = key.open_sealed(ticket.sealed, info)
    if isinstance(vector, MaskedVector):
        integers = vector.unmask([mask_stream(seed, info)])
        numbers = integers.view(np.uint64).copy()
        for name, files in members.items():
            if name != ticket.hospital and files.secret:
                use = own.pair_info(files.set_digest, value_key)
                sign, stream = files.stream(name, ticket.hospital, use, b"words")
                added = np.frombuffer(stream.read(8 * len(numbers)), "<u8")
                numbers = numbers - added if sign > 0 else numbers + added
        unused = np.uint64(64 - 8 * vector.header.width)
        numbers = numbers << unused  # the lowest bytes travel
        words = numbers.view(np.uint8).reshape(-1, 8)[:, int(unused) // 8 :]
        return Left((numbers >> unused).tolist(), words)
    assert isinstance(vector, EncryptedVector)
    return left_of_vector(vector, own, ticket.hospital, key, members, value_key=value_key)


def left_of_vector(
    vector: EncryptedVector,
    occasion: Occasion,
    hospital: str,
    key: PrivateKey,
    members: Mapping[str, Files],
    *,
    value_key: bytes | None = None,
) -> Left:
    """Take off Paillier's encryption of a hospital's vector, and the masks of the coalition."""
    modulus = int(key.public_key.n)
    plaintexts = [int(one) % modulus for one in key.decrypt(vector.to_integers())]
    width = -(-modulus.bit_length() // 8) + 16
    for name, files in members.items():
        if name != hospital and files.secret:
            use = occasion.pair_info(files.set_digest, value_key)
            sign, stream = files.stream(name, hospital, use, b"plaintexts")
            data = stream.read(width * len(plaintexts))
            for at in range(len(plaintexts)):
                added_one = int.from_bytes(data[at * width : (at + 1) * width], "big")
                plaintexts[at] = (plaintexts[at] - sign * added_one) % modulus
    low = b"".join(
        (one % 2 ** (8 * _LOW_BYTES)).to_bytes(_LOW_BYTES, "little") for one in plaintexts
    )
    return Left(plaintexts, np.frombuffer(low, np.uint8).reshape(-1, 8))


def values_in(
    left: Sequence[Left], occasion: Occasion, key: PrivateKey
) -> NDArray[np.int64] | None:
    """Return the fixed-point integers of a rest, ``None`` if it is not such a sum."""
    packing, length = occasion.packing, occasion.length
    if occasion.scheme == "masks":
        bits = 8 * max(4, -(-packing.slot_bits // 8))
        sums = [sum(parts) % 2**bits for parts in zip(*(one.numbers for one in left), strict=True)]
        integers = np.array([one - 2**bits * (one >> (bits - 1)) for one in sums], np.int64)
        limit = packing.max_contributors * packing.maximum_integer
        return integers if (np.abs(integers) <= limit).all() else None
    modulus = int(key.public_key.n)
    sums = [sum(parts) % modulus for parts in zip(*(one.numbers for one in left), strict=True)]
    signed = [one - modulus * (one > modulus // 2) for one in sums]
    integers, _, fits = packing.unpack_tagged(signed, length, key.public_key.key_bits)
    return integers if fits else None


def differences(sums: Sequence[TicketedSum], key: PrivateKey) -> list[TicketedSum]:
    """Return the single updates of a chain's running sums, which the coordinator passes on."""
    found = []
    for before, after in zip([None, *sums], sums, strict=False):
        if before is None:
            found.append(after)
            continue
        (ticket,) = [one for one in after.tickets if one.hospital not in before.contributors]
        found.append(TicketedSum(_less(after, before, key), (ticket,)))
    return found


def less(after: EncryptedVector, before: EncryptedVector, key: PrivateKey) -> EncryptedVector:
    """Return the encrypted difference of two running sums."""
    square = int(key.public_key.n) ** 2
    pairs = zip(after.to_integers(), before.to_integers(), strict=True)
    ciphertexts = [a * pow(b, -1, square) % square for a, b in pairs]
    data = bytearray(key.public_key.to_bytes(ciphertexts))
    return EncryptedVector(key.public_key, after.packing, len(after), data, tagged=after.tagged)


def _less(
    after: TicketedSum, before: TicketedSum, key: PrivateKey
) -> EncryptedVector | MaskedVector:
    one, other = after.vector, before.vector
    if isinstance(one, MaskedVector):
        assert isinstance(other, MaskedVector)
        mine, theirs = (_numbers(each) for each in (after, before))
        body = (mine - theirs).view(np.uint8).reshape(-1, 8)[:, : one.header.width]
        return MaskedVector(one.header, bytearray(body.tobytes()))
    assert isinstance(one, EncryptedVector)
    assert isinstance(other, EncryptedVector)
    return less(one, other, key)


def _numbers(summed: TicketedSum) -> NDArray[np.uint64]:
    words = words_of(summed)
    padded = np.zeros((len(words), 8), np.uint8)
    padded[:, : words.shape[1]] = words
    numbers: NDArray[np.uint64] = padded.view("<u8")[:, 0]
    return numbers
