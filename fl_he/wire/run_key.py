"""Company X's key of a session, as its identity signs it for hospitals with a manifest."""

from __future__ import annotations

from dataclasses import dataclass, field

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.errors import CryptoError
from fl_he.wire.totals import labelled_fields, text_of

#: Most days that company X's key of a session holds, and that its hospitals' seeds are kept.
MOST_DAYS = 365
#: The same for hospitals in seconds, with a day for clocks that differ.
LONGEST = (MOST_DAYS + 1) * 24 * 60 * 60
_LABEL = b"fl-he run key 1"
_NUMBER_BYTES = 8
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class RunKey:
    """A public key that holds for one session only.

    Attributes
    ----------
    session : str
    fingerprint : str
        Of the public key, with its sealing half.
    expires : int
        Time at which the key expires, in whole seconds since 1970.
    counter : int
        How many sums company X had opened when it signed, over all sessions.
    head : bytes of length 32
        Digest of all these openings.
    signature : bytes
        Ed25519, of `statement`.
    """

    session: str
    fingerprint: str
    expires: int
    counter: int
    head: bytes
    signature: bytes = field(default=b"", repr=False)

    @property
    def statement(self) -> bytes:
        """All that is signed."""
        return encode_fields(
            _LABEL,
            self.session.encode(),
            bytes.fromhex(self.fingerprint),
            self.expires.to_bytes(_NUMBER_BYTES, "big"),
            self.counter.to_bytes(_NUMBER_BYTES, "big"),
            self.head,
        )

    def to_bytes(self) -> bytes:
        """Return the statement and its signature, as they travel."""
        return encode_fields(self.statement, self.signature)

    @classmethod
    def from_bytes(cls, data: bytes) -> RunKey:
        """Read what `to_bytes` returned, whoever signed it; raises CryptoError if it is none."""
        what = "a signed run key"
        parts = decode_fields(data, what, 2)
        if len(parts) != 2:
            raise CryptoError(f"{what} must be a statement and its signature")
        session, fingerprint, expires, counter, head = labelled_fields(parts[0], _LABEL, 5, what)
        numbers, digests = {len(expires), len(counter)}, {len(fingerprint), len(head)}
        if (numbers, digests) != ({_NUMBER_BYTES}, {_DIGEST_BYTES}):
            raise CryptoError(f"{what} must have digests and numbers of their lengths")
        until, place = (int.from_bytes(one, "big") for one in (expires, counter))
        return cls(text_of(session), fingerprint.hex(), until, place, head, parts[1])
