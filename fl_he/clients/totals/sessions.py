"""The sessions of sealed chains that a node takes part in, in a ledger on its own disk.

Flower's context, which the coordinator can reset, holds none of it. A session is known by the
Flower run in which the node heard of it first, and by its name.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from fl_he.clients.node.node import Node
from fl_he.clients.stores import ledger_document


@dataclass(frozen=True, slots=True)
class _Entry:
    """A node has challenged company X in a run, or takes part in a session; the other is empty."""

    run: str
    challenge: str
    session: str


_LINES = ledger_document(_Entry)


class Sessions:
    """A node's sessions of sealed chains.

    Parameters
    ----------
    node : Node
    """

    def __init__(self, node: Node) -> None:
        self._store, self._run = node.chains(), str(node.context.run_id)

    @property
    def session(self) -> str:
        """The session that the node takes part in in this run; empty if it knows none."""
        own = [entry.session for entry in self._entries() if entry.run == self._run]
        return next(filter(None, reversed(own)), "")

    def knows(self, session: str) -> bool:
        """Tell whether the node takes part in a session, in this run or in an earlier one."""
        return any(entry.session == session for entry in self._entries() if session)

    def is_closed(self, session: str) -> bool:
        """Tell whether the node has begun with a sealed chain in this run, or in the session."""
        return self.knows(session) or any(entry.run == self._run for entry in self._entries())

    def challenge(self) -> str:
        """Return what company X must answer before the node believes in a session."""
        own = [entry.challenge for entry in self._entries() if entry.run == self._run]
        if made := next(filter(None, reversed(own)), ""):
            return made
        challenge = secrets.token_hex(16)
        self._note(_Entry(self._run, challenge, ""))
        return challenge

    def join(self, session: str) -> None:
        """Take part in a session for the rest of the run."""
        if self.session != session:
            self._note(_Entry(self._run, "", session))

    def _entries(self) -> list[_Entry]:
        if self._store.is_new():
            return []
        with self._store.exclusively() as lines:
            # A line that was cut off is of a message that was not answered.
            return [_LINES.loads(line, _Entry) for line in lines if line is not None]

    def _note(self, entry: _Entry) -> None:
        with self._store.exclusively() as lines:
            lines.append(_LINES.dumps(entry))
