"""What travels in a sealed chain: envelopes, and what the coordinator needs to route them.

Like :mod:`fl_he.messages`, of which this is the part for sealed chains. Everything beside the
envelopes is in plain: names, rounds, sizes, timings, the public key. An envelope says the same
again under its sender's signature, and only that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fl_he.records import (
    RECORD,
    ProtocolError,
    config_of,
    integers,
    natural,
    seconds,
    take,
    texts,
    whole,
)

JOIN = "query.join"
SESSION = "query.session"
RESEAL = "query.reseal"
OPEN = "query.open"
#: The actions of a sealed chain beside ``train`` and ``query.finish``.
SEALED_ACTIONS = frozenset({JOIN, SESSION, RESEAL, OPEN})

ENVELOPE_STYPE = "fl-he.envelope"

#: Marks a train or finish message as one of a sealed chain.
_CHAIN = "fl-he.chain"
_TOTALS = "fl-he.totals"
_ENVELOPES = "fl-he.envelopes"
_ENVELOPE = "envelope"
_STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class JoinReply:
    """A hospital's answer to ``query.join``.

    Attributes
    ----------
    name : str
        Its name in the manifest.
    manifest : str
        The manifest's fingerprint. Nodes of one run should have the same.
    challenge : str
        What company X has to sign; empty if the hospital knows the session already.
    session : str
        The session that it takes part in; empty if it knows none.
    after : int
        The last round whose total it has applied, 0 if none.
    """

    name: str
    manifest: str
    challenge: str
    session: str
    after: int

    def to_content(self) -> RecordDict:
        """Return the records that carry the reply."""
        record = ConfigRecord(
            {
                "name": self.name,
                "manifest": self.manifest,
                "challenge": self.challenge,
                "session": self.session,
                "after": self.after,
            }
        )
        return RecordDict({RECORD: record})

    @classmethod
    def from_content(cls, content: RecordDict) -> JoinReply:
        """Read the reply; raises :class:`ProtocolError`."""
        record = config_of(content)
        return cls(
            name=take(record, "name", str),
            manifest=take(record, "manifest", str),
            challenge=take(record, "challenge", str),
            session=take(record, "session", str),
            after=whole(record, "after"),
        )


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Ask company X to tell hospitals, sealed, which session is its own.

    Attributes
    ----------
    session : str
        The session to go on in; empty for the one of this run.
    challenges : mapping of str to str
        The challenge of each hospital that asks, by its name.
    """

    session: str
    challenges: Mapping[str, str]

    def to_content(self) -> RecordDict:
        """Return the records that carry the request."""
        record = ConfigRecord(
            {
                "session": self.session,
                "names": list(self.challenges),
                "challenges": list(self.challenges.values()),
            }
        )
        return RecordDict({RECORD: record})

    @classmethod
    def from_content(cls, content: RecordDict) -> SessionRequest:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content)
        names, challenges = texts(record, "names"), texts(record, "challenges")
        if len(names) != len(challenges) or len(set(names)) < len(names):
            raise ProtocolError("a session must be asked for with one challenge for each name")
        return cls(take(record, "session", str), dict(zip(names, challenges, strict=True)))


@dataclass(frozen=True, slots=True)
class SessionReply:
    """Company X's session, and a statement of it sealed to each hospital that asked.

    Attributes
    ----------
    name : str
        Company X's in the manifest.
    session, manifest : str
    latest : int
        The last round that was opened in the session, 0 if none.
    statements : mapping of str to bytes
        Envelopes by the hospitals' names.
    """

    name: str
    session: str
    manifest: str
    latest: int
    statements: Mapping[str, bytes] = field(repr=False)

    def to_content(self) -> RecordDict:
        """Return the records that carry the reply."""
        record = ConfigRecord(
            {
                "name": self.name,
                "session": self.session,
                "manifest": self.manifest,
                "latest": self.latest,
            }
        )
        return RecordDict({RECORD: record, _ENVELOPES: _envelopes(self.statements)})

    @classmethod
    def from_content(cls, content: RecordDict) -> SessionReply:
        """Read the reply; raises :class:`ProtocolError`."""
        record = config_of(content)
        return cls(
            name=take(record, "name", str),
            session=take(record, "session", str),
            manifest=take(record, "manifest", str),
            latest=whole(record, "latest"),
            statements=_read_envelopes(content, _ENVELOPES),
        )


@dataclass(frozen=True, slots=True)
class SealedTotal:
    """One round's total, sealed to one hospital.

    Attributes
    ----------
    round : int
    contributors : tuple of str
    envelope : bytes
    """

    round: int
    contributors: tuple[str, ...]
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class News:
    """What a hospital is told before it acts: the session and the totals that it lacks.

    Attributes
    ----------
    session : str
    statement : bytes or None
        Company X's statement of the session, for a hospital that does not know it.
    totals : tuple of SealedTotal
        Oldest first.
    """

    session: str
    statement: bytes | None = field(default=None, repr=False)
    totals: tuple[SealedTotal, ...] = ()

    def to_content(self) -> RecordDict:
        """Return the records that carry it."""
        record = ConfigRecord({"session": self.session})
        content = RecordDict({_CHAIN: record})
        if self.statement is not None:
            content[_STATEMENT] = _envelopes({_STATEMENT: self.statement})
        if self.totals:
            record["rounds"] = [total.round for total in self.totals]
            # ConfigRecord has no lists of lists.
            record["contributors"] = [" ".join(total.contributors) for total in self.totals]
            content[_TOTALS] = _envelopes(
                {str(place): total.envelope for place, total in enumerate(self.totals)}
            )
        return content

    @staticmethod
    def is_in(content: RecordDict) -> bool:
        """Tell whether a message is one of a sealed chain."""
        return _CHAIN in content

    @classmethod
    def from_content(cls, content: RecordDict) -> News:
        """Read it from a train or finish message; raises :class:`ProtocolError`."""
        record = config_of(content, _CHAIN)
        statement = None
        if _STATEMENT in content:
            statement = _the_envelope(_read_envelopes(content, _STATEMENT), _STATEMENT)
        totals: tuple[SealedTotal, ...] = ()
        if _TOTALS in content:
            rounds = integers(record, "rounds")
            contributors = texts(record, "contributors")
            envelopes = _read_envelopes(content, _TOTALS)
            places = [str(place) for place in range(len(envelopes))]
            if set(envelopes) != set(places) or not len(rounds) == len(contributors) == len(places):
                raise ProtocolError("each total must have a round, contributors and an envelope")
            totals = tuple(
                SealedTotal(number, tuple(names.split()), envelopes[place])
                for number, names, place in zip(rounds, contributors, places, strict=True)
            )
        return cls(take(record, "session", str), statement, totals)


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
            content[_ENVELOPE] = _envelopes({_ENVELOPE: self.envelope})
        return content

    @classmethod
    def from_content(cls, content: RecordDict) -> Hop:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content)
        envelope = None
        if _ENVELOPE in content:
            envelope = _the_envelope(_read_envelopes(content, _ENVELOPE), _ENVELOPE)
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
        return RecordDict({RECORD: record, _ENVELOPE: _envelopes({_ENVELOPE: self.envelope})})

    @classmethod
    def from_content(cls, content: RecordDict) -> SealedReply:
        """Read a reply and nothing else; raises :class:`ProtocolError`."""
        if set(content.keys()) != {RECORD, _ENVELOPE}:
            raise ProtocolError("a reply in a sealed chain must be one envelope and its costs")
        record = config_of(content)
        return cls(
            envelope=_the_envelope(_read_envelopes(content, _ENVELOPE), _ENVELOPE),
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
        return RecordDict({RECORD: record, _ENVELOPE: _envelopes({_ENVELOPE: self.envelope})})

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
            envelope=_the_envelope(_read_envelopes(content, _ENVELOPE), _ENVELOPE),
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
        return RecordDict({RECORD: record, _ENVELOPES: _envelopes(self.totals)})

    @classmethod
    def from_content(cls, content: RecordDict) -> OpenReply:
        """Read the reply; raises :class:`ProtocolError`."""
        return cls(
            totals=_read_envelopes(content, _ENVELOPES),
            decrypt_seconds=seconds(config_of(content), "decrypt-seconds"),
        )


def without_chain(content: RecordDict) -> RecordDict:
    """Return a copy of a message's content without the records of a sealed chain."""
    ours = (RECORD, _CHAIN, _TOTALS, _STATEMENT, _ENVELOPE, _ENVELOPES)
    return RecordDict({key: record for key, record in content.items() if key not in ours})


def _envelopes(envelopes: Mapping[str, bytes]) -> ArrayRecord:
    return ArrayRecord(
        {
            name: Array(dtype="envelope", shape=(len(data),), stype=ENVELOPE_STYPE, data=data)
            for name, data in envelopes.items()
        }
    )


def _read_envelopes(content: RecordDict, key: str) -> dict[str, bytes]:
    record = content.array_records.get(key)
    if record is None:
        raise ProtocolError(f"a message must hold envelopes in the record {key!r}")
    for array in record.values():
        if array.stype != ENVELOPE_STYPE:
            raise ProtocolError(f"an array must be of type {ENVELOPE_STYPE!r}, got {array.stype!r}")
    return {name: array.data for name, array in record.items()}


def _the_envelope(envelopes: Mapping[str, bytes], name: str) -> bytes:
    if list(envelopes) != [name]:
        raise ProtocolError(f"the record {name!r} must hold one envelope")
    return envelopes[name]
