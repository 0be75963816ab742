"""Places of lines and texts that a node keeps: in files or, simulated, in Flower's state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from fl_he.crypto.encoding.fields import form_of
from fl_he.crypto.encoding.strict_json import Document
from fl_he.crypto.errors import KeyFileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Longest line, its end included; those of company X's ledger have at most 300 characters.
LONGEST_LINE = 1000


class LedgerError(KeyFileError):
    """A ledger that cannot be trusted. Its text may name a path, so it stays on the node."""


class Lines(Protocol):
    """The lines of a ledger while nobody else can change them."""

    def __iter__(self) -> Iterator[str | None]:
        """Yield the lines in order; None for one whose writing was cut off."""

    def append(self, line: str) -> None:
        """Add a line that is there for good when this returns."""


class Store(Protocol):
    """Storage of a ledger."""

    def is_new(self) -> bool:
        """Tell whether nothing was ever noted."""

    def exclusively(self) -> AbstractContextManager[Lines]:
        """Lock the ledger and give access to its lines."""


class Text(Protocol):
    """A text that a node keeps, while nobody else can change it."""

    def read(self) -> str | None:
        """Return the text, ``None`` where there is none yet."""

    def write(self, text: str) -> None:
        """Put a text in the old one's place; it is there for good when this returns."""


class TextStore(Protocol):
    """Place of a text."""

    def exclusively(self) -> AbstractContextManager[Text]:
        """Lock the text and give access to it."""


def ledger_document(entry: type[DataclassInstance], limit: int = LONGEST_LINE) -> Document:
    """Return the lines of one kind of entry."""
    return Document("a ledger's line", form_of(entry).members, limit, LedgerError)
