"""A ticket: the seed of an update's tags, sealed to company X and, with an identity, signed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.envelopes.sealing_key import HPKE_OVERHEAD
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.tickets.occasion import Occasion

SEED_BYTES = 32
_SIGNATURE_BYTES = 64
_DIGEST_BYTES = 32
_LONGEST_NAME = 256
_STATEMENT = b"fl-he ticket signature 1"
_ALONE = b"alone"
_FIELDS = 5
#: Every ticket has more bytes.
LEAST_BYTES = _DIGEST_BYTES + SEED_BYTES + HPKE_OVERHEAD

#: Signs a statement.
Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A hospital's ticket for one sum.

    Attributes
    ----------
    hospital : str
        Name of the contributor.
    asked : bytes of length 32
        See `Occasion`.
    sealed : bytes
        The seed, encrypted to company X.
    signature : bytes
        The hospital's, empty where it has no identity.
    alone : bool
        Whether the hospital allows totals that single it out.
    """

    hospital: str
    asked: bytes
    sealed: bytes = field(repr=False)
    signature: bytes = field(default=b"", repr=False)
    alone: bool = False

    @classmethod
    def issue(
        cls,
        key: PublicKey,
        occasion: Occasion,
        hospital: str,
        sign: Sign | None,
        *,
        alone: bool = False,
    ) -> tuple[Ticket, bytes]:
        """Make a ticket; return it with its fresh seed, which is for one update.

        Raises
        ------
        CryptoError
            If the key has no sealing half.
        """
        seed = secrets.token_bytes(SEED_BYTES)
        sealed = key.seal(seed, occasion.to_bytes(hospital))
        ticket = cls(hospital, occasion.asked, sealed, alone=alone)
        if sign is not None:
            ticket = replace(ticket, signature=sign(ticket.statement(occasion)))
        return ticket, seed

    def statement(self, occasion: Occasion) -> bytes:
        """Return what the hospital signs."""
        digest = sha256(self.sealed).digest()
        return encode_fields(_STATEMENT, occasion.to_bytes(self.hospital), digest, self._alone())

    def to_bytes(self) -> bytes:
        """Return the fields behind their lengths."""
        name = self.hospital.encode()
        return encode_fields(name, self.asked, self.sealed, self.signature, self._alone())

    def _alone(self) -> bytes:
        return _ALONE if self.alone else b""

    @classmethod
    def from_bytes(cls, data: bytes) -> Ticket:
        """Read a ticket that another node sent; raises CryptoError for anything else."""
        found = decode_fields(data, "a ticket", _FIELDS)
        if len(found) != _FIELDS:
            raise CryptoError(f"a ticket must have {_FIELDS} fields, got {len(found)}")
        name, asked, sealed, signature, alone = found
        sizes = len(asked), len(sealed), len(signature)
        right = _DIGEST_BYTES, SEED_BYTES + HPKE_OVERHEAD
        if (
            sizes[:2] != right
            or sizes[2] not in (0, _SIGNATURE_BYTES)
            or alone not in (b"", _ALONE)
        ):
            raise CryptoError("a ticket must have a digest, a sealed seed and at most a signature")
        if not 0 < len(name) <= _LONGEST_NAME:
            raise CryptoError(f"a ticket must have a name of at most {_LONGEST_NAME} bytes")
        try:
            return cls(name.decode(), asked, sealed, signature, alone == _ALONE)
        except UnicodeDecodeError:
            raise CryptoError("a ticket's name must be UTF-8") from None
