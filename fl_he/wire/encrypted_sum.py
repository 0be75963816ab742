"""What travels between the coordinator and the nodes: actions, record keys, array types.

No other file knows them. Each message of section "Messages" of the design is one dataclass here
with ``to_content`` and ``from_content``. Everything that ``from_content`` reads comes from another
node and is treated as hostile: a missing key, a wrong type or a value out of range raises
:class:`ProtocolError`. Cryptographic documents (keys, packings, encrypted vectors) pass through as
text and bytes; whoever uses them validates them against a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, get_args

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import SType
from numpy.typing import NDArray

from fl_he.wire.records import RECORD, array_from_bytes, config_of, natural, seconds, take, texts
from fl_he.wire.records import ProtocolError as ProtocolError  # noqa: PLC0414 - whose place is here

#: Train actions before the first round: what the hospitals' data sum up to.
MOMENTS = "train.moments"
#: Counts on held-out data.
FIGURES = "evaluate.figures"
DESCRIBE = "query.describe"
DECRYPT = "query.decrypt"
FINISH = "query.finish"

#: Default key of the metric that weights a mean, as in Flower.
NUM_EXAMPLES = "num-examples"
LOSS = "loss"
ACCURACY = "accuracy"

ENCRYPTED_STYPE = "fl-he.encrypted-vector"
TOTAL_STYPE = "fl-he.total"
PLAIN_STYPE = "fl-he.plain"

#: What is summed up: updates; figures of a model; what is to be known before the first model.
Purpose = Literal["train", "evaluate", "prepare"]

_SUM_RECORD = "fl-he.sum"
_PLAIN_RECORD = "fl-he.plain"
_SUM = "sum"
#: Flower's name for the config record of a train message.
CONFIG = "config"
#: Flower's strategies write it into every train config. A resumed run counts on.
SERVER_ROUND = "server-round"

_SHOWN_LENGTH = 500


class Role(StrEnum):
    """What a node does in the federation; the value of ``role`` in its node configuration."""

    HOSPITAL = "hospital"
    KEY_HOLDER = "key-holder"


class PrivateReasonError(ProtocolError):
    """A refusal whose very reason depends on private data: a deployed node does not give it."""


@dataclass(frozen=True, slots=True)
class Description:
    """A node's answer to ``query.describe``.

    Attributes
    ----------
    role : Role
    name : str
        The node's name in messages to people.
    version : str
        The version of fl-he that the node runs.
    features : tuple of str
        A hospital's feature names in the order of its coefficients; empty where the app has none.
    classes : tuple of str
        A hospital's classes in the order of their labels if there are more than two; else empty.
    public_key : str
        The key holder's public key as JSON; empty for a hospital.
    session : str
        The key holder's name for this run: it opens sums of this session only.
    packing : str
        The only packing, as JSON, in which the key holder opens sums.
    simulated : bool
        Whether the node lives in a simulation.
    """

    role: Role
    name: str
    version: str
    features: tuple[str, ...] = ()
    public_key: str = ""
    session: str = ""
    packing: str = ""
    simulated: bool = False
    classes: tuple[str, ...] = ()

    def to_content(self) -> RecordDict:
        """Return the records that carry the description."""
        record = ConfigRecord(
            {
                "role": self.role.value,
                "name": self.name,
                "version": self.version,
                "features": list(self.features),
                "classes": list(self.classes),
                "public-key": self.public_key,
                "session": self.session,
                "packing": self.packing,
                "simulated": self.simulated,
            }
        )
        return RecordDict({RECORD: record})

    @classmethod
    def from_content(cls, content: RecordDict) -> Description:
        """Read a description and nothing else; raises :class:`ProtocolError`."""
        if list(content.keys()) != [RECORD]:
            raise ProtocolError("a description must be one record")
        record = config_of(content)
        return cls(
            role=_role(take(record, "role", str)),
            name=take(record, "name", str),
            version=take(record, "version", str),
            features=texts(record, "features"),
            classes=texts(record, "classes"),
            public_key=take(record, "public-key", str),
            session=take(record, "session", str),
            packing=take(record, "packing", str),
            simulated=take(record, "simulated", bool),
        )


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """What a train or evaluate message asks of ``encryption_mod``.

    Attributes
    ----------
    public_key, packing : str
        JSON of the key to encrypt under and of the slots to use.
    session : str
        The key holder's session.
    round : int
        The round, from 1.
    weighted_by : str
        The metric that weights the mean, Flower's ``num-examples`` as a rule.
    running_sum : bytes or None
        Chain only: the encrypted sum so far, to which the update is added.
    layout : str
        Chain only: JSON of the layout of the running sum.
    """

    public_key: str
    packing: str
    session: str
    round: int
    weighted_by: str = NUM_EXAMPLES
    running_sum: bytes | None = field(default=None, repr=False)
    layout: str = ""

    def add_to(self, content: RecordDict) -> RecordDict:
        """Return a copy of an app's request content that carries this request as well."""
        records = RecordDict(dict(content.items()))
        record = ConfigRecord(
            {
                "public-key": self.public_key,
                "packing": self.packing,
                "session": self.session,
                "round": self.round,
                "weighted-by": self.weighted_by,
            }
        )
        records[RECORD] = record
        if self.running_sum is not None:
            record["layout"] = self.layout
            records[_SUM_RECORD] = _encrypted(self.running_sum)
        return records

    def continuing(self, running_sum: bytes, layout: str) -> EncryptionRequest:
        """Return the same request to the next hospital of a chain."""
        return replace(self, running_sum=running_sum, layout=layout)

    @classmethod
    def from_content(cls, content: RecordDict) -> EncryptionRequest:
        """Read the request from a train or evaluate message; raises :class:`ProtocolError`."""
        record = config_of(content)
        chained = _SUM_RECORD in content
        return cls(
            public_key=take(record, "public-key", str),
            packing=take(record, "packing", str),
            session=take(record, "session", str),
            round=natural(record, "round"),
            weighted_by=take(record, "weighted-by", str),
            running_sum=_sum_bytes(content) if chained else None,
            layout=take(record, "layout", str) if chained else "",
        )

    @staticmethod
    def remove_from(content: RecordDict) -> RecordDict:
        """Return a copy of the content without fl-he's records, as the app expects it."""
        ours = (RECORD, _SUM_RECORD)
        return RecordDict({key: record for key, record in content.items() if key not in ours})


@dataclass(frozen=True, slots=True)
class EncryptedReply:
    """A hospital's whole answer: a ciphertext, its public layout, and what it cost.

    Attributes
    ----------
    encrypted_sum : bytes
        The encrypted update, or the running sum with the update added.
    layout : str
        JSON of names, shapes and dtypes of what the slots hold. Public.
    encrypt_seconds, add_seconds : float
        Wall time at the hospital.
    plain : ndarray
        The arrays that both sides chose not to encrypt; empty as a rule.
    """

    encrypted_sum: bytes = field(repr=False)
    layout: str
    encrypt_seconds: float
    add_seconds: float
    plain: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)

    def to_content(self) -> RecordDict:
        """Return the records that carry the reply."""
        record = ConfigRecord(
            {
                "layout": self.layout,
                "encrypt-seconds": self.encrypt_seconds,
                "add-seconds": self.add_seconds,
            }
        )
        content = RecordDict({RECORD: record, _SUM_RECORD: _encrypted(self.encrypted_sum)})
        if self.plain.size:
            content[_PLAIN_RECORD] = _floats(self.plain, PLAIN_STYPE)
        return content

    @classmethod
    def from_content(cls, content: RecordDict) -> EncryptedReply:
        """Read a reply; one with a record of another kind is refused as a plaintext leak."""
        extra = sorted(set(content.keys()) - {RECORD, _SUM_RECORD, _PLAIN_RECORD})
        if extra:
            raise ProtocolError(
                f"a hospital's reply must be encrypted, got plain records {extra}, which the "
                "coordinator has seen: its ClientApp must have encryption_mod as its first mod"
            )
        record = config_of(content)
        has_plain = _PLAIN_RECORD in content
        return cls(
            encrypted_sum=_sum_bytes(content),
            layout=take(record, "layout", str),
            encrypt_seconds=seconds(record, "encrypt-seconds"),
            add_seconds=seconds(record, "add-seconds"),
            plain=_read_floats(content, _PLAIN_RECORD, PLAIN_STYPE) if has_plain else np.empty(0),
        )


@dataclass(frozen=True, slots=True)
class DecryptRequest:
    """Ask the key holder to open one round's sum.

    Attributes
    ----------
    session : str
        The session that the key holder gave in its description.
    purpose : {"train", "evaluate", "prepare"}
    round : int
    contributors : int
        How many hospitals the coordinator claims are in the sum.
    encrypted_sum : bytes
    """

    session: str
    purpose: Purpose
    round: int
    contributors: int
    encrypted_sum: bytes = field(repr=False)

    def to_content(self) -> RecordDict:
        """Return the records that carry the request."""
        record = ConfigRecord(
            {
                "session": self.session,
                "purpose": self.purpose,
                "round": self.round,
                "contributors": self.contributors,
            }
        )
        return RecordDict({RECORD: record, _SUM_RECORD: _encrypted(self.encrypted_sum)})

    @classmethod
    def from_content(cls, content: RecordDict) -> DecryptRequest:
        """Read the request; raises :class:`ProtocolError`."""
        record = config_of(content)
        return cls(
            session=take(record, "session", str),
            purpose=_purpose(take(record, "purpose", str)),
            round=natural(record, "round"),
            contributors=natural(record, "contributors"),
            encrypted_sum=_sum_bytes(content),
        )


@dataclass(frozen=True, slots=True)
class DecryptReply:
    """The total of one round: a float64 vector as long as the encrypted one."""

    total: NDArray[np.float64] = field(repr=False)
    decrypt_seconds: float

    def to_content(self) -> RecordDict:
        """Return the records that carry the total."""
        record = ConfigRecord({"decrypt-seconds": self.decrypt_seconds})
        return RecordDict({RECORD: record, _SUM_RECORD: _floats(self.total, TOTAL_STYPE)})

    @classmethod
    def from_content(cls, content: RecordDict) -> DecryptReply:
        """Read the total; raises :class:`ProtocolError` if it is not a finite vector."""
        return cls(
            total=_read_floats(content, _SUM_RECORD, TOTAL_STYPE),
            decrypt_seconds=seconds(config_of(content), "decrypt-seconds"),
        )


def read_array(array: Array) -> NDArray[np.generic]:
    """Return a plain numpy array of a record; raises :class:`ProtocolError` for any other kind."""
    if array.stype == ENCRYPTED_STYPE:
        raise ProtocolError("an array is encrypted where a plain one was expected")
    try:
        if array.stype != SType.NUMPY:
            raise ValueError(array.stype)
        return array_from_bytes(array.data)
    except ValueError:
        raise ProtocolError(
            f"an array must be a numpy array, got {array.stype!r} of {len(array.data)} bytes"
        ) from None


def printable(text: str) -> str:
    """Return a text that another node sent as one line fit to show to people."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:_SHOWN_LENGTH]


def content_bytes(message: Message) -> int:
    """Return the size of a message's records and their keys in bytes, 0 for an error."""
    if not message.has_content():
        return 0
    content = message.content
    return sum(
        len(key) + _value_bytes(value)
        for record in content.values()
        for key, value in record.items()
    )


def _value_bytes(value: object) -> int:
    # Flower's own ConfigRecord.count_bytes fails on an empty text or list.
    if isinstance(value, Array):
        return len(value.data)
    if isinstance(value, list):
        return sum(_value_bytes(item) for item in value)
    return len(value) if isinstance(value, str | bytes) else 8


def _encrypted(data: bytes) -> ArrayRecord:
    array = Array(dtype="ciphertext", shape=(len(data),), stype=ENCRYPTED_STYPE, data=data)
    return ArrayRecord({_SUM: array})


def _floats(values: NDArray[np.float64], stype: str) -> ArrayRecord:
    data = np.ascontiguousarray(values, dtype="<f8").tobytes()
    return ArrayRecord({_SUM: Array(dtype="float64", shape=values.shape, stype=stype, data=data)})


def _read_floats(content: RecordDict, key: str, stype: str) -> NDArray[np.float64]:
    data = _sum_array(content, key, stype).data
    if len(data) % 8:
        raise ProtocolError(f"{stype} must be whole float64 values, got {len(data)} bytes")
    values = np.frombuffer(data, dtype="<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ProtocolError(f"{stype} must hold finite numbers only")
    return values


def _sum_bytes(content: RecordDict) -> bytes:
    return _sum_array(content, _SUM_RECORD, ENCRYPTED_STYPE).data


def _sum_array(content: RecordDict, key: str, stype: str) -> Array:
    record = content.array_records.get(key)
    if record is None or list(record.keys()) != [_SUM]:
        raise ProtocolError(f"a message must hold one array in the record {key!r}")
    array = record[_SUM]
    if array.stype != stype:
        raise ProtocolError(f"an array must be of type {stype!r}, got {array.stype!r}")
    return array


def _role(value: str) -> Role:
    try:
        return Role(value)
    except ValueError:
        raise ProtocolError(
            f"role must be one of {list(map(str, Role))}, got {value!r:.40}"
        ) from None


def _purpose(value: str) -> Purpose:
    for purpose in get_args(Purpose):
        if value == purpose:
            return purpose  # type: ignore[no-any-return]
    raise ProtocolError(f"purpose must be one of {get_args(Purpose)}, got {value!r:.40}")
