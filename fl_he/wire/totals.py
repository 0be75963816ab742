"""Totals that company X tells everybody who computes a model, each bound to the one before it.

In a sealed chain a `Total` is in an envelope that says what it is of. In the open it is in a
`SignedTotal`, which the coordinator reads too. Each total names the digest of the one before it, so
that totals of a session lie on one line, and holds the result of company X's own step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.encoding.fields import Place, kind_of
from fl_he.crypto.errors import CryptoError
from fl_he.wire.encrypted_sum import Purpose

_TOTAL = b"fl-he total 4"
_SIGNED = b"fl-he signed total 1"
_NUMBER_BYTES = 8
_DIGEST_BYTES = 32
_PURPOSE = kind_of(Purpose)


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of all updates, and company X's own step, as every hospital is told them.

    Attributes
    ----------
    after : int
        The round that was opened before this one, 0 if none: the total is applied to the model
        after that round.
    layout : str
        JSON of what the values are.
    values : ndarray, shape (len(layout),)
        The sum of all updates.
    previous : bytes of length 32
        Digest of the total before it; of the terms, for the first one.
    counter : int
        How many sums company X has opened with this one, over all sessions.
    head : bytes of length 32
        Digest of all these openings.
    memory : str
        State of company X's learner after this total; empty if company X takes no step.
    padding : int
        Zeros that follow, so that the length of a sealed total says nothing of data; see `padding`.
    """

    after: int
    layout: str
    values: NDArray[np.float64] = field(repr=False)
    previous: bytes
    counter: int
    head: bytes
    memory: str = field(default="", repr=False)
    padding: int = field(default=0, repr=False)

    def to_bytes(self) -> bytes:
        """Return the payload."""
        return encode_fields(
            _TOTAL,
            self.after.to_bytes(_NUMBER_BYTES, "big"),
            self.layout.encode(),
            np.ascontiguousarray(self.values, dtype="<f8").tobytes(),
            self.previous,
            self.counter.to_bytes(_NUMBER_BYTES, "big"),
            self.head,
            self.memory.encode(),
            bytes(self.padding),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Total:
        """Read a payload; raises CryptoError if it is none."""
        after, layout, values, previous, counter, head, memory, zeros = labelled_fields(
            data, _TOTAL, 8, "a total"
        )
        lengths, digests = {len(after), len(counter)}, {len(previous), len(head)}
        if (lengths, digests) != ({_NUMBER_BYTES}, {_DIGEST_BYTES}) or len(values) % 8:
            raise CryptoError(
                "a total must have numbers, float64 values and digests of their length"
            )
        numbers = np.frombuffer(values, dtype="<f8").astype(np.float64)
        if not np.isfinite(numbers).all():
            raise CryptoError("a total must hold finite numbers only")
        if zeros.strip(b"\0"):
            raise CryptoError("the padding of a total must be zeros")
        number, place = (int.from_bytes(one, "big") for one in (after, counter))
        kept = text_of(memory), len(zeros)
        return cls(number, text_of(layout), numbers, previous, place, head, *kept)


@dataclass(frozen=True, slots=True)
class Opening:
    """The sum that a total in the open is of.

    Attributes
    ----------
    session : str
    purpose : Purpose
    round : int
        Of the purpose.
    number : int
        How many totals of the session it is, with those before it; its ``after`` is one less.
    terms : bytes of length 32
        Digest of the terms that all totals of the session have in common.
    """

    session: str
    purpose: Purpose
    round: int
    number: int
    terms: bytes


@dataclass(frozen=True, slots=True)
class SignedTotal:
    """A total in the open, as company X has signed it, or plain where it has no identity.

    Attributes
    ----------
    opening : Opening
    total : Total
    signature : bytes
        Ed25519, of `statement`; empty where company X has no identity.
    """

    opening: Opening
    total: Total
    signature: bytes = field(default=b"", repr=False)

    @property
    def statement(self) -> bytes:
        """All that is signed."""
        opening = self.opening
        return encode_fields(
            _SIGNED,
            opening.session.encode(),
            opening.purpose.encode(),
            opening.round.to_bytes(_NUMBER_BYTES, "big"),
            opening.number.to_bytes(_NUMBER_BYTES, "big"),
            opening.terms,
            self.total.to_bytes(),
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the statement, by which the next total names this one."""
        return sha256(self.statement).digest()

    def to_bytes(self) -> bytes:
        """Return the statement and its signature, as they travel."""
        return encode_fields(self.statement, self.signature)

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedTotal:
        """Read what `to_bytes` returned, whoever signed it; raises CryptoError if it is none."""
        parts = decode_fields(data, "a signed total", 2)
        if len(parts) != 2:
            raise CryptoError("a signed total must be a statement and its signature")
        session, purpose, round_, number, terms, total = labelled_fields(
            parts[0], _SIGNED, 6, "a signed total"
        )
        if {len(round_), len(number)} != {_NUMBER_BYTES} or len(terms) != _DIGEST_BYTES:
            raise CryptoError("a signed total must have numbers and a digest of their lengths")
        opening = Opening(
            text_of(session),
            _PURPOSE.read(text_of(purpose), Place("purpose")),
            int.from_bytes(round_, "big"),
            int.from_bytes(number, "big"),
            terms,
        )
        return cls(opening, Total.from_bytes(total), parts[1])


def padding(memory: str, longest: int) -> int:
    """Return the padding of a total with a memory, for a sealed length that no data decide.

    Parameters
    ----------
    memory : str
    longest : int
        Most bytes of any memory of the task.

    Raises
    ------
    CryptoError
        If the memory is longer: its length would show.
    """
    room = longest - len(memory.encode())
    if room < 0:
        raise CryptoError(f"the memory of a sealed total must have at most {longest} bytes")
    return room


def labelled_fields(data: bytes, label: bytes, count: int, what: str) -> list[bytes]:
    """Return this many fields behind a label; raises CryptoError for any other data."""
    fields = decode_fields(data, what, count + 1)
    if len(fields) != count + 1 or fields[0] != label:
        raise CryptoError(f"{what} must be {count} fields behind {label!r}")
    return fields[1:]


def text_of(data: bytes) -> str:
    """Return the text of a field; raises CryptoError if it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CryptoError("the texts of a payload must be UTF-8") from None
