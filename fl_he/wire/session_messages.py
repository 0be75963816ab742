"""Messages that start a sealed chain, and the news that a hospital gets before it acts.

Like :mod:`fl_he.wire.encrypted_sum`. Everything except the envelopes is in plain: names, rounds, a
challenge. An envelope says the same again under its sender's signature, and only that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

from fl_he.wire.records import (
    RECORD,
    ProtocolError,
    config_of,
    envelope_arrays,
    integers,
    read_envelope,
    read_envelopes,
    take,
    texts,
    whole,
)

JOIN = "query.join"
SESSION = "query.session"

#: Marks a train or finish message as one of a sealed chain.
_CHAIN = "fl-he.chain"
_TOTALS = "fl-he.totals"
_STATEMENTS = "fl-he.envelopes"
_STATEMENT = "statement"
#: The records of `News`.
NEWS_RECORDS = (_CHAIN, _TOTALS, _STATEMENT)


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
        return RecordDict({RECORD: record, _STATEMENTS: envelope_arrays(self.statements)})

    @classmethod
    def from_content(cls, content: RecordDict) -> SessionReply:
        """Read the reply; raises :class:`ProtocolError`."""
        record = config_of(content)
        return cls(
            name=take(record, "name", str),
            session=take(record, "session", str),
            manifest=take(record, "manifest", str),
            latest=whole(record, "latest"),
            statements=read_envelopes(content, _STATEMENTS),
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
            content[_STATEMENT] = envelope_arrays({_STATEMENT: self.statement})
        if self.totals:
            record["rounds"] = [total.round for total in self.totals]
            # ConfigRecord has no lists of lists.
            record["contributors"] = [" ".join(total.contributors) for total in self.totals]
            content[_TOTALS] = envelope_arrays(
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
            statement = read_envelope(content, _STATEMENT)
        totals: tuple[SealedTotal, ...] = ()
        if _TOTALS in content:
            rounds = integers(record, "rounds")
            contributors = texts(record, "contributors")
            envelopes = read_envelopes(content, _TOTALS)
            places = [str(place) for place in range(len(envelopes))]
            if set(envelopes) != set(places) or not len(rounds) == len(contributors) == len(places):
                raise ProtocolError("each total must have a round, contributors and an envelope")
            totals = tuple(
                SealedTotal(number, tuple(names.split()), envelopes[place])
                for number, names, place in zip(rounds, contributors, places, strict=True)
            )
        return cls(take(record, "session", str), statement, totals)
