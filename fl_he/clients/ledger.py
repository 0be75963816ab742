"""What company X remembers: its sessions, and which rounds and sums it has opened in them.

A round is noted before its sum is decrypted. The same request may come again, since the answer
may have been lost on its way: it is answered again, with the same total. That gives a coordinator
that cheats nothing that it could not have kept: the answer depends on the key and on the request
alone, and the request is the same in its session, purpose, round, claimed contributors and every
byte of the sum. Any other request for the round, or for the sum in another round, is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol, cast

from flwr.app import ConfigRecord

from fl_he.crypto.encoding.fields import Natural, form_of
from fl_he.crypto.encoding.strict_json import Document
from fl_he.crypto.errors import KeyFileError
from fl_he.wire.encrypted_sum import DecryptRequest, Purpose
from fl_he.wire.records import ProtocolError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Longest line, its end included; ours have at most 300 characters.
LONGEST_LINE = 1000
_LINES = "ledger"


class LedgerError(KeyFileError):
    """A ledger that cannot be trusted. Its text may name a path, so it stays on the node."""


class Lines(Protocol):
    """The lines of a ledger while nobody else can change them."""

    def __iter__(self) -> Iterator[str | None]:
        """Yield the lines in order; None for one whose writing was cut off."""

    def append(self, line: str) -> None:
        """Add a line that is there for good when this returns."""


class Store(Protocol):
    """Where a ledger is kept."""

    def exclusively(self) -> AbstractContextManager[Lines]:
        """Lock the ledger and give access to its lines."""


@dataclass(frozen=True, slots=True)
class _Session:
    """A session was begun, for a Flower run and under a key."""

    run: str
    session: str
    key: str


@dataclass(frozen=True, slots=True)
class _Opening:
    """A round was opened, with this very sum."""

    session: str
    purpose: Purpose
    round: Natural
    contributors: Natural
    sum: str


def ledger_document(entry: type[DataclassInstance], limit: int = LONGEST_LINE) -> Document:
    """Return the lines of one kind of entry."""
    return Document("a ledger's line", form_of(entry).members, limit, LedgerError)


_SESSIONS, _OPENINGS = ledger_document(_Session), ledger_document(_Opening)


class Ledger:
    """Sessions and openings, by the rules of this module.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def session(self, run_id: int, fingerprint: str) -> str:
        """Return the session of a Flower run; the first call begins it.

        Parameters
        ----------
        run_id : int
            Chosen by the coordinator's side. Who gives the same twice gets the same session, with
            all that was opened in it.
        fingerprint : str
            Of the key that the node has now.

        Raises
        ------
        ProtocolError
            If the session was begun under another key.
        LedgerError
            If the ledger cannot be trusted.
        """
        with self._store.exclusively() as lines:
            found: _Session | None = None
            for entry in _entries(lines):
                if entry is None:
                    found = None
                elif isinstance(entry, _Session) and entry.run == str(run_id):
                    found = entry
            if found is None:
                found = _Session(str(run_id), secrets.token_hex(16), fingerprint)
                lines.append(_SESSIONS.dumps(found))
        if found.key != fingerprint:
            raise ProtocolError("the key file must hold the key with which the run began")
        return found.session

    def latest(self, session: str, fingerprint: str) -> int:
        """Return the last train round that was opened in a session, 0 if none.

        Parameters
        ----------
        session : str
        fingerprint : str
            Of the key that the node has now.

        Raises
        ------
        ProtocolError
            If the session is unknown, closed or of another key.
        LedgerError
            If the ledger cannot be trusted.
        """
        known, latest = False, 0
        with self._store.exclusively() as lines:
            for entry in _entries(lines):
                if entry is None:
                    known = False
                elif entry.session != session:
                    continue
                elif isinstance(entry, _Session):
                    known = entry.key == fingerprint
                elif entry.purpose == "train":
                    latest = max(latest, entry.round)
        if not known:
            raise _unknown(session)
        return latest

    def note(self, request: DecryptRequest, fingerprint: str, follows: int | None = None) -> None:
        """Note that a sum is opened for its round, before it is.

        Returns as well, and notes nothing, if the same was noted before: see the module.

        Parameters
        ----------
        request : DecryptRequest
        fingerprint : str
            Of the key that the node has now.
        follows : int or None
            The round that must be the last one opened before this one, 0 for none. It is compared
            under the same lock: of two processes only one opens a sum over the same model.

        Raises
        ------
        ProtocolError
            If the session is unknown, closed or of another key, if the round or a later one is
            open already, or if the sum is, or if it follows another round.
        LedgerError
            If the ledger cannot be trusted.
        """
        opening = _Opening(
            session=request.session,
            purpose=request.purpose,
            round=request.round,
            contributors=request.contributors,
            sum=sha256(request.encrypted_sum).hexdigest(),
        )
        with self._store.exclusively() as lines:
            if not _is_noted(opening, fingerprint, _entries(lines), follows):
                lines.append(_OPENINGS.dumps(opening))


def _is_noted(
    opening: _Opening,
    fingerprint: str,
    entries: Iterable[_Session | _Opening | None],
    follows: int | None,
) -> bool:
    """Hold an opening against all entries, in constant memory; raises as `Ledger.note`."""
    known = noted = same_sum = False
    latest = before = 0
    for entry in entries:
        if entry is None:
            # It was of any session begun so far: which round it used up is not known, so no more
            # are opened in them. The next run begins a session behind it.
            known = False
        elif entry.session != opening.session:
            continue
        elif isinstance(entry, _Session):
            known = entry.key == fingerprint
        else:
            noted = noted or entry == opening
            same_sum = same_sum or entry.sum == opening.sum
            if entry.purpose == opening.purpose:
                latest = max(latest, entry.round)
                if entry.round < opening.round:
                    before = max(before, entry.round)
    if not known:
        raise _unknown(opening.session)
    if follows not in (None, before):
        raise ProtocolError(
            f"a sum must be over the model after round {before}, the last that was opened, "
            f"got one over the model after round {follows}"
        )
    if noted:
        return True
    if opening.round <= latest:
        raise ProtocolError(
            f"a round is opened once, in order: {opening.purpose} {latest} is open already, "
            f"got {opening.purpose} {opening.round}"
        )
    if same_sum:
        raise ProtocolError("this very sum is open already, for another round")
    return False


def _unknown(session: str) -> ProtocolError:
    return ProtocolError(
        f"the session must be one that this key holder opened with its key, got {session!r:.40}"
    )


class StateStore:
    """Keeps the ledger of a simulated node in its state: such a node has no disk of its own.

    Parameters
    ----------
    record : ConfigRecord
        Of ``context.state``.
    """

    def __init__(self, record: ConfigRecord) -> None:
        self._record = record

    @contextmanager
    def exclusively(self) -> Iterator[StateStore]:
        """See Store; a simulated node's state has one user."""
        yield self

    def __iter__(self) -> Iterator[str]:
        """See Lines."""
        return iter(cast(list[str], self._record.get(_LINES, [])))

    def append(self, line: str) -> None:
        """See Lines."""
        self._record[_LINES] = [*self, line]


def _entries(lines: Lines) -> Iterator[_Session | _Opening | None]:
    for line in lines:
        yield None if line is None else _entry(line)


def _entry(line: str) -> _Session | _Opening:
    if line.startswith('{"run":'):
        return _SESSIONS.loads(line, _Session)
    return _OPENINGS.loads(line, _Opening)
