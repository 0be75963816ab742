"""Messages that start a sealed chain, and the news that a hospital gets before it acts.

Like :mod:`fl_he.wire.encrypted_sum`. Everything except the envelopes is in plain: names, rounds, a
challenge. An envelope says the same again under its sender's signature, and only that counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from flwr.app import RecordDict

from fl_he.crypto.encoding.fields import Whole
from fl_he.wire.records import (
    ENVELOPE_STYPE,
    RECORD,
    SPARSE,
    Message,
    Part,
    ProtocolError,
    blob,
    blobs,
    config_of,
    read_value,
)

JOIN = "query.join"
SESSION = "query.session"

#: Marks a train or finish message as one of a sealed chain.
_CHAIN = "fl-he.chain"
_TOTALS = "fl-he.totals"
_STATEMENTS = "fl-he.envelopes"
_STATEMENT = "statement"


def envelope_in(record: str) -> Part:
    """Return the part of one envelope, named as its record."""
    return blob(record, record, ENVELOPE_STYPE, "envelope")


def envelopes_in(record: str) -> Part:
    """Return the part of envelopes by the names of nodes."""
    return blobs(record, ENVELOPE_STYPE, "envelope")


_ENVELOPES = envelopes_in(_TOTALS)


@dataclass(frozen=True, slots=True)
class JoinReply(Message):
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
    after: Whole


def _get_challenges(content: RecordDict) -> dict[str, str]:
    record = config_of(content)
    names, challenges = (
        read_value(record, key, tuple[str, ...]) for key in ("names", "challenges")
    )
    if len(names) != len(challenges) or len(set(names)) < len(names):
        raise ProtocolError("a session must be asked for with one challenge for each name")
    return dict(zip(names, challenges, strict=True))


def _put_challenges(content: RecordDict, challenges: Mapping[str, str]) -> None:
    record = config_of(content)
    record["names"], record["challenges"] = list(challenges), list(challenges.values())


@dataclass(frozen=True, slots=True)
class SessionRequest(Message):
    """Ask company X to tell hospitals, sealed, which session is its own.

    Attributes
    ----------
    session : str
        The session to go on in; empty for the one of this run.
    challenges : mapping of str to str
        The challenge of each hospital that asks, by its name.
    """

    session: str
    challenges: Annotated[Mapping[str, str], Part(RECORD, _get_challenges, _put_challenges)]


@dataclass(frozen=True, slots=True)
class SessionReply(Message):
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
    latest: Whole
    statements: Annotated[Mapping[str, bytes], envelopes_in(_STATEMENTS)] = field(repr=False)


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


def _get_totals(content: RecordDict) -> tuple[SealedTotal, ...]:
    record, envelopes = config_of(content, _CHAIN), _ENVELOPES.get(content)
    rounds = read_value(record, "rounds", tuple[int, ...])
    contributors = read_value(record, "contributors", tuple[str, ...])
    places = [str(place) for place in range(len(envelopes))]
    if set(envelopes) != set(places) or not len(rounds) == len(contributors) == len(places):
        raise ProtocolError("each total must have a round, contributors and an envelope")
    return tuple(
        SealedTotal(number, tuple(names.split()), envelopes[place])
        for number, names, place in zip(rounds, contributors, places, strict=True)
    )


def _put_totals(content: RecordDict, totals: Sequence[SealedTotal]) -> None:
    record = config_of(content, _CHAIN)
    record["rounds"] = [total.round for total in totals]
    # ConfigRecord has no lists of lists.
    record["contributors"] = [" ".join(total.contributors) for total in totals]
    _ENVELOPES.put(content, {str(place): total.envelope for place, total in enumerate(totals)})


@dataclass(frozen=True, slots=True)
class News(Message):
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
    statement: Annotated[bytes, envelope_in(_STATEMENT)] | None = field(default=None, repr=False)
    totals: Annotated[tuple[SealedTotal, ...], Part(_TOTALS, _get_totals, _put_totals), SPARSE] = ()
    HOME: ClassVar[str] = _CHAIN

    @staticmethod
    def is_in(content: RecordDict) -> bool:
        """Tell whether a message is one of a sealed chain."""
        return _CHAIN in content
