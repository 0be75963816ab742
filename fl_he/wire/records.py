"""Messages as dataclasses: each field travels in one of Flower's records.

A field is a value of the message's config record, under its name with hyphens, unless its
annotation says otherwise: `Key` gives the value another name, `SPARSE` leaves it out while it is
the default, and a `Part` puts it into a record of its own. Everything that `Message.from_content`
reads comes from another node and is treated as hostile: a missing key, a wrong type or a value out
of range raises `ProtocolError`. Cryptographic documents (keys, packings, encrypted vectors) pass
through as text and bytes; whoever uses them validates them against a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields
from functools import cache, partial
from types import NoneType
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast, get_args, get_type_hints

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import MISSING, Kind, Limit, Place, key_of, kind_of, mapped
from fl_he.errors import FlHeError

#: The config record of fl-he's own in every message.
RECORD = "fl-he"
#: Flower's name for the config record of a train message.
CONFIG = "config"

ENCRYPTED_STYPE = "fl-he.encrypted-vector"
ENVELOPE_STYPE = "fl-he.envelope"

#: Marks a value that is left out while it is the default, or a record while it is empty.
SPARSE = object()

_Record = TypeVar("_Record", ArrayRecord, ConfigRecord)
Seconds = Annotated[float, Limit("be a time in seconds", lambda value: value >= 0, shown=True)]


class ProtocolError(FlHeError):
    """A message, or a federation, that fl-he refuses; the text holds public values only."""


class PrivateReasonError(ProtocolError):
    """A refusal whose very reason depends on private data: a deployed node does not give it."""


@contextmanager
def refused_as(words: str) -> Iterator[None]:
    """Refuse what is refused within as a ProtocolError that begins with these words."""
    try:
        yield
    except FlHeError as error:
        raise ProtocolError(f"{words} {error}") from error


@contextmanager
def withheld() -> Iterator[None]:
    """Keep the reason of what is refused within on a deployed node."""
    try:
        yield
    except FlHeError as error:
        raise PrivateReasonError(str(error)) from error


_MESSAGE = Place("a message", ProtocolError)
#: What a coordinator keeps of a run in its checkpoint.
KEPT = Place("checkpoint", ProtocolError)


@dataclass(frozen=True, slots=True)
class Part:
    """Record in which a field of a message travels.

    Attributes
    ----------
    record : str
        The record's key.
    get : callable
        Returns the field's value from hostile records.
    put : callable
        Puts the value into records.
    """

    record: str
    get: Callable[[RecordDict], Any]
    put: Callable[[RecordDict, Any], None]


#: A field's name, its part and, where its record may be absent, what makes its default.
_FieldPart = tuple[str, Part, Callable[[], Any] | None]


def record_of(content: RecordDict, key: str, kind: type[_Record]) -> _Record | None:
    """Return the record of a kind under a key, ``None`` without one.

    Flower's ``config_records`` and its like copy and check all records of a content.
    """
    record = content.get(key)
    return record if isinstance(record, kind) else None


def kept_config(state: RecordDict, key: str) -> ConfigRecord:
    """Return a config record of a node's state; the first call makes it."""
    record = record_of(state, key, ConfigRecord)
    if record is None:
        record = state[key] = ConfigRecord()
    return record


def sent_config(content: RecordDict, key: str = CONFIG) -> ConfigRecord:
    """Return a config record of a message, as a rule the train config; empty without one."""
    return record_of(content, key, ConfigRecord) or ConfigRecord()


def config_of(content: RecordDict, key: str = RECORD) -> ConfigRecord:
    """Return a message's config record."""
    record = record_of(content, key, ConfigRecord)
    if record is None:
        raise ProtocolError(f"message has no config record {key!r}")
    return record


def read_value(record: Mapping[str, Any], key: str, hint: Any) -> Any:
    """Return one value of a config record, of an annotation's type and limits."""
    return kind_of(hint).read(record.get(key, MISSING), _MESSAGE.part(key))


def value(record: str, key: str, kind: Kind, default: object = MISSING) -> Part:
    """Return the part of one config value; with a default it is left out while it is that."""

    def get(content: RecordDict) -> Any:
        config = record_of(content, record, ConfigRecord)
        if default is not MISSING and (config is None or key not in config):
            return default
        return kind.read(config_of(content, record).get(key, MISSING), _MESSAGE.part(key))

    def put(content: RecordDict, given: object) -> None:
        if default is MISSING or given != default:
            config_of(content, record)[key] = kind.write(given)

    return Part(record, get, put)


def texts(record: str) -> Part:
    """Return the part of a mapping of names to texts, a config record of its own."""
    return named(record, kind_of(str))


def named(record: str, one: Kind) -> Part:
    """Return the part of a mapping of names to values of one kind, a config record of its own."""
    kind = mapped(one)
    return Part(
        record,
        lambda content: kind.read(dict(config_of(content, record)), _MESSAGE),
        lambda content, given: content.update({record: ConfigRecord(dict(given))}),
    )


def blobs(record: str, stype: str, dtype: str) -> Part:
    """Return the part of a mapping of names to opaque bytes, an array record of its own."""

    def get(content: RecordDict) -> dict[str, bytes]:
        arrays = record_of(content, record, ArrayRecord)
        if arrays is None:
            raise ProtocolError(f"message has no array record {record!r}")
        for name, array in arrays.items():
            if array.stype != stype:
                raise ProtocolError(
                    f"{name!r:.80} must be of type {stype!r}, got {array.stype!r:.40}"
                )
        return {name: array.data for name, array in arrays.items()}

    def put(content: RecordDict, given: Mapping[str, bytes]) -> None:
        content[record] = ArrayRecord(
            {
                name: Array(dtype=dtype, shape=(len(data),), stype=stype, data=data)
                for name, data in given.items()
            }
        )

    return Part(record, get, put)


def blob(record: str, name: str, stype: str, dtype: str) -> Part:
    """Return the part of opaque bytes, the one array of a record."""
    all_of = blobs(record, stype, dtype)

    def get(content: RecordDict) -> bytes:
        if list(record_of(content, record, ArrayRecord) or ()) != [name]:
            raise ProtocolError(f"a message must hold one array in the record {record!r}")
        found: bytes = all_of.get(content)[name]
        return found

    return Part(record, get, lambda content, data: all_of.put(content, {name: data}))


def floats(record: str, name: str, stype: str) -> Part:
    """Return the part of a vector of finite float64 values, the one array of a record."""
    data = blob(record, name, stype, "float64")

    def get(content: RecordDict) -> NDArray[np.float64]:
        found = data.get(content)
        if len(found) % 8:
            raise ProtocolError(f"{stype} must be whole float64 values, got {len(found)} bytes")
        values = np.frombuffer(found, dtype="<f8").astype(np.float64)
        if not np.isfinite(values).all():
            raise ProtocolError(f"{stype} must hold finite numbers only")
        return values

    def put(content: RecordDict, values: NDArray[np.float64]) -> None:
        raw = np.ascontiguousarray(values, dtype="<f8").tobytes()
        array = Array(dtype="float64", shape=values.shape, stype=stype, data=raw)
        content[record] = ArrayRecord({name: array})

    return Part(record, get, put)


class Message:
    """Base of the dataclasses whose fields travel in records."""

    __slots__ = ()
    #: The config record of the fields that say nothing else.
    HOME: ClassVar[str] = RECORD
    #: For a message that comes with no other records: the refusal of others.
    ALONE: ClassVar[str | None] = None

    def to_content(self) -> RecordDict:
        """Return the records that carry the message."""
        return self.add_to(RecordDict())

    def add_to(self, content: RecordDict) -> RecordDict:
        """Return a copy of a message's content that carries this message as well."""
        records = RecordDict({**content, self.HOME: ConfigRecord()})
        for name, part, absent in self._fields():
            given = getattr(self, name)
            if absent is None or isinstance(given, bytes) or (given is not None and len(given)):
                part.put(records, given)
        return records

    @classmethod
    def from_content(cls, content: RecordDict) -> Self:
        """Read the message; raises :class:`ProtocolError`."""
        if cls.ALONE is not None and (others := sorted(set(content) - set(cls.records()))):
            raise ProtocolError(cls.ALONE.format(others=others))
        return cls(
            **{
                name: absent() if absent and part.record not in content else part.get(content)
                for name, part, absent in cls._fields()
            }
        )

    @classmethod
    def _fields(cls) -> tuple[_FieldPart, ...]:
        return _parts(cast("Any", cls))

    @classmethod
    def records(cls) -> Iterator[str]:
        """Yield the keys of the message's records."""
        yield cls.HOME
        for _, part, _ in cls._fields():
            yield part.record

    @classmethod
    def remove_from(cls, content: RecordDict) -> RecordDict:
        """Return a copy of a content without the message's records, as the app expects it."""
        ours = set(cls.records())
        return RecordDict({key: record for key, record in content.items() if key not in ours})


@cache
def _parts(cls: Any) -> tuple[_FieldPart, ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_part(field, hints[field.name], cls.HOME) for field in fields(cls))


def _part(field: Field[Any], hint: Any, home: str) -> _FieldPart:
    marks = [mark for one in (hint, *get_args(hint)) for mark in get_args(one)]
    default: Callable[[], Any] | None = None
    if SPARSE in marks or NoneType in marks:
        default = partial(getattr, field, "default")
        if field.default_factory is not NO_DEFAULT:
            default = field.default_factory
    for mark in marks:
        if isinstance(mark, Part):
            return field.name, mark, default
    key = key_of(hint) or field.name.replace("_", "-")
    return field.name, value(home, key, kind_of(hint), default() if default else MISSING), None
