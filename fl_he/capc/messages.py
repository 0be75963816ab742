"""CaPC's messages: one form of request and one of reply.

As :mod:`fl_he.wire.encrypted_sum` for the encrypted sum, and as hostile: ``from_content`` raises
:class:`ProtocolError`. Every step carries named parts, which are opaque here and checked by the
step that reads them, and the public keys that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fl_he.crypto.encoding.fields import Natural, Whole, at_most, kind_of, matching
from fl_he.wire.records import SPARSE, Message, ProtocolError, Seconds, blobs, named, texts

PART_STYPE = "fl-he.capc-part"

_Parts = Annotated[Mapping[str, bytes], blobs("fl-he.capc", PART_STYPE, "bytes")]
_Keys = Annotated[Mapping[str, str], texts("fl-he.capc-keys")]
_Left = Annotated[Mapping[str, int], named("fl-he.capc-left", kind_of(Whole)), SPARSE]
#: Name of the shared manifest among the keys.
MANIFEST = "manifest"
#: Stands where a request is about no batch.
NO_SESSION = "0" * 32
_MOST_QUERIES = 1 << 20


class _WithParts(Message):
    __slots__ = ()
    parts: _Parts

    def part(self, name: str) -> bytes:
        """Return a part; raises :class:`ProtocolError` if it is not there."""
        if name not in self.parts:
            raise ProtocolError(f"message has no part {name!r}")
        return self.parts[name]


@dataclass(frozen=True, slots=True)
class CapcRequest(_WithParts):
    """A step asked of a node.

    Attributes
    ----------
    session : str
        Names one batch of queries: 32 hexadecimal digits. The querying party chooses it when it is
        asked, and never twice the same.
    queries : int
        Size of the batch, at least 1.
    querying : str
        Name of the party whose queries they are.
    answering : tuple of str
        Names of the parties that answer; a chain of votes goes in this order.
    keys : mapping of str to str
        Public keys as JSON. SEEDS and PAIR: the `MANIFEST` that simulated nodes share.
    parts : mapping of str to bytes
        What other nodes answered. SEEDS and PAIR: sealed halves of seeds, by the other hospital.
    label : int
        In a simulation of votes for one of several labels: its number, from 1; 0 elsewhere.
    """

    session: Annotated[str, matching("[0-9a-f]{32}", "be 32 hexadecimal digits")]
    queries: Annotated[Natural, at_most(_MOST_QUERIES)]
    querying: str = ""
    answering: tuple[str, ...] = ()
    keys: _Keys = field(default_factory=dict)
    parts: _Parts = field(default_factory=dict, repr=False)
    label: Annotated[Whole, SPARSE] = 0


@dataclass(frozen=True, slots=True)
class CapcReply(_WithParts):
    """A node's answer to a step.

    Attributes
    ----------
    parts : mapping of str to bytes
        For other nodes.
    seconds : float or None
        CPU time at a node of a simulation.
    keys : mapping of str to str
        KEYS only: the public keys of the querying party or the guardian.
    report : str
        LEARN only: what the querying party says of itself, as JSON.
    name, role : str
        DESCRIBE only.
    agreement : str
        DESCRIBE only: what a deployed node has agreed to, as JSON; empty in a simulation.
    answers : bool
        DESCRIBE only: whether it has a model to answer with.
    affordable : int
        DESCRIBE only: how many queries the budget of a deployed party's patients still allows.
    left : mapping of str to int
        DESCRIBE only: how many queries a deployed party still takes of each party that may query.
    open_cases : int
        DESCRIBE only: how many cases a deployed node wants labels for.
    resistant : bool
        DESCRIBE only: whether the node masks its votes pairwise.
    identity : str
        DESCRIBE only: in a simulation with masks, JSON of the node's public identity.
    session : str
        ASK only: the name that the querying party has given to its batch.
    """

    parts: _Parts = field(default_factory=dict, repr=False)
    seconds: Seconds | None = None
    keys: _Keys = field(default_factory=dict)
    report: str = ""
    name: str = ""
    role: str = ""
    agreement: str = ""
    answers: bool = True
    affordable: Whole = 0
    left: _Left = field(default_factory=dict)
    open_cases: Whole = 0
    resistant: Annotated[bool, SPARSE] = False
    identity: Annotated[str, SPARSE] = ""
    session: str = ""
