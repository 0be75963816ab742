"""Ledgers and texts of a simulated node, which has no disk of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flwr.app import ConfigRecord

_LINES, _TEXT = "ledger", "text"


class _InState:
    """Kept by a simulated node in its state: such a node has no disk of its own.

    Parameters
    ----------
    record : ConfigRecord
        Of ``context.state``.
    """

    def __init__(self, record: ConfigRecord) -> None:
        self._record = record


class StateStore(_InState):
    """The ledger of a simulated node."""

    def is_new(self) -> bool:
        """See Store."""
        return _LINES not in self._record

    @contextmanager
    def exclusively(self) -> Iterator[list[str]]:
        """See Store; a simulated node's state has one user.

        Lines are added in place: a record checks all values of a list that it is given.
        """
        yield cast(list[str], self._record.setdefault(_LINES, []))


class StateText(_InState):
    """A text of a simulated node."""

    @contextmanager
    def exclusively(self) -> Iterator[StateText]:
        """See TextStore; a simulated node's state has one user."""
        yield self

    def read(self) -> str | None:
        """See Text."""
        return cast(str | None, self._record.get(_TEXT))

    def write(self, text: str) -> None:
        """See Text."""
        self._record[_TEXT] = text
