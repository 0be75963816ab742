"""An encrypted vector with the tickets of its contributors: one update, or a sum of several."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields, length_of_field
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.masks import masked_vector
from fl_he.crypto.masks.masked_vector import MaskedVector, MaskHeader, mask_stream
from fl_he.crypto.paillier import encrypted_vector
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import TAG_MODULUS
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.summed_vector import SummedVector
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES, Scheme
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.pairs import PairMasks
from fl_he.crypto.tickets.tags import numbers, product, products, tags_of
from fl_he.crypto.tickets.ticket import LEAST_BYTES, Sign, Ticket
from fl_he.errors import kind_in_words

_LABEL = b"fl-he sum 1"
#: Vectors by the first bytes of their headers.
_VECTORS: dict[bytes, type[SummedVector]] = {
    encrypted_vector.MAGIC: EncryptedVector,
    masked_vector.MAGIC: MaskedVector,
}


class TicketedSum:
    """A sum of updates, each of them with its ticket.

    Parameters
    ----------
    vector : SummedVector
        A Paillier vector has a tag in each ciphertext.
    tickets : sequence of Ticket
        Of the contributors.

    Raises
    ------
    CryptoError
        If the vector has no tags, or there is no ticket, or more than the vector has room for.
    """

    __slots__ = ("tickets", "vector")

    def __init__(self, vector: SummedVector, tickets: tuple[Ticket, ...]) -> None:
        most = vector.packing.max_contributors
        if vector.scheme == PAILLIER and not vector.tagged:
            raise CryptoError("a sum of updates must have a tag in each ciphertext")
        if not 1 <= len(tickets) <= most:
            raise CryptoError(f"a sum must have 1 to {most} tickets, got {len(tickets)}")
        self.vector, self.tickets = vector, tickets

    @classmethod
    def encrypt(
        cls,
        key: PublicKey,
        integers: NDArray[np.int64],
        occasion: Occasion,
        hospital: str,
        *,
        value_key: bytes | None = None,
        sign: Sign | None = None,
        alone: bool = False,
        pairs: PairMasks | None = None,
    ) -> TicketedSum:
        """Encrypt one hospital's update with a fresh ticket.

        Parameters
        ----------
        key : PublicKey
            Company X's.
        integers : int64 array of shape (occasion.length,)
            Fixed-point integers of the occasion's packing.
        occasion : Occasion
            Its scheme is that of the vector.
        hospital : str
            The contributor's name.
        value_key : bytes or None
            Company X's, where it has given hospitals one.
        sign : callable or None
            Signs with the hospital's identity, where it has one.
        alone : bool
            Whether the hospital allows totals that single it out.
        pairs : PairMasks or None
            Masks that cancel in the total of a set of hospitals, of this occasion and set.

        Raises
        ------
        CryptoError
            If the key has no sealing half, or an integer does not fit.

        Examples
        --------
        >>> from fl_he import Packing, PrivateKey
        >>> key, packing = PrivateKey.generate(2048), Packing()
        >>> public, integers = key.public_key, packing.encode(np.array([1.5, -2.0]))
        >>> occasion = Occasion(public.fingerprint, "s", "train", 1, bytes(32), packing, 2)
        >>> total = TicketedSum.encrypt(public, integers, occasion, "north")
        >>> total.add_in_place(TicketedSum.encrypt(public, integers, occasion, "south"), public)
        >>> total.contributors
        ['north', 'south']
        """
        if occasion.scheme not in SCHEMES:
            raise CryptoError(f"scheme must be one of {[*SCHEMES]}, got {occasion.scheme!r:.40}")
        packing, info, uses = occasion.packing, occasion.to_bytes(hospital), occasion.value_info()
        ticket, seed = Ticket.issue(key, occasion, hospital, sign, alone=alone)
        if occasion.scheme == MASKS:
            tag = None
            if value_key is not None:
                (own,) = numbers(seed, info, 1)
                added = 0 if pairs is None else pairs.tag()
                tag = (product(integers, value_key, uses) + own + added) % TAG_MODULUS
            header = MaskHeader(key.fingerprint, occasion.digest(), packing, occasion.length, tag)
            stream = mask_stream(seed, info)
            words = stream if pairs is None else pairs.words(stream)
            return cls(MaskedVector.mask(header, integers, words), (ticket,))
        rows = packing.rows(integers, key.key_bits, tagged=True)
        tags = tags_of(products(rows, value_key, uses), seed, info)
        masks = None if pairs is None else pairs.plaintexts(len(tags), key.n)
        vector = EncryptedVector.encrypt_integers(key, packing, integers, tags=tags, masks=masks)
        return cls(vector, (ticket,))

    @property
    def contributors(self) -> list[str]:
        """Names on the tickets."""
        return [ticket.hospital for ticket in self.tickets]

    def add_in_place(self, other: TicketedSum, key: PublicKey) -> None:
        """Add another sum; raises CryptoError if keys, packings, lengths or tickets do not fit."""
        merged = TicketedSum(self.vector, (*self.tickets, *other.tickets))
        self.vector.add_in_place(other.vector, key)
        self.tickets = merged.tickets

    def to_bytes(self) -> bytes:
        """Return the vector's bytes and those of the tickets, each behind its length."""
        start = encode_fields(_LABEL) + length_of_field(self.vector.nbytes)
        tickets = encode_fields(*(ticket.to_bytes() for ticket in self.tickets))
        return b"".join((start, *self.vector.parts(), tickets))

    @classmethod
    def from_bytes(
        cls, data: bytes, key: PublicKey, schemes: Collection[str] = SCHEMES
    ) -> TicketedSum:
        """Read a sum that another node sent; see `SummedVector.from_bytes`.

        Parameters
        ----------
        data : bytes
        key : PublicKey
            The key that the sum must be under.
        schemes : collection of str
            The sum must have one of these schemes.

        Raises
        ------
        CryptoError
            If the data are anything else.
        """
        if not isinstance(data, bytes):
            raise CryptoError(f"a sum must be bytes, got {kind_in_words(data)}")
        vector, *tickets = _parts(data)
        read = _kind(vector, schemes).from_bytes(vector, key)
        return cls(read, tuple(Ticket.from_bytes(bytes(ticket)) for ticket in tickets))

    def __repr__(self) -> str:
        return f"TicketedSum({self.vector!r} of {len(self.tickets)})"


def vector_bytes(data: bytes) -> int:
    """Return how many bytes of a sum's are its vector's, without reading either.

    Raises
    ------
    CryptoError
        If the data are no sum.
    """
    return len(_parts(data)[0])


def scheme_and_tickets(data: bytes) -> tuple[Scheme, list[Ticket]]:
    """Return the scheme of a sum and its tickets, without reading its vector.

    Raises
    ------
    CryptoError
        If the data are no sum.
    """
    vector, *tickets = _parts(data)
    return _kind(vector, SCHEMES).scheme, [Ticket.from_bytes(bytes(one)) for one in tickets]


def _kind(vector: memoryview, schemes: Collection[str]) -> type[SummedVector]:
    kind = next((one for magic, one in _VECTORS.items() if vector[: len(magic)] == magic), None)
    if kind is None or kind.scheme not in schemes:
        raise CryptoError(f"the scheme of a sum must be one of {sorted(schemes)}")
    return kind


def _parts(data: bytes) -> list[memoryview]:
    """Return views of the vector's bytes and of the tickets'."""
    most = 2 + len(data) // LEAST_BYTES  # label, vector, tickets
    label, *parts = decode_fields(memoryview(data), "a sum", most) or [memoryview(b"")]
    if label != _LABEL or not parts:
        raise CryptoError("a sum must be an encrypted vector and tickets")
    return parts
