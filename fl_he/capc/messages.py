"""What travels in CaPC: actions, record keys, one form of message.

As :mod:`fl_he.wire.encrypted_sum` for the encrypted sum, and as hostile: ``from_content`` raises
:class:`ProtocolError`. Every step carries named parts, which are opaque here and checked by the
step that reads them, and the public keys that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fl_he.wire.records import (
    RECORD,
    ProtocolError,
    config_of,
    natural,
    seconds,
    take,
    texts,
    whole,
)

PART_STYPE = "fl-he.capc-part"

#: Parts: the encrypted sum of votes, so far or whole; the guardian's noise on the counts, and that
#: of the threshold test; the sum with the one and with the other.
SUM = "sum"
NOISE, TEST_NOISE = "noise", "test-noise"
COUNTS, TESTED_COUNTS = "noisy-counts", "tested-counts"

_PARTS = "fl-he.capc"
_KEYS = "fl-he.capc-keys"
_SESSION_LENGTH = 32
#: Stands where a request is about no batch.
NO_SESSION = "0" * _SESSION_LENGTH
_MOST_QUERIES = 1 << 20


class CapcStep(StrEnum):
    """The actions, in the order of the protocol; who takes each step is said by its role."""

    DESCRIBE = "query.capc_describe"
    KEYS = "query.capc_keys"
    ASK = "query.capc_ask"
    EVALUATE = "query.capc_evaluate"
    UNIT_BITS = "query.capc_unit_bits"
    COMPARE_UNITS = "query.capc_compare_units"
    PRODUCTS = "query.capc_products"
    RECTIFY = "query.capc_rectify"
    LOGIT_BITS = "query.capc_logit_bits"
    COMPARE = "query.capc_compare"
    VOTE = "query.capc_vote"
    COLLECT = "query.capc_collect"
    NOISE = "query.capc_noise"
    COUNT = "query.capc_count"
    COUNT_BITS = "query.capc_count_bits"
    COMPARE_COUNTS = "query.capc_compare_counts"
    DECIDE = "query.capc_decide"
    ANY = "query.capc_any"
    RELEASE = "query.capc_release"
    LEARN = "query.capc_learn"


@dataclass(frozen=True, slots=True)
class CapcRequest:
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
        Public keys as JSON.
    parts : mapping of str to bytes
        What other nodes answered.
    """

    session: str
    queries: int
    querying: str = ""
    answering: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def to_content(self) -> RecordDict:
        """Return the records that carry the request."""
        record = ConfigRecord(
            {
                "session": self.session,
                "queries": self.queries,
                "querying": self.querying,
                "answering": list(self.answering),
            }
        )
        return RecordDict(
            {RECORD: record, _KEYS: ConfigRecord(dict(self.keys)), _PARTS: _arrays(self.parts)}
        )

    @classmethod
    def from_content(cls, content: RecordDict) -> CapcRequest:
        """Read a request; raises :class:`ProtocolError`."""
        record, keys = config_of(content), config_of(content, _KEYS)
        session = take(record, "session", str)
        if len(session) != _SESSION_LENGTH or not set(session) <= set("0123456789abcdef"):
            raise ProtocolError(f"session must be {_SESSION_LENGTH} hexadecimal digits")
        queries = natural(record, "queries")
        if queries > _MOST_QUERIES:
            raise ProtocolError(f"queries must be at most {_MOST_QUERIES}, got {queries}")
        return cls(
            session,
            queries,
            querying=take(record, "querying", str),
            answering=texts(record, "answering"),
            keys={name: take(keys, name, str) for name in keys},
            parts=_parts(content),
        )

    def part(self, name: str) -> bytes:
        """Return a part; raises :class:`ProtocolError` if it is not there."""
        return _part(self.parts, name)


@dataclass(frozen=True, slots=True)
class CapcReply:
    """A node's answer to a step.

    Attributes
    ----------
    parts : mapping of str to bytes
        For other nodes.
    seconds : float
        CPU time at the node.
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
    open_cases : int
        DESCRIBE only: how many cases a deployed node wants labels for.
    session : str
        ASK only: the name that the querying party has given to its batch.
    """

    parts: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    keys: Mapping[str, str] = field(default_factory=dict)
    report: str = ""
    name: str = ""
    role: str = ""
    agreement: str = ""
    answers: bool = True
    affordable: int = 0
    open_cases: int = 0
    session: str = ""

    def to_content(self) -> RecordDict:
        """Return the records that carry the reply."""
        return RecordDict(
            {
                RECORD: ConfigRecord(
                    {
                        "seconds": self.seconds,
                        "report": self.report,
                        "name": self.name,
                        "role": self.role,
                        "agreement": self.agreement,
                        "answers": self.answers,
                        "affordable": self.affordable,
                        "open-cases": self.open_cases,
                        "session": self.session,
                    }
                ),
                _KEYS: ConfigRecord(dict(self.keys)),
                _PARTS: _arrays(self.parts),
            }
        )

    @classmethod
    def from_content(cls, content: RecordDict) -> CapcReply:
        """Read a reply; raises :class:`ProtocolError`."""
        record, keys = config_of(content), config_of(content, _KEYS)
        return cls(
            parts=_parts(content),
            seconds=seconds(record, "seconds"),
            keys={name: take(keys, name, str) for name in keys},
            report=take(record, "report", str),
            name=take(record, "name", str),
            role=take(record, "role", str),
            agreement=take(record, "agreement", str),
            answers=take(record, "answers", bool),
            affordable=whole(record, "affordable"),
            open_cases=whole(record, "open-cases"),
            session=take(record, "session", str),
        )

    def part(self, name: str) -> bytes:
        """Return a part; raises :class:`ProtocolError` if it is not there."""
        return _part(self.parts, name)


def _part(parts: Mapping[str, bytes], name: str) -> bytes:
    if name not in parts:
        raise ProtocolError(f"a message must hold the part {name!r}, and it does not")
    return parts[name]


def _arrays(parts: Mapping[str, bytes]) -> ArrayRecord:
    return ArrayRecord(
        {
            name: Array(dtype="bytes", shape=(len(data),), stype=PART_STYPE, data=data)
            for name, data in parts.items()
        }
    )


def _parts(content: RecordDict) -> dict[str, bytes]:
    record = content.array_records.get(_PARTS)
    if record is None:
        raise ProtocolError(f"a message must hold the array record {_PARTS!r}, and it does not")
    for name, array in record.items():
        if array.stype != PART_STYPE:
            raise ProtocolError(f"{name} must be of type {PART_STYPE!r}, got {array.stype!r:.40}")
    return {name: array.data for name, array in record.items()}
