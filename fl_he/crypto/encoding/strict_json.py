"""Hostile JSON text to checked members, and back.

The parsers never chain the standard library's exceptions: a ``JSONDecodeError`` holds the whole
document, and that may be a private key.

Bytes as text in JSON: unpadded base64url (RFC 4648, section 5) of one spelling only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from fl_he.crypto.encoding.fields import MISSING, Form, Kind, Place, Refusal
from fl_he.crypto.errors import CryptoError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Document:
    """Objects of one form as JSON text.

    Attributes
    ----------
    what : str
        Name of the object for messages.
    members : mapping of str to Kind
        See `Form`.
    limit : int
        Largest accepted number of characters, checked before parsing.
    error : callable
        Makes a refusal of its text, which shows nothing of the object's.
    indent : int or None
        None for one line without blanks: one object has one text.
    older : mapping of str to str
        Formats that are not read any more, and what to do with such a file.
    """

    what: str
    members: Mapping[str, Kind]
    limit: int
    error: Refusal = CryptoError
    indent: int | None = None
    older: Mapping[str, str] = field(default_factory=dict)

    def loads(self, text: str, build: Callable[..., _T]) -> _T:
        """Read a text of exactly this form.

        Parameters
        ----------
        text : str
            From a source that need not be trusted.
        build : callable
            Makes the object of the members' values, see `Form`.
        """
        at = Place(self.what, self.error)
        members = parse(text, at, self.limit)
        found = members.get("format") if isinstance(members, dict) else None
        if isinstance(found, str) and found in self.older:
            raise at.error(f"{at} is of the older format {found!r}: {self.older[found]}")
        return Form(self.members, build).read(members, at)

    def dumps(self, value: object, **given: Any) -> str:
        """Return the text of an object; `given` members are no attributes of its."""
        separators = (",", ":") if self.indent is None else None
        members = Form[Any](self.members).write(value, **given)
        return json.dumps(members, indent=self.indent, separators=separators, allow_nan=False)


class Documented:
    """Base of objects that are one JSON text."""

    __slots__ = ()
    DOCUMENT: ClassVar[Document]

    def to_json(self) -> str:
        """Return the object as JSON text."""
        return self.DOCUMENT.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; raises CryptoError for anything else."""
        return cls.DOCUMENT.loads(text, cls)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file, of which no more is read than such a text can have.

        Raises
        ------
        CryptoError
            If it holds anything else.
        OSError
            If it cannot be read.
        """
        with path.open("rb") as file:
            data = file.read(cls.DOCUMENT.limit + 1)
        return cls.from_json(data.decode("utf-8", errors="replace"))


def parse(text: str, at: Place, limit: int) -> object:
    """Parse a JSON text in which no object names a member twice, and all texts are Unicode.

    Parameters
    ----------
    text : str
        From a source that need not be trusted.
    at : Place
        The whole text.
    limit : int
        Largest accepted number of characters, checked before parsing.
    """
    if not isinstance(text, str):
        raise at.mistyped("JSON text", text)
    if len(text) > limit:
        raise at.wrong(f"have at most {limit} characters, got {len(text)}")
    parsed: object = MISSING
    with suppress(ValueError, RecursionError):  # refused below
        parsed = json.loads(text, object_pairs_hook=_without_duplicates)
    if parsed is MISSING:
        raise at.wrong("be a JSON object without duplicate names")
    if "\\ud" in text.lower() and not _is_unicode(parsed):
        raise at.wrong("hold no lone surrogates")
    return parsed


def _is_unicode(parsed: object) -> bool:
    """Tell whether no text has a lone surrogate, which could be neither sent nor written."""
    with suppress(ValueError, RecursionError):
        json.dumps(parsed, ensure_ascii=False).encode()
        return True
    return False


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def bytes_to_base64url(data: bytes) -> str:
    """Encode bytes as unpadded base64url text."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def base64url(length: int | None = None) -> Kind:
    """Return the kind of bytes as unpadded base64url text.

    Parameters
    ----------
    length : int, optional
        How many bytes, checked before decoding; by default any number.
    """

    def read(value: object, at: Place) -> bytes:
        if not isinstance(value, str):
            raise at.mistyped("base64url text", value)
        expected = len(value) if length is None else -(-4 * length // 3)
        if len(value) != expected:
            raise at.wrong(f"be base64url text of {expected} characters, got {len(value)}")
        data = b""
        with suppress(ValueError):  # refused below, as nothing encodes differently
            data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        if bytes_to_base64url(data) != value:
            raise at.wrong("be base64url text without padding")
        return data

    return Kind(read, bytes_to_base64url)


def _read_base64(value: object, at: Place) -> bytes:
    if not isinstance(value, str):
        raise at.mistyped("base64 text", value)
    with suppress(ValueError):  # refused below
        return base64.b64decode(value, validate=True)
    raise at.wrong("be base64 text")


#: Bytes as padded base64 text, in checkpoints.
Base64 = Annotated[bytes, Kind(_read_base64, lambda data: base64.b64encode(data).decode("ascii"))]


def base64url_integer(bits: int) -> Kind:
    """Return the kind of an unsigned big-endian integer as unpadded base64url text.

    phe's key format writes integers like this (``phe.util.int_to_base64``). Only the shortest
    encoding is accepted, so that equal keys have equal texts.

    Parameters
    ----------
    bits : int
        Longest accepted integer, checked before decoding.
    """

    def read(value: object, at: Place) -> int:
        if isinstance(value, str) and 6 * len(value) > bits + 12:
            raise at.wrong(f"have at most {bits} bits")
        integer = int.from_bytes(base64url().read(value, at), "big")
        if integer_to_base64url(integer) != value:
            raise at.wrong("be base64url text in its shortest form")
        if integer.bit_length() > bits:
            raise at.wrong(f"have at most {bits} bits, got {integer.bit_length()}")
        return integer

    return Kind(read, integer_to_base64url)


def integer_to_base64url(value: int) -> str:
    """Encode a non-negative integer as the shortest unpadded base64url text."""
    return bytes_to_base64url(value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
