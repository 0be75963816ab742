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
from typing import Annotated

from flwr.app import RecordDict

from fl_he.crypto.encoding.fields import Key, Limit, Natural
from fl_he.wire.records import Message, ProtocolError, Seconds
from fl_he.wire.session_messages import News, envelope_in, envelopes_in

RESEAL = "query.reseal"
OPEN = "query.open"

_Envelope = Annotated[bytes, envelope_in("envelope")]


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
    """

    round: Natural
    contributors: tuple[str, ...]
    next_node: Annotated[str, Key("next")]
    public_key: str
    envelope: _Envelope | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.envelope is None) != (not self.contributors):
            raise ProtocolError("a running sum must come with its contributors, and only with them")

    @property
    def digest(self) -> str:
        """Return what tells this request from any other."""
        text = repr((self.round, self.contributors, self.next_node, self.public_key, self.envelope))
        return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SealedReply(Message):
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

    envelope: _Envelope = field(repr=False)
    update_bytes: Natural
    encrypt_seconds: Seconds = 0.0
    add_seconds: Seconds = 0.0

    @classmethod
    def check_others(cls, keys: list[str]) -> None:
        """Refuse whatever is no such reply."""
        if keys:
            raise ProtocolError("a reply in a sealed chain must be one envelope and its costs")


@dataclass(frozen=True, slots=True)
class ResealRequest(Message):
    """Ask a hospital to seal its running sum of a round again, for another node.

    Attributes
    ----------
    session : str
    round : int
    next_node : str
    """

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
    """The total of one round, sealed for every hospital of the manifest.

    Attributes
    ----------
    totals : mapping of str to bytes
        Envelopes by the hospitals' names.
    decrypt_seconds : float
    """

    totals: Annotated[Mapping[str, bytes], envelopes_in("fl-he.envelopes")] = field(repr=False)
    decrypt_seconds: Seconds


def without_chain(content: RecordDict) -> RecordDict:
    """Return a copy of a message's content without the records of a sealed chain."""
    return OpenReply.remove_from(Hop.remove_from(News.remove_from(content)))
