"""Company X's key of each session: made when the session begins, deleted when it is over.

A key is in a file of its own, named by the session's digest. The ledger says when a key was made
and for how many days, and when it was deleted. All files that the ledger does not call for are
deleted: those of sessions that are over, and those of sessions that the ledger does not know.

Each new Flower run gets a new key, and a key costs time and a file. So the number of keys made in a
day for sessions in which nothing was opened is limited. Deleted ones count too.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from time import time

from fl_he.atomic import synchronise
from fl_he.clients.ledger import (
    KeyDeleted,
    KeyMade,
    Mark,
    Opening,
    Session,
    entries,
    line_of,
    marks,
    session_of,
    unknown_session,
)
from fl_he.clients.ledger_file import room
from fl_he.clients.overviews import SessionOverview
from fl_he.clients.stores import LedgerError, Lines, Store
from fl_he.wire.records import ProtocolError

#: Of a session's digest in a file's name.
_DIGITS = 32
#: Seconds in which unused keys count together.
_DAY = 24 * 60 * 60


def now() -> int:
    """Return the time in whole seconds since 1970."""
    return int(time())


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session's key, as the ledger knows it.

    Attributes
    ----------
    session : str
    fingerprint : str
        Of the public key.
    expires : int
        When the key is deleted, in seconds since 1970.
    opened : Mark
        Of the last sum opened so far, over all sessions.
    path : Path
        The key's file.
    """

    session: str
    fingerprint: str
    expires: int
    opened: Mark
    path: Path


class RunKeys:
    """The keys of all sessions of a deployed company X with a manifest.

    All methods raise LedgerError if the ledger cannot be trusted, and OSError if a key file cannot
    be deleted.

    Parameters
    ----------
    store : Store
        The ledger.
    place : Path
        The files are in its folder, and their names begin with its name.
    days : int
        How long a new key is kept at most.
    most_unused : int
        Most keys made in a day for sessions without an opened sum.
    """

    def __init__(self, store: Store, place: Path, days: int, most_unused: int) -> None:
        self._store, self._place = store, place
        self._days, self._most_unused = days, most_unused

    def begin(self, run_id: int, make: Callable[[Path], str]) -> str:
        """Return the session of a Flower run; the first call makes its key and begins it.

        Parameters
        ----------
        run_id : int
            See :meth:`fl_he.clients.ledger.Ledger.session`.
        make : callable
            Makes a key, writes it to a new file and returns its fingerprint. It is called under the
            ledger's lock: two processes do not make two.

        Raises
        ------
        ProtocolError
            If too many keys were made within a day for sessions in which nothing was opened.
        """
        with self._store.exclusively() as lines:
            found = session_of(lines, run_id)
            if found is None:
                self._require_few_unused(lines)
                session = secrets.token_hex(16)
                with room(self._path(session)):
                    found = Session(str(run_id), session, make(self._path(session)))
                lines.append(line_of(KeyMade(session, now(), self._days)))
                lines.append(line_of(found))
        return found.session

    def find(self, session: str) -> SessionKey:
        """Return the key of a session.

        Raises
        ------
        ProtocolError
            If the session is unknown, or its key was deleted.
        """
        begun: Session | None = None
        made: KeyMade | None = None
        deleted: KeyDeleted | None = None
        with self._store.exclusively() as lines:
            self._delete(lines)
            *_, opened = (Mark(), *(mark for _, mark in marks(lines)))
            for entry in entries(lines):
                if entry is None or entry.session != session:
                    continue
                elif isinstance(entry, Session):
                    begun = entry
                elif isinstance(entry, KeyMade):
                    made = entry
                elif isinstance(entry, KeyDeleted):
                    deleted = entry
        if begun is None:
            raise unknown_session(session)
        if made is None:
            raise ProtocolError(
                "the session must have a key of its own, and was begun under a key file: begin a "
                "new run"
            )
        path = self._path(session)
        if deleted is not None or not path.exists():
            raise ProtocolError(_over(made, deleted))
        return SessionKey(session, begun.key, made.until, opened, path)

    def described(self, session: SessionOverview) -> str:
        """Say whether a session's key is there, and until when; nothing is deleted by that."""
        made, deleted = session.made, session.deleted
        if made is None:
            return "key file"
        if deleted is not None:
            return f"deleted {_when(made, deleted)}"
        try:
            until = f"until {datetime.fromtimestamp(made.until, UTC):%Y-%m-%d %H:%M} UTC"
        except (OverflowError, ValueError, OSError):
            raise LedgerError("a key's days must end before the year 10000") from None
        return until if self._path(session.session).exists() else f"missing, was {until}"

    def end(self, session: str) -> None:
        """Delete a session's key: its run is over.

        Raises
        ------
        ProtocolError
            If the session is unknown.
        """
        with self._store.exclusively() as lines:
            known = {one.session for one in entries(lines) if isinstance(one, KeyMade)}
            if session not in known:
                raise unknown_session(session)
            self._delete(lines, session)

    def delete_old(self) -> None:
        """Delete all keys whose days are over, or whose session the ledger does not know."""
        if self._store.is_new() and not self._files():
            return
        with self._store.exclusively() as lines:
            self._delete(lines)

    def _require_few_unused(self, lines: Lines) -> None:
        used: set[str] = set()
        made: set[str] = set()
        for entry in entries(lines):
            if isinstance(entry, Opening):
                used.add(entry.session)
            elif isinstance(entry, KeyMade) and entry.at > now() - _DAY:
                made.add(entry.session)
        if (unused := len(made - used)) >= self._most_unused:
            raise ProtocolError(
                f"company X makes at most {self._most_unused} keys in 24 hours for runs in which "
                "it opens no sum (max-unused-keys in its node configuration), and has made "
                f"{unused}: begin a run tomorrow, or let its operator raise max-unused-keys"
            )

    def _delete(self, lines: Lines, ended: str | None = None) -> None:
        """Note whose keys are deleted, then delete the files; a file noted earlier goes as well."""
        kept: dict[str, KeyMade] = {}
        for entry in entries(lines):
            if isinstance(entry, KeyMade):
                kept[entry.session] = entry
            elif isinstance(entry, KeyDeleted):
                kept.pop(entry.session, None)
        for session, made in list(kept.items()):
            if session == ended or made.until <= now():
                deleted = KeyDeleted(session, "end" if session == ended else "days")
                lines.append(line_of(deleted))
                del kept[session]
        names = {self._path(session).name for session in kept}
        if old := [path for path in self._files() if path.name not in names]:
            for path in old:
                path.unlink(missing_ok=True)
            synchronise(self._place.parent)

    def _path(self, session: str) -> Path:
        digits = sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        return self._place.with_name(f"{self._place.name}.{digits}.json")

    def _files(self) -> list[Path]:
        """Return all key files, and what a crash may have left of one in the making."""
        name = rf"{re.escape(self._place.name)}\.[0-9a-f]{{{_DIGITS}}}\.json"
        ours = re.compile(rf"{name}|\.{name}\.[0-9a-f]+")
        return [path for path in self._place.parent.iterdir() if ours.fullmatch(path.name)]


def _over(made: KeyMade, deleted: KeyDeleted | None) -> str:
    """Return the words for a session that has no key any more."""
    if deleted is None:
        return "the key of this session is not there any more: begin a new run"
    return f"the key of this session was deleted {_when(made, deleted)}: begin a new run"


def _when(made: KeyMade, deleted: KeyDeleted) -> str:
    return "at the run's end" if deleted.reason == "end" else f"after {made.days} days"
