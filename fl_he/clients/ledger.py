"""Company X's ledger: its sessions, and the rounds and sums that it has opened in them.

A round is noted before its sum is decrypted, and the set of its hospitals before the round, also if
the round is refused: company X has its sum. The same request may come again, since the answer
may have been lost on its way: it is answered again, with the same total. That gives a coordinator
that cheats nothing that it could not have kept: the answer depends on the key and on the request
alone, and the request is the same in its session, purpose, round, claimed contributors and every
byte of the sum. Any other request for the round, or for the sum in another round, is refused.

A sum is discarded if at some hospitals the app failed, or a value did not fit: nothing of it was
given out, so another sum may be opened in its place when those hospitals have fixed that. The same
request is answered from the ledger.

An opening's counter is its place among all openings of the ledger, from 1. The head of the ledger
is a digest of the last opening's line over the head before it. A ledger that an older copy has
replaced gives counters again, with other heads. An opening also says how many lines the file of
opened sets had, so that company X notices if that file is deleted or replaced.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Literal, Self

from fl_he.clients.stores import Store, ledger_document
from fl_he.crypto.encoding.fields import Key, Natural, Whole
from fl_he.errors import FlHeError
from fl_he.wire.encrypted_sum import DecryptRequest, Purpose
from fl_he.wire.permission import PermitRequest, SealedPermitRequest
from fl_he.wire.records import ProtocolError
from fl_he.wire.training_messages import MODEL_LINKS

#: A sum about a model, by purpose and round.
Follows = tuple[str, int]
#: Stands for the sum before the first one.
NOTHING: Follows = ("round", 0)
#: Head of a ledger without openings.
FIRST_HEAD = bytes(32)


@dataclass(frozen=True, slots=True)
class Session:
    """A session was begun, for a Flower run and under a key."""

    run: str
    session: str
    key: str


@dataclass(frozen=True, slots=True)
class Discarded:
    """A sum was opened, and no number of it given out: some hospitals could not add theirs."""

    discarded: str
    session: str
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Opening:
    """A round was opened, with this very sum; lines that say nothing of `sets` are older."""

    session: str
    purpose: Purpose
    round: Natural
    contributors: Natural
    metric_values: Whole
    sum: str
    sets: Whole = field(default=0, compare=False)

    @classmethod
    def of(cls, asked: DecryptRequest | PermitRequest | SealedPermitRequest, digest: str) -> Self:
        """Return the line of a sum that is asked for, and of its digest."""
        kind, count = (asked.session, asked.purpose, asked.round), asked.contributors
        return cls(*kind, count, asked.metric_values, digest)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the chain of all openings: the opening's counter, and the head with it."""

    counter: int = 0
    head: bytes = FIRST_HEAD


@dataclass(frozen=True, slots=True)
class KeyMade:
    """A session's own key was made, at a time in seconds since 1970, for this many days."""

    session: Annotated[str, Key("made")]
    at: Whole
    days: Natural

    @property
    def until(self) -> int:
        """When the key is deleted, in seconds since 1970."""
        return self.at + self.days * 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class KeyDeleted:
    """A session's own key was deleted: at the run's end, or after its days."""

    session: Annotated[str, Key("deleted")]
    reason: Literal["end", "days"]


@dataclass(frozen=True, slots=True)
class Place:
    """Place of an opening in a ledger that has it, or is to have it.

    Attributes
    ----------
    sets : int
        Most lines that the file of opened sets had at an opening.
    session : int
        Of the opening's session among all sessions, from 1.
    sessions : int
        How many sessions have begun.
    noted : bool
        Whether the ledger has the opening.
    """

    sets: int
    session: int
    sessions: int
    noted: bool


Entry = Session | Opening | Discarded | KeyMade | KeyDeleted


_ENTRIES: tuple[type[Entry], ...] = (Session, Opening, Discarded, KeyMade, KeyDeleted)
_DOCUMENTS = {kind: ledger_document(kind) for kind in _ENTRIES}
#: Each kind by the name of its first member; openings begin with their session.
_KINDS: dict[str, type[Entry]] = {
    f'{{"{next(iter(_DOCUMENTS[kind].members))}":': kind for kind in _ENTRIES
}
_OLDER_OPENINGS = replace(
    _DOCUMENTS[Opening],
    members={name: kind for name, kind in _DOCUMENTS[Opening].members.items() if name != "sets"},
)


class Ledger:
    """Sessions and openings under one key, by the rules of this module.

    All methods raise LedgerError if the ledger cannot be trusted.

    Parameters
    ----------
    store : Store
    fingerprint : str
        Of the key that the node has now.
    max_rounds : int or None
        Most totals of one purpose in a session; ``None``: no limit.
    max_sessions : int or None
        Most sessions with an opened total, of all keys; ``None``: no limit.
    """

    def __init__(
        self,
        store: Store,
        fingerprint: str,
        max_rounds: int | None = None,
        max_sessions: int | None = None,
    ) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._max_rounds, self._max_sessions = max_rounds, max_sessions

    def session(self, run_id: int) -> str:
        """Return the session of a Flower run; the first call begins it.

        Parameters
        ----------
        run_id : int
            Chosen by the coordinator's side. Who gives the same twice gets the same session, with
            all that was opened in it.

        Raises
        ------
        ProtocolError
            If the session was begun under another key.
        """
        with self._store.exclusively() as lines:
            found = session_of(lines, run_id)
            if found is None:
                found = Session(str(run_id), secrets.token_hex(16), self._fingerprint)
                lines.append(line_of(found))
        if found.key != self._fingerprint:
            raise ProtocolError("the key file must hold the key with which the run began")
        return found.session

    def latest(self, session: str) -> int:
        """Return the last train round that was opened in a session, 0 if none.

        Raises
        ------
        ProtocolError
            If the session is unknown, closed or of another key.
        """
        with self._store.exclusively() as lines:
            opened = self._opened(lines, session)
            return max((entry.round for entry in opened if entry.purpose == "train"), default=0)

    def place(self, session: str) -> Place:
        """Return the place that a new opening of a session would have; raises as `latest`."""
        with self._store.exclusively() as lines:
            list(self._opened(lines, session))
            return _place(session, list(lines), noted=False)

    def note(
        self,
        request: DecryptRequest,
        follows: Follows | None = None,
        check: Callable[[Place], int] = lambda _: 0,
        after: Mark | None = None,
    ) -> Mark | None:
        """Note that a sum is opened for its round, before it is.

        Returns as well, and notes nothing, if the same was noted before: see the module.

        Parameters
        ----------
        request : DecryptRequest
        follows : pair of Purpose and int, or None
            The sum about a model that must be the last one opened before this one. It is compared
            under the same lock: of two processes only one opens a sum over the same model.
        check : callable
            Is called before the sum is noted, and may refuse it; also if this method refuses it,
            unless the session is unknown. Takes the opening's place; returns how many lines the
            file of opened sets has now.
        after : Mark or None
            The mark that the total before this sum carries.

        Returns
        -------
        Mark or None
            The opening's, always the same for the same request. ``None`` if the same request was
            opened and discarded.

        Raises
        ------
        ProtocolError
            If the session is unknown, closed or of another key, if the round or a later one is
            open already, or if the sum is, if it follows another round, if the ledger has no such
            mark as `after`, or if a new opening exceeds a limit.
        """
        opening = Opening.of(request, sha256(request.encrypted_sum).hexdigest())
        with self._store.exclusively() as lines:
            read = list(lines)
            if opening.sum in discarded_sums(read) and opening in entries(read):
                return None
            opened = list(self._opened(read, opening.session))
            noted = opening in opened
            place = _place(opening.session, read, noted=noted)
            try:
                self._require_due(opening, opened, read, follows, after)
            except ProtocolError:
                with suppress(FlHeError):  # company X has the sum, though it opens none
                    check(place)
                raise
            now = check(place)
            marked = list(marks(read))
            if noted:
                return next(mark for entry, mark in marked if entry == opening)
            opening = replace(opening, sets=now)
            lines.append(line_of(opening))
        return _next(marked[-1][1] if marked else Mark(), opening)

    def permit(
        self,
        request: PermitRequest | SealedPermitRequest,
        follows: Follows | None,
        check: Callable[[Place], int],
        after: Mark | None,
    ) -> None:
        """Refuse a sum that has not been sent as `note` would, and then as `check` does."""
        opening = Opening.of(request, "")
        with self._store.exclusively() as lines:
            read = list(lines)
            opened = list(self._opened(read, opening.session))
            self._require_due(opening, opened, read, follows, after)
            check(_place(opening.session, read, noted=False))

    def discard(self, request: DecryptRequest) -> None:
        """Note that nothing of an opened sum is given out."""
        digest = sha256(request.encrypted_sum).hexdigest()
        with self._store.exclusively() as lines:
            lines.append(line_of(Discarded(digest, request.session, request.purpose)))

    def _require_due(
        self,
        opening: Opening,
        opened: Sequence[Opening],
        lines: Sequence[str | None],
        follows: Follows | None,
        after: Mark | None,
    ) -> None:
        """Check an opening against its session's earlier ones, the limits and the marks."""
        is_new = opening not in opened
        earlier = opened if is_new else opened[: opened.index(opening)]
        if is_new:
            _require_new(opening, opened)
        links = [(one.purpose, one.round) for one in earlier if one.purpose in MODEL_LINKS]
        before = links[-1] if links else NOTHING
        if follows not in (None, before):
            words = (f"{purpose} {number}" for purpose, number in (before, follows or NOTHING))
            raise ProtocolError(
                "a sum must be over the model after {}, the last that was opened, not over the "
                "model after {}".format(*words)
            )
        if is_new and (self._max_rounds, self._max_sessions) != (None, None):
            self._require_room(opening, lines)
        if after not in (None, *(mark for _, mark in marks(lines))):
            raise ProtocolError(
                "the total before a sum must be of company X's ledger as it is now: the ledger was "
                "rolled back, so end all sessions and begin a new run"
            )

    def _opened(self, lines: Iterable[str | None], session: str) -> Iterator[Opening]:
        """Yield a session's openings but those discarded; raises at their end if it is closed."""
        discarded = discarded_sums(lines)
        known = False
        for entry in entries(lines):
            if entry is None:
                # It was of any session begun so far: which round it used up is not known, so no
                # more are opened in them. The next run begins a session behind it.
                known = False
            elif entry.session != session:
                continue
            elif isinstance(entry, Session):
                known = entry.key == self._fingerprint
            elif isinstance(entry, Opening) and entry.sum not in discarded:
                yield entry
        if not known:
            raise unknown_session(session)

    def _require_room(self, opening: Opening, lines: Sequence[str | None]) -> None:
        """Refuse a new opening beyond the limits; discarded sums do not count."""
        discarded = discarded_sums(lines)
        given = (one for one in entries(lines) if isinstance(one, Opening))
        opened = [(one.session, one.purpose) for one in given if one.sum not in discarded]
        sessions = {opening.session, *(session for session, _ in opened)}
        rounds = opened.count((opening.session, opening.purpose))
        if self._max_rounds is not None and rounds >= self._max_rounds:
            raise ProtocolError(
                f"company X opens at most {self._max_rounds} totals of one purpose in a session "
                f"(max-rounds in its node configuration), and {rounds} for {opening.purpose} are "
                "open already: begin a new session, or let its operator raise max-rounds"
            )
        if self._max_sessions is not None and len(sessions) > self._max_sessions:
            raise ProtocolError(
                f"company X opens totals in at most {self._max_sessions} sessions (max-sessions in "
                f"its node configuration), and has opened some in {len(sessions) - 1} others: let "
                "its operator raise max-sessions"
            )


def _place(session: str, lines: Iterable[str | None], *, noted: bool) -> Place:
    begun = [entry.session for entry in entries(lines) if isinstance(entry, Session)]
    return Place(lines_of_sets(lines), begun.index(session) + 1, len(begun), noted)


def lines_of_sets(lines: Iterable[str | None]) -> int:
    """Return the most lines that the file of opened sets had at any opening of a ledger."""
    return max((entry.sets for entry in entries(lines) if isinstance(entry, Opening)), default=0)


def marks(lines: Iterable[str | None]) -> Iterator[tuple[Opening, Mark]]:
    """Yield all openings of a ledger with their marks."""
    mark = Mark()
    for entry in entries(lines):
        if isinstance(entry, Opening):
            mark = _next(mark, entry)
            yield entry, mark


def _next(mark: Mark, opening: Opening) -> Mark:
    return Mark(mark.counter + 1, sha256(mark.head + line_of(opening).encode()).digest())


def discarded_sums(lines: Iterable[str | None]) -> set[str]:
    """Return the digests of all sums of which nothing was given out."""
    return {entry.discarded for entry in entries(lines) if isinstance(entry, Discarded)}


def _require_new(opening: Opening, opened: Sequence[Opening]) -> None:
    """Refuse another sum than one of a round to come."""
    latest = max((one.round for one in opened if one.purpose == opening.purpose), default=0)
    if (them := opening.purpose.rstrip("s")) in ("figure", "table") and latest:
        # Those of two models that hardly differ would say where single patients are.
        raise ProtocolError(f"{them}s are given out once in a session, and they have been")
    if opening.purpose != "figures" and any(one.purpose == "separation" for one in opened):
        # Each answer tells whether there is a patient on one side of a model, and any other total
        # over a model of choice would tell how many.
        raise ProtocolError(
            "a separation is examined once in a session, after its last round of training, and it "
            "has been: figures alone are opened after it"
        )
    if opening.round <= latest:
        raise ProtocolError(
            f"a round is opened once, in order: {opening.purpose} {latest} is open already, "
            f"got {opening.purpose} {opening.round}"
        )
    if any(one.sum == opening.sum for one in opened):
        raise ProtocolError("this very sum is open already, for another round")


def session_of(lines: Iterable[str | None], run_id: int) -> Session | None:
    """Return the session of a Flower run; none behind a line that was cut off."""
    found: Session | None = None
    for entry in entries(lines):
        if entry is None:
            found = None
        elif isinstance(entry, Session) and entry.run == str(run_id):
            found = entry
    return found


def unknown_session(session: str) -> ProtocolError:
    """Return the refusal of a session that company X has not begun under a key that it has."""
    return ProtocolError(
        f"the session must be one that company X opened with its key, got {session!r:.40}"
    )


def entries(lines: Iterable[str | None]) -> Iterator[Entry | None]:
    """Read lines of company X's ledger; None for one that was cut off."""
    return (None if line is None else _entry(line) for line in lines)


def line_of(entry: Entry) -> str:
    """Return the line of an entry."""
    return _DOCUMENTS[type(entry)].dumps(entry)


# A process that answers many requests meets the same lines again with each of them.
@lru_cache(maxsize=10_000)
def _entry(line: str) -> Entry:
    kind = next((kind for start, kind in _KINDS.items() if line.startswith(start)), Opening)
    older = kind is Opening and '"sets":' not in line
    build: Callable[..., Entry] = kind
    return (_OLDER_OPENINGS if older else _DOCUMENTS[kind]).loads(line, build)
