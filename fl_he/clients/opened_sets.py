"""Sets of hospitals whose totals company X has opened, and who allows being singled out.

They are kept over sessions, purposes and keys: whoever has an old total still has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fl_he.clients.ledger import LedgerError, Lines, Store, ledger_document
from fl_he.clients.set_rule import (
    LONGEST_SET_LINE,
    AloneAllowed,
    Epoch,
    Hospitals,
    OpenedSet,
    SetHistory,
    SetRule,
    Verdict,
)
from fl_he.crypto.encoding.strict_json import Document
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.records import ProtocolError

_Entry = OpenedSet | Epoch | AloneAllowed
_KINDS: dict[str, type[_Entry]] = {
    '{"opened":': OpenedSet,
    '{"epoch":': Epoch,
    '{"alone":': AloneAllowed,
}
_DOCUMENTS: dict[Callable[..., _Entry], Document] = {
    kind: ledger_document(kind, LONGEST_SET_LINE) for kind in _KINDS.values()
}


@dataclass(frozen=True, slots=True)
class KeptSets:
    """All that the file tells.

    Attributes
    ----------
    entries : tuple of OpenedSet or Epoch
        In their order.
    alone : frozenset of str
        Hospitals that allow being singled out.
    """

    entries: tuple[OpenedSet | Epoch, ...] = ()
    alone: Hospitals = frozenset()

    @classmethod
    def of(cls, lines: Lines) -> KeptSets:
        """Read the lines; one that was cut off was of a total that has not been opened."""
        entries: list[OpenedSet | Epoch] = []
        alone: Hospitals = frozenset()
        for line in lines:
            entry = None if line is None else _entry(line)
            if isinstance(entry, AloneAllowed):
                alone = entry.hospitals
            elif entry is not None:
                entries.append(entry)
        return cls(tuple(entries), alone)

    @property
    def history(self) -> SetHistory:
        """The history by which the set rule judges."""
        return SetHistory.of(self.entries)

    def judge(self, hospitals: Hospitals, min_contributors: int) -> Verdict:
        """Tell whether the total of a set may be opened, and whom it would expose."""
        return SetRule(min_contributors, self.alone).judge(self.history, hospitals)


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

    def read(self) -> KeptSets:
        """Return all that was noted."""
        with self._store.exclusively() as lines:
            return KeptSets.of(lines)

    def require(self, tickets: Iterable[Ticket], min_contributors: int, earlier: int = 0) -> int:
        """Note the set of a total's contributors before the total is opened, or refuse it.

        Parameters
        ----------
        tickets : iterable of Ticket
            The contributors', whose signatures were verified.
        min_contributors : int
        earlier : int
            Most lines that the file had when a total was opened.

        Returns
        -------
        int
            How many lines the file has now.

        Raises
        ------
        ProtocolError
            If the total would expose hospitals that have not allowed it; see `set_rule`.
        LedgerError
            If the file has fewer lines than `earlier`.
        """
        wishes = {ticket.hospital: ticket.alone for ticket in tickets}
        with self._store.exclusively() as lines:
            count = sum(1 for _ in lines)
            if count < earlier:
                raise LedgerError(
                    f"the file of opened sets has {count} lines, and had {earlier} when a total "
                    "was opened: it was deleted or an older copy put in its place, so no total is "
                    "opened; put the newest copy back"
                )
            before = KeptSets.of(lines)
            wish = {name for name, allows in wishes.items() if allows}
            kept = replace(before, alone=before.alone.difference(wishes) | wish)
            if kept != before:
                _append(lines, AloneAllowed(kept.alone))
            verdict = kept.judge(frozenset(wishes), min_contributors)
            if verdict.exposed:
                raise ProtocolError(str(verdict))
            if verdict.changes_classes:
                _append(lines, OpenedSet(verdict.hospitals))
            return sum(1 for _ in lines)

    def begin_epoch(self, verdict: Verdict) -> None:
        """Note the operator's decision to open a set although it exposes hospitals.

        Parameters
        ----------
        verdict : Verdict
            Of the set, as the operator has read it.

        Raises
        ------
        ProtocolError
            If the set exposes nobody, or other hospitals by now.
        """
        if not verdict.exposed:
            raise ProtocolError(f"{verdict}: no epoch is needed, and none was begun")
        with self._store.exclusively() as lines:
            if KeptSets.of(lines).judge(verdict.hospitals, verdict.min_contributors) != verdict:
                raise ProtocolError(
                    "the opened sets have changed since they were shown, so no epoch was begun: "
                    "look at them again"
                )
            _append(lines, Epoch(verdict.hospitals, verdict.exposed))


def _entry(line: str) -> _Entry:
    kind: Callable[..., _Entry] = OpenedSet
    for start, other in _KINDS.items():
        kind = other if line.startswith(start) else kind
    return _DOCUMENTS[kind].loads(line, kind)


def _append(lines: Lines, entry: _Entry) -> None:
    lines.append(_DOCUMENTS[type(entry)].dumps(entry))
