"""Messages of a sealed chain: its start, its rounds, and the news a hospital gets before it acts.

Everything except the envelopes is in plain: names, rounds, a challenge, sizes, timings, the public
key. An envelope says the same again under its sender's signature, and only that counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, ClassVar

from flwr.app import MessageType, RecordDict

from fl_he.crypto.encoding.fields import Key, Limit, Natural, Whole
from fl_he.crypto.encoding.strict_json import Base64
from fl_he.crypto.schemes import PAILLIER, Scheme
from fl_he.wire.encrypted_sum import FINISH, SIGNED_STYPE, SignedKey, ValueKey, ValueKeys
from fl_he.wire.permission import PERMIT_SEALED
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
RESEAL = "query.reseal"
OPEN = "query.open"

#: Marks a train or finish message as one of a sealed chain.
_CHAIN = "fl-he.chain"
_TOTALS = "fl-he.totals"

_Envelope = Annotated[Base64, blob("envelope", "envelope", ENVELOPE_STYPE, "envelope")]
_Statement = Annotated[bytes, blob("statement", "statement", ENVELOPE_STYPE, "envelope")]
#: Envelopes by the names of nodes.
_Envelopes = Annotated[Mapping[str, bytes], blobs("fl-he.envelopes", ENVELOPE_STYPE, "envelope")]
_OPEN = "fl-he.open-totals"
_OPEN_TOTALS = blobs(_OPEN, SIGNED_STYPE, "total")
_SEALED_TOTALS = blobs(_TOTALS, ENVELOPE_STYPE, "envelope")


@dataclass(frozen=True, slots=True)
class JoinRequest(Message):
    """Ask a hospital where it stands.

    Attributes
    ----------
    session : str
        The session to continue in; empty for the one of this run.
    """

    session: str


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
    contributed : int
        The last round to which it has contributed, 0 if none: it contributes to later ones only.
    alone : bool
        Whether it allows totals that single it out.
    """

    name: str
    manifest: str
    challenge: str
    session: str
    after: Whole = 0
    contributed: Whole = 0
    alone: Annotated[bool, SPARSE] = False


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
        The session to continue in; empty for the one of this run.
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
    value_keys : mapping of str to bytes
        Company X's value key, sealed to each hospital of the manifest.
    """

    name: str
    session: str
    manifest: str
    latest: Whole
    statements: _Envelopes = field(repr=False)
    value_keys: ValueKeys = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SealedTotal:
    """One round's total, sealed to one hospital in an envelope."""

    round: int
    contributors: tuple[str, ...]
    envelope: bytes = field(repr=False)


def _get_totals(content: RecordDict) -> tuple[SealedTotal, ...]:
    record, envelopes = config_of(content, _CHAIN), _SEALED_TOTALS.get(content)
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
    _SEALED_TOTALS.put(content, {str(place): total.envelope for place, total in enumerate(totals)})


@dataclass(frozen=True, slots=True)
class News(Message):
    """News for a hospital before it acts: the session and the totals that it lacks.

    Attributes
    ----------
    session : str
    statement : bytes or None
        Company X's statement of the session, for a hospital that does not know it.
    totals : tuple of SealedTotal
        Oldest first.
    """

    session: str
    statement: _Statement | None = field(default=None, repr=False)
    totals: Annotated[tuple[SealedTotal, ...], Part(_TOTALS, _get_totals, _put_totals), SPARSE] = ()
    HOME: ClassVar[str] = _CHAIN

    @staticmethod
    def is_in(content: RecordDict) -> bool:
        """Tell whether a message is one of a sealed chain."""
        return _CHAIN in content


def _get_open(content: RecordDict) -> tuple[bytes, ...]:
    found = _OPEN_TOTALS.get(content)
    if set(found) != {str(place) for place in range(len(found))}:
        raise ProtocolError("totals must be numbered from 0 on")
    return tuple(found[str(place)] for place in range(len(found)))


def _put_open(content: RecordDict, totals: Sequence[bytes]) -> None:
    _OPEN_TOTALS.put(content, {str(place): total for place, total in enumerate(totals)})


@dataclass(frozen=True, slots=True)
class OpenNews(Message):
    """Tell a node, in the open, the totals that it may lack before it acts.

    Attributes
    ----------
    session : str
    totals : tuple of bytes
        See :class:`fl_he.wire.totals.SignedTotal`; oldest first.
    """

    session: str
    totals: Annotated[tuple[bytes, ...], Part(_OPEN, _get_open, _put_open), SPARSE] = field(
        default=(), repr=False
    )
    HOME: ClassVar[str] = "fl-he.news"

    @classmethod
    def is_in(cls, content: RecordDict) -> bool:
        """Tell whether a message brings such news."""
        return cls.HOME in content


def is_sealed(action: str, content: RecordDict) -> bool:
    """Tell whether a message is one of a sealed chain, which shares two actions with open runs."""
    if action in (MessageType.TRAIN, FINISH):
        return News.is_in(content)
    return action in (JOIN, SESSION, RESEAL, OPEN, PERMIT_SEALED)


@dataclass(frozen=True, slots=True)
class Hop(Message):
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
    value_key : bytes or None
        As company X has sealed it to this hospital.
    run_key : bytes or None
        Company X's signed statement of its key.
    scheme : Scheme
        Encryption of the update: that of the running sum, if there is one.
    """

    round: Natural
    contributors: tuple[str, ...]
    next_node: Annotated[str, Key("next")]
    public_key: str
    envelope: _Envelope | None = field(default=None, repr=False)
    value_key: ValueKey | None = field(default=None, repr=False)
    run_key: SignedKey | None = field(default=None, repr=False)
    scheme: Annotated[Scheme, SPARSE] = PAILLIER

    def __post_init__(self) -> None:
        if (self.envelope is None) != (not self.contributors):
            raise ProtocolError("a running sum must come with its contributors, and only with them")

    @property
    def digest(self) -> str:
        """Return what tells this request from any other."""
        asked = (self.round, self.contributors, self.next_node, self.public_key, self.scheme)
        return sha256(repr((*asked, self.envelope)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SealedReply(Message):
    """A hospital's whole answer in a sealed chain.

    Attributes
    ----------
    envelope : bytes
        The running sum with the hospital's update, sealed for the next node.
    update_bytes : int
        Of the ciphertexts inside and their header, without tickets; the length shows anyway.
    """

    envelope: _Envelope = field(repr=False)
    update_bytes: Natural
    ALONE: ClassVar[str] = "a reply in a sealed chain must be one envelope and its size"


@dataclass(frozen=True, slots=True)
class ResealRequest(Message):
    """Ask a hospital to seal its running sum of a round again, for another node."""

    session: str
    round: Natural
    next_node: Annotated[str, Key("next")]


@dataclass(frozen=True, slots=True)
class OpenRequest(Message):
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
    round: Natural
    contributors: Annotated[tuple[str, ...], Limit("name at least one node", bool)]
    envelope: _Envelope = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenReply(Message):
    """The total of one round, sealed for every node of the manifest.

    Attributes
    ----------
    totals : mapping of str to bytes
        Envelopes by the nodes' names. Company X's own is handed to it with the next sum.
    prepares : bool
        Whether no step followed: the sum was of the hospitals' data, or the first of a step's two.
    over : bool
        Whether training is over: company X takes each step too.
    """

    totals: _Envelopes = field(repr=False)
    prepares: bool = False
    over: bool = False


def without_chain(content: RecordDict) -> RecordDict:
    """Return a copy of a message's content without the records of a sealed chain."""
    return OpenReply.remove_from(Hop.remove_from(News.remove_from(content)))
