"""Occasion of a sum, to which tickets are bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import PAILLIER

_LABEL = b"fl-he ticket 1"
_VALUE_LABEL = b"fl-he value tag 1"
_SUM_LABEL = b"fl-he sum's occasion 1"
_PAIR_LABEL = b"fl-he pair mask 2"
_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Occasion:
    """A sum for which hospitals contribute.

    Attributes
    ----------
    key : str
        Fingerprint of company X's key.
    session : str
        Company X's.
    purpose : str
    round : int
    asked : bytes of length 32
        Digest of all that a hospital was sent and its app could see, and of the reply's layout.
    packing : Packing
    length : int
        Number of values.
    metric_values : int
        Number of metrics' values, whose counts, weights and sums are at the end.
    scheme : {"paillier", "masks"}
        Encryption of the updates.
    """

    key: str
    session: str
    purpose: str
    round: int
    asked: bytes
    packing: Packing
    length: int
    metric_values: int = 0
    scheme: str = PAILLIER

    def to_bytes(self, hospital: str) -> bytes:
        """Return the occasion of one hospital: the info of sealing, signature and masks."""
        return encode_fields(_LABEL, hospital.encode(), *self._fields())

    def value_info(self) -> bytes:
        """Return what the value key is used for: the same for all hospitals."""
        return encode_fields(_VALUE_LABEL, *self._fields())

    def pair_info(self, hospitals: bytes, value_key: bytes | None) -> bytes:
        """Return what pairwise masks are used for: the same for all hospitals that are asked alike.

        Parameters
        ----------
        hospitals : bytes of length 32
            Digest of the set; see `fl_he.crypto.tickets.pairs.set_digest`.
        value_key : bytes or None
            As the hospital was given it: tags depend on it.
        """
        key = sha256(value_key or b"").digest()
        return encode_fields(_PAIR_LABEL, *self._fields(), hospitals, key)

    def digest(self) -> bytes:
        """Return a digest of the sum's occasion, without each hospital's own question."""
        return sha256(encode_fields(_SUM_LABEL, *replace(self, asked=b"")._fields())).digest()

    def _fields(self) -> tuple[bytes, ...]:
        return (
            bytes.fromhex(self.key),
            self.session.encode(),
            self.purpose.encode(),
            self.round.to_bytes(_NUMBER_BYTES, "big"),
            self.asked,
            self.scheme.encode(),
            self.packing.to_json().encode(),
            self.length.to_bytes(_NUMBER_BYTES, "big"),
            self.metric_values.to_bytes(_NUMBER_BYTES, "big"),
        )
