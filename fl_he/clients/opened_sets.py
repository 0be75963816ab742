"""Sets of hospitals whose sums company X may have, and who allows being singled out.

They are kept over sessions, purposes and keys: whoever has an old total still has it.

A permission counts only from a ticket of a session that began after all of the hospital's tickets
without a permission were noted. So a coordinator that holds back tickets, or sends old ones again,
does not undo a withdrawal. A ticket without a permission is noted in any sum, a permission only in
a sum that may be opened. Of a request that was answered before, nothing is noted.

A set is noted when company X permits that its sum is sent, and at the latest when it has the sum:
from then on another set is judged as if that total had been opened.

Figures are opened only of the set of their session's last training total that was given out: those
of two sets over one model would differ by a few patients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from fl_he.clients.known_identities import Enrolled, KnownIdentities
from fl_he.clients.ledger import Place
from fl_he.clients.set_rule import (
    LONGEST_SET_LINE,
    AloneAllowed,
    Epoch,
    Hospitals,
    Judged,
    NotAllowed,
    OpenedSet,
    SetHistory,
    SetRule,
    TrainedSet,
    Verdict,
)
from fl_he.clients.stores import LedgerError, Lines, Store, ledger_document
from fl_he.crypto.encoding.strict_json import Document
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import ProtocolError

_Entry = OpenedSet | TrainedSet | Enrolled | Epoch | AloneAllowed | NotAllowed
_KINDS: dict[str, type[_Entry]] = {
    '{"opened":': OpenedSet,
    '{"trained":': TrainedSet,
    '{"enrolled":': Enrolled,
    '{"epoch":': Epoch,
    '{"alone":': AloneAllowed,
    '{"not_alone":': NotAllowed,
}
_DOCUMENTS: dict[Callable[..., _Entry], Document] = {
    kind: ledger_document(kind, LONGEST_SET_LINE) for kind in _KINDS.values()
}
_OLDER_SETS = replace(
    _DOCUMENTS[OpenedSet], members={"opened": _DOCUMENTS[OpenedSet].members["opened"]}
)


@dataclass(frozen=True, slots=True)
class KeptSets:
    """All that the file tells.

    Attributes
    ----------
    entries : tuple of OpenedSet, Epoch or NotAllowed
        Those by which the set rule judges, in their order.
    alone : frozenset of str
        Hospitals that allow being singled out, also if that does not count any more.
    last : mapping of str to int
        Last session that had begun when a hospital's latest ticket without a permission was noted.
    trained : mapping of int to frozenset of str
        The set of each session's last training total that was given out.
    identities : KnownIdentities
    """

    entries: tuple[Judged, ...] = ()
    alone: Hospitals = frozenset()
    last: Mapping[str, int] = field(default_factory=dict)
    trained: Mapping[int, Hospitals] = field(default_factory=dict)
    identities: KnownIdentities = field(default_factory=KnownIdentities)

    @classmethod
    def of(cls, lines: Lines) -> KeptSets:
        """Read the lines; one that was cut off was of a total that has not been opened."""
        entries: list[Judged] = []
        alone: Hospitals = frozenset()
        last: dict[str, int] = {}
        trained: dict[int, Hospitals] = {}
        identities = KnownIdentities()
        older = True  # as long as all sets are of earlier versions
        for line in lines:
            entry = None if line is None else _entry(line)
            if isinstance(entry, Enrolled | OpenedSet | Epoch):
                identities = identities.after(entry)
            if isinstance(entry, AloneAllowed):
                alone = entry.hospitals
            elif isinstance(entry, NotAllowed):
                alone -= entry.hospitals
                last |= {name: max(last.get(name, 0), entry.sessions) for name in entry.hospitals}
                # Earlier versions did not note a repeated set that lacked a permission.
                entries += [entry] if older and entries else []
            elif isinstance(entry, OpenedSet):
                older = older and not entry.least
                entries.append(entry if entry.least else replace(entry, alone=alone))
            elif isinstance(entry, TrainedSet):
                trained[entry.session] = entry.hospitals
            elif isinstance(entry, Epoch):
                entries.append(entry)
        return cls(tuple(entries), alone, last, trained, identities)

    @property
    def counting(self) -> Hospitals:
        """Hospitals whose permission counts."""
        return self.alone - self.history.bound

    @property
    def history(self) -> SetHistory:
        """The history by which the set rule judges."""
        return SetHistory.of(self.entries)

    def judge(self, hospitals: Hospitals, min_contributors: int) -> Verdict:
        """Tell whether the total of a set may be opened, and whom it would expose."""
        verdict = SetRule(min_contributors, self.alone).judge(self.history, hospitals)
        if doubted := self.identities.doubted:
            return replace(verdict, exposed=self.identities.everyone | hospitals, doubted=doubted)
        return verdict


class OpenedSets:
    """The sets of a company X.

    Parameters
    ----------
    store : Store
        Of lines up to `LONGEST_SET_LINE`.

    Raises
    ------
    LedgerError
        By all methods, if the file cannot be trusted.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, least: int) -> KeptSets:
        """Return all that was noted, in at least this many lines."""
        with self._store.exclusively() as lines:
            _require_lines(lines, least)
            return KeptSets.of(lines)

    def require(
        self,
        tickets: Iterable[Ticket],
        min_contributors: int,
        place: Place,
        purpose: Purpose,
        identities: Mapping[str, str],
    ) -> int:
        """Note the set of a total's contributors before the sum is sent or opened, or refuse it.

        Parameters
        ----------
        tickets : iterable of Ticket
            The contributors', whose signatures were verified.
        min_contributors : int
        place : Place
            Of the total's opening. If the ledger has it, nothing is noted and nothing judged.
        purpose : Purpose
            The total's.
        identities : mapping of str to str
            Fingerprints of the manifest's hospitals, by name.

        Returns
        -------
        int
            How many lines the file has now.

        Raises
        ------
        ProtocolError
            If the total would expose hospitals that have not allowed it; see `set_rule`. If figures
            are of another set than the session's last training total.
        LedgerError
            If the file has fewer lines than at an earlier opening.
        """
        wishes = {ticket.hospital: ticket.alone for ticket in tickets}
        with self._store.exclusively() as lines:
            count = _require_lines(lines, place.sets)
            if place.noted:
                return count
            before = _enrolled(lines, identities)
            last = {name: before.last.get(name, 0) for name in wishes}
            no = frozenset(name for name, allows in wishes.items() if not allows)
            if new := {n for n in no if n in before.alone or last[n] < place.sessions}:
                _append(lines, NotAllowed(frozenset(new), place.sessions))
            allowed = {name for name in wishes.keys() - no if last[name] < place.session}
            kept = replace(before, alone=before.alone - no | allowed)
            verdict = kept.judge(frozenset(wishes), min_contributors)
            if verdict.exposed:
                raise ProtocolError(str(verdict))
            trained = before.trained.get(place.session)
            if purpose == "figures" and verdict.hospitals != trained:
                raise ProtocolError(
                    "figures must be of the hospitals of the session's last training total: ask "
                    "exactly these for their counts"
                )
            if not kept.alone <= before.alone:
                _append(lines, AloneAllowed(kept.alone))
            if verdict.opened is not None:
                _append(lines, verdict.opened)
            return sum(1 for _ in lines)

    def note_trained(self, hospitals: Hospitals, session: int) -> None:
        """Note the set of a session's last training total, by the session's place."""
        with self._store.exclusively() as lines:
            if KeptSets.of(lines).trained.get(session) != hospitals:
                _append(lines, TrainedSet(hospitals, session))

    def require_names(
        self,
        tickets: Collection[Ticket],
        min_contributors: int,
        place: Place,
        purpose: Purpose,
        identities: Mapping[str, str],
    ) -> int:
        """Refuse a set as `require` does, by tickets that nobody has signed.

        The set is noted if it may be opened without their permissions, and as if all hospitals had
        allowed being singled out: `require` notes the contrary by their own tickets.
        """
        with self._store.exclusively() as lines:
            copy = _Copy([*lines])
            OpenedSets(copy).require(tickets, min_contributors, place, purpose, identities)
            names = frozenset(ticket.hospital for ticket in tickets)
            verdict = _enrolled(lines, identities).judge(names, min_contributors)
            if verdict.opened is not None and not verdict.exposed:
                _append(lines, replace(verdict.opened, alone=names))
            return sum(1 for _ in lines)

    def begin_epoch(self, verdict: Verdict, least: int) -> None:
        """Note the operator's decision to open a set although it exposes hospitals.

        Parameters
        ----------
        verdict : Verdict
            Of the set, as the operator has read it.
        least : int
            Most lines that the file had at an opening.

        Raises
        ------
        ProtocolError
            If the set exposes nobody, or other hospitals by now.
        LedgerError
            If the file has fewer lines.
        """
        if not verdict.exposed:
            raise ProtocolError(f"{verdict}: no epoch is needed, and none was begun")
        with self._store.exclusively() as lines:
            _require_lines(lines, least)
            if KeptSets.of(lines).judge(verdict.hospitals, verdict.min_contributors) != verdict:
                raise ProtocolError(
                    "the opened sets have changed since they were shown, so no epoch was begun: "
                    "look at them again"
                )
            _append(lines, Epoch(verdict.hospitals, verdict.exposed))


@dataclass(frozen=True, slots=True)
class _Copy:
    """Lines that nobody keeps."""

    lines: list[str | None]

    def is_new(self) -> bool:
        """See Store."""
        return not self.lines

    def exclusively(self) -> AbstractContextManager[list[str | None]]:
        """See Store."""
        return nullcontext(self.lines)


def _enrolled(lines: Lines, identities: Mapping[str, str]) -> KeptSets:
    """Return all that was noted, and that these are the manifest's identities by now."""
    kept = KeptSets.of(lines)
    if kept.identities.enrolled == identities:
        return kept
    _append(lines, now := Enrolled(dict(sorted(identities.items()))))
    return replace(kept, identities=kept.identities.after(now))


def _require_lines(lines: Lines, least: int) -> int:
    """Return the number of lines; raises LedgerError if some were lost."""
    count = sum(1 for _ in lines)
    if count < least:
        raise LedgerError(
            f"the file of opened sets has {count} lines, and had {least} when a total was opened: "
            "it was deleted or an older copy put in its place, so no total is opened; put the "
            "newest copy back"
        )
    return count


def _entry(line: str) -> _Entry:
    kind = next((kind for start, kind in _KINDS.items() if line.startswith(start)), OpenedSet)
    older = kind is OpenedSet and '"least":' not in line
    build: Callable[..., _Entry] = kind
    return (_OLDER_SETS if older else _DOCUMENTS[kind]).loads(line, build)


def _append(lines: Lines, entry: _Entry) -> None:
    lines.append(_DOCUMENTS[type(entry)].dumps(entry))
