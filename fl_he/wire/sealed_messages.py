"""Messages in a round of a sealed chain: envelopes, and the data that routes them.

Like :mod:`fl_he.wire.encrypted_sum`; a message to a hospital also holds
:class:`fl_he.wire.session_messages.News`. Everything except the envelopes is in plain: names,
rounds, sizes, timings, the public key. An envelope says the same again under its sender's
signature, and only that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from flwr.app import ConfigRecord, RecordDict

from fl_he.wire.records import (
    RECORD,
    ProtocolError,
    config_of,
    envelope_arrays,
    natural,
    read_envelope,
    read_envelopes,
    seconds,
    take,
    texts,
)
from fl_he.wire.session_messages import NEWS_RECORDS

RESEAL = "query.reseal"
OPEN = "query.open"

_TOTALS = "fl-he.envelopes"
_ENVELOPE = "envelope"


@dataclass(frozen=True, slots=True)
class Hop:
    """Ask a hospital to add its update to the running sum and to seal it for the next node.

    Attributes
    ----------
    round : int
        The round, from 1.
    contributors : tuple of str
        Whose updates are in the running sum, in their order; the last of them sealed it.
    next_node : str
        The name of the node to seal for.
    public_key : str
        JSON of company X's Paillier key.
    envelope : bytes or None
        The running sum; ``None`` for the first hospital of the round.
    """

    round: int
    contributors: tuple[str, ...]
    next_node: str
    public_key: str
    envelope: bytes | None = field(default=None, repr=False)

    def to_content(self) -> RecordDict:
        """Return the records that carry it."""
        record = ConfigRecord(
            {
                "round": self.round,
                "contributors": list(self.contributors),
                "next": self.next_node,
                "public-key": self.public_key,
            }
        )
        content = RecordDict({RECORD: record})
        if self.envelope is not None:
            content[_ENVELOPE] = envelope_arrays({_ENVELOPE: self.envelope})
        return content

    @classmethod
    def from_content(cls, content: RecordDict) -> Hop:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content)
        envelope = None
        if _ENVELOPE in content:
            envelope = read_envelope(content, _ENVELOPE)
        hop = cls(
            round=natural(record, "round"),
            contributors=texts(record, "contributors"),
            next_node=take(record, "next", str),
            public_key=take(record, "public-key", str),
            envelope=envelope,
        )
        if (hop.envelope is None) != (not hop.contributors):
            raise ProtocolError("a running sum must come with its contributors, and only with them")
        return hop

    @property
    def digest(self) -> str:
        """Return what tells this request from any other."""
        text = repr((self.round, self.contributors, self.next_node, self.public_key, self.envelope))
        return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SealedReply:
    """A hospital's whole answer in a sealed chain, and what it cost.

    Attributes
    ----------
    envelope : bytes
        The running sum with the hospital's update, sealed for the next node.
    update_bytes : int
        Of the encrypted running sum inside; its length shows anyway.
    encrypt_seconds, add_seconds : float
        Wall time at the hospital.
    """

    envelope: bytes = field(repr=False)
    update_bytes: int
    encrypt_seconds: float = 0.0
    add_seconds: float = 0.0

    def to_content(self) -> RecordDict:
        """Return the records that carry the reply."""
        record = ConfigRecord(
            {
                "update-bytes": self.update_bytes,
                "encrypt-seconds": self.encrypt_seconds,
                "add-seconds": self.add_seconds,
            }
        )
        return RecordDict({RECORD: record, _ENVELOPE: envelope_arrays({_ENVELOPE: self.envelope})})

    @classmethod
    def from_content(cls, content: RecordDict) -> SealedReply:
        """Read a reply and nothing else; raises :class:`ProtocolError`."""
        if set(content.keys()) != {RECORD, _ENVELOPE}:
            raise ProtocolError("a reply in a sealed chain must be one envelope and its costs")
        record = config_of(content)
        return cls(
            envelope=read_envelope(content, _ENVELOPE),
            update_bytes=natural(record, "update-bytes"),
            encrypt_seconds=seconds(record, "encrypt-seconds"),
            add_seconds=seconds(record, "add-seconds"),
        )


@dataclass(frozen=True, slots=True)
class ResealRequest:
    """Ask a hospital to seal its running sum of a round again, for another node.

    Attributes
    ----------
    session : str
    round : int
    next_node : str
    """

    session: str
    round: int
    next_node: str

    def to_content(self) -> RecordDict:
        """Return the records that carry the request."""
        record = ConfigRecord(
            {"session": self.session, "round": self.round, "next": self.next_node}
        )
        return RecordDict({RECORD: record})

    @classmethod
    def from_content(cls, content: RecordDict) -> ResealRequest:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content)
        return cls(
            take(record, "session", str), natural(record, "round"), take(record, "next", str)
        )


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Ask company X to open one round's sum and to seal the total for every hospital.

    Attributes
    ----------
    session : str
    round : int
    contributors : tuple of str
        The last of them sealed the sum.
    envelope : bytes
    """

    session: str
    round: int
    contributors: tuple[str, ...]
    envelope: bytes = field(repr=False)

    def to_content(self) -> RecordDict:
        """Return the records that carry the request."""
        record = ConfigRecord(
            {
                "session": self.session,
                "round": self.round,
                "contributors": list(self.contributors),
            }
        )
        return RecordDict({RECORD: record, _ENVELOPE: envelope_arrays({_ENVELOPE: self.envelope})})

    @classmethod
    def from_content(cls, content: RecordDict) -> OpenRequest:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content)
        contributors = texts(record, "contributors")
        if not contributors:
            raise ProtocolError("a sum must have contributors, got none")
        return cls(
            session=take(record, "session", str),
            round=natural(record, "round"),
            contributors=contributors,
            envelope=read_envelope(content, _ENVELOPE),
        )


@dataclass(frozen=True, slots=True)
class OpenReply:
    """The total of one round, sealed for every hospital of the manifest.

    Attributes
    ----------
    totals : mapping of str to bytes
        Envelopes by the hospitals' names.
    decrypt_seconds : float
    """

    totals: Mapping[str, bytes] = field(repr=False)
    decrypt_seconds: float

    def to_content(self) -> RecordDict:
        """Return the records that carry the reply."""
        record = ConfigRecord({"decrypt-seconds": self.decrypt_seconds})
        return RecordDict({RECORD: record, _TOTALS: envelope_arrays(self.totals)})

    @classmethod
    def from_content(cls, content: RecordDict) -> OpenReply:
        """Read the reply; raises :class:`ProtocolError`."""
        return cls(
            totals=read_envelopes(content, _TOTALS),
            decrypt_seconds=seconds(config_of(content), "decrypt-seconds"),
        )


def without_chain(content: RecordDict) -> RecordDict:
    """Return a copy of a message's content without the records of a sealed chain."""
    ours = (RECORD, *NEWS_RECORDS, _ENVELOPE, _TOTALS)
    return RecordDict({key: record for key, record in content.items() if key not in ours})
