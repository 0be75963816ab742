"""What company X remembers: its sessions, and which rounds and sums it has opened in them.

A round is noted before its sum is decrypted. The same request may come again, since the answer
may have been lost on its way: it is answered again, with the same total. That gives a coordinator
that cheats nothing that it could not have kept: the answer depends on the key and on the request
alone, and the request is the same in its session, purpose, round, claimed contributors and every
byte of the sum. Any other request for the round, or for the sum in another round, is refused.

A sum in which some hospitals had values that did not fit is discarded: nothing of it was given out,
so another sum may be opened in its place when those hospitals have fixed their tables.

An opening's counter is its place among all openings of the ledger, from 1. A ledger that an older
copy has replaced gives counters again, which hospitals notice. An opening also says how many lines
the file of opened sets had, so that company X notices if that file is deleted or replaced.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from fl_he.crypto.encoding.fields import Natural, Whole, form_of
from fl_he.crypto.encoding.strict_json import Document
from fl_he.crypto.errors import KeyFileError
from fl_he.wire.encrypted_sum import DecryptRequest, Purpose
from fl_he.wire.records import ProtocolError
from fl_he.wire.training_messages import MODEL_LINKS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Longest line, its end included; ours have at most 300 characters.
LONGEST_LINE = 1000
#: A sum about a model, by purpose and round.
Follows = tuple[str, int]
#: Stands for the sum before the first one.
NOTHING: Follows = ("round", 0)


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


@dataclass(frozen=True, slots=True)
class _Session:
    """A session was begun, for a Flower run and under a key."""

    run: str
    session: str
    key: str


@dataclass(frozen=True, slots=True)
class _Discarded:
    """A sum was opened, and no number of it given out: some hospitals' values did not fit."""

    discarded: str
    session: str
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class _Opening:
    """A round was opened, with this very sum; lines that say nothing of `sets` are older."""

    session: str
    purpose: Purpose
    round: Natural
    contributors: Natural
    metric_values: Whole
    sum: str
    sets: Whole = field(default=0, compare=False)


def ledger_document(entry: type[DataclassInstance], limit: int = LONGEST_LINE) -> Document:
    """Return the lines of one kind of entry."""
    return Document("a ledger's line", form_of(entry).members, limit, LedgerError)


_SESSIONS, _OPENINGS = ledger_document(_Session), ledger_document(_Opening)
_OLDER_OPENINGS = replace(
    _OPENINGS, members={name: kind for name, kind in _OPENINGS.members.items() if name != "sets"}
)
_DISCARDED, _IS_DISCARDED = ledger_document(_Discarded), '{"discarded":'


@dataclass(frozen=True, slots=True)
class SessionOverview:
    """A session as its ledger tells of it.

    Attributes
    ----------
    session : str
    key : str
        Fingerprint of the key with which the session began.
    last : mapping of Purpose to int
        The last round that was opened and not discarded.
    closed : bool
        Whether a line behind the session's begin was cut off, so that nothing more is opened.
    """

    session: str
    key: str
    last: dict[Purpose, int] = field(default_factory=dict)
    closed: bool = False


def session_overviews(lines: Iterable[str | None]) -> list[SessionOverview]:
    """Return the sessions of a ledger in the order of their begin; LedgerError if it has others."""
    found: dict[str, SessionOverview] = {}
    entries = list(_entries(lines))
    discarded = {entry.discarded for entry in entries if isinstance(entry, _Discarded)}
    for entry in entries:
        if entry is None:
            found = {name: replace(session, closed=True) for name, session in found.items()}
        elif isinstance(entry, _Session):
            found[entry.session] = SessionOverview(entry.session, entry.key)
        elif isinstance(entry, _Opening) and entry.session in found and entry.sum not in discarded:
            last = found[entry.session].last
            last[entry.purpose] = max(entry.round, last.get(entry.purpose, 0))
    return list(found.values())


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
            found: _Session | None = None
            for entry in _entries(lines):
                if entry is None:
                    found = None
                elif isinstance(entry, _Session) and entry.run == str(run_id):
                    found = entry
            if found is None:
                found = _Session(str(run_id), secrets.token_hex(16), self._fingerprint)
                lines.append(_SESSIONS.dumps(found))
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

    def note(
        self,
        request: DecryptRequest,
        follows: Follows | None = None,
        check: Callable[[int], int] = lambda _: 0,
    ) -> int:
        """Note that a sum is opened for its round, before it is.

        Returns as well, and notes nothing, if the same was noted before: see the module.

        Parameters
        ----------
        request : DecryptRequest
        follows : pair of Purpose and int, or None
            The sum about a model that must be the last one opened before this one. It is compared
            under the same lock: of two processes only one opens a sum over the same model.
        check : callable
            Is called before the sum is noted, and may refuse it. Takes the most lines that the file
            of opened sets had at an earlier opening; returns how many it has now.

        Returns
        -------
        int
            The opening's counter, always the same for the same request.

        Raises
        ------
        ProtocolError
            If the session is unknown, closed or of another key, if the round or a later one is
            open already, or if the sum is, if it follows another round, or if a new opening
            exceeds a limit.
        """
        opening = _Opening(
            session=request.session,
            purpose=request.purpose,
            round=request.round,
            contributors=request.contributors,
            metric_values=request.metric_values,
            sum=sha256(request.encrypted_sum).hexdigest(),
        )
        with self._store.exclusively() as lines:
            noted = _is_noted(opening, self._opened(lines, opening.session), follows)
            if not noted and (self._max_rounds, self._max_sessions) != (None, None):
                self._require_room(opening, lines)
            counter, sets = _place(opening, lines)
            now = check(sets)
            if not noted:
                lines.append(_OPENINGS.dumps(replace(opening, sets=now)))
        return counter

    def discard(self, request: DecryptRequest) -> None:
        """Note that nothing of an opened sum is given out."""
        digest = sha256(request.encrypted_sum).hexdigest()
        with self._store.exclusively() as lines:
            lines.append(_DISCARDED.dumps(_Discarded(digest, request.session, request.purpose)))

    def _opened(self, lines: Lines, session: str) -> Iterator[_Opening]:
        """Yield a session's openings but those discarded; raises at their end if it is closed."""
        discarded = _discarded(lines)
        known = False
        for entry in _entries(lines):
            if entry is None:
                # It was of any session begun so far: which round it used up is not known, so no
                # more are opened in them. The next run begins a session behind it.
                known = False
            elif entry.session != session:
                continue
            elif isinstance(entry, _Session):
                known = entry.key == self._fingerprint
            elif isinstance(entry, _Opening) and entry.sum not in discarded:
                yield entry
        if not known:
            raise ProtocolError(
                f"the session must be one that this key holder opened with its key, "
                f"got {session!r:.40}"
            )

    def _require_room(self, opening: _Opening, lines: Lines) -> None:
        """Refuse a new opening beyond the limits; discarded sums do not count."""
        discarded, rounds = _discarded(lines), 0
        sessions = {opening.session}
        for entry in _entries(lines):
            if isinstance(entry, _Opening) and entry.sum not in discarded:
                sessions.add(entry.session)
                kind = entry.session, entry.purpose
                rounds += kind == (opening.session, opening.purpose)
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


def _place(opening: _Opening, lines: Lines) -> tuple[int, int]:
    """Return an opening's counter, and the most lines of the opened sets noted so far."""
    counter = sets = 0
    found: int | None = None
    for entry in _entries(lines):
        if isinstance(entry, _Opening):
            counter, sets = counter + 1, max(sets, entry.sets)
            found = counter if found is None and entry == opening else found
    return counter + 1 if found is None else found, sets


def _discarded(lines: Lines) -> set[str]:
    return {
        _DISCARDED.loads(line, _Discarded).discarded
        for line in lines
        if line is not None and line.startswith(_IS_DISCARDED)
    }


def _is_noted(opening: _Opening, opened: Iterable[_Opening], follows: Follows | None) -> bool:
    """Check an opening against all earlier ones, in constant memory; raises as `Ledger.note`."""
    noted = same_sum = over = False
    latest, before = 0, NOTHING
    for entry in opened:
        if entry.sum == opening.sum:  # first, since it is cheaper than all members
            same_sum, noted = True, noted or entry == opening
        if not noted and entry.purpose in MODEL_LINKS:
            before = entry.purpose, entry.round
        over = over or entry.purpose == "separation"
        if entry.purpose == opening.purpose:
            latest = max(latest, entry.round)
    if not noted:
        _require_new(opening, latest, over=over, same_sum=same_sum)
    if follows not in (None, before):
        words = (f"{purpose} {number}" for purpose, number in (before, follows or NOTHING))
        raise ProtocolError(
            "a sum must be over the model after {}, the last that was opened, got one over the "
            "model after {}".format(*words)
        )
    return noted


def _require_new(opening: _Opening, latest: int, *, over: bool, same_sum: bool) -> None:
    """Refuse another sum than one of a round to come; `latest` is the last of its purpose."""
    if opening.purpose == "figures" and latest:
        # Those of two models that hardly differ would say where single patients are.
        raise ProtocolError("figures are given out once in a session, and they have been")
    if over and opening.purpose != "figures":
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
    if same_sum:
        raise ProtocolError("this very sum is open already, for another round")


def _entries(lines: Iterable[str | None]) -> Iterator[_Session | _Opening | _Discarded | None]:
    return (None if line is None else _entry(line) for line in lines)


# A process that answers many requests meets the same lines again with each of them.
@lru_cache(maxsize=10_000)
def _entry(line: str) -> _Session | _Opening | _Discarded:
    if line.startswith(_IS_DISCARDED):
        return _DISCARDED.loads(line, _Discarded)
    if line.startswith('{"run":'):
        return _SESSIONS.loads(line, _Session)
    openings = _OPENINGS if '"sets":' in line else _OLDER_OPENINGS
    return openings.loads(line, _Opening)
