"""Sets of hospitals whose totals company X has opened, and who allows being singled out.

They are kept over sessions, purposes and keys: whoever has an old total still has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fl_he.clients.ledger import Lines, Store, ledger_document
from fl_he.clients.set_rule import (
    LONGEST_SET_LINE,
    AloneAllowed,
    Epoch,
    OpenedSet,
    SetHistory,
    SetRule,
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


class OpenedSets:
    """The sets of a company X.

    Parameters
    ----------
    store : Store
        Of lines up to `LONGEST_SET_LINE`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def require(self, tickets: Iterable[Ticket], min_contributors: int) -> None:
        """Note the set of a total's contributors before the total is opened, or refuse it.

        Parameters
        ----------
        tickets : iterable of Ticket
            The contributors', whose signatures were verified.
        min_contributors : int

        Raises
        ------
        ProtocolError
            If the total would expose hospitals that have not allowed it; see `set_rule`.
        LedgerError
            If the file cannot be trusted.
        """
        wishes = {ticket.hospital: ticket.alone for ticket in tickets}
        with self._store.exclusively() as lines:
            entries = list(_entries(lines))
            history = SetHistory.of(one for one in entries if not isinstance(one, AloneAllowed))
            before = _allowed(entries)
            alone = before.difference(wishes) | {name for name, wish in wishes.items() if wish}
            if alone != before:
                _append(lines, AloneAllowed(alone))
            verdict = SetRule(min_contributors, alone).judge(history, frozenset(wishes))
            if verdict.exposed:
                raise ProtocolError(str(verdict))
            if verdict.changes_classes:
                _append(lines, OpenedSet(verdict.hospitals))


def _entries(lines: Lines) -> Iterator[_Entry]:
    """Yield the entries; a line that was cut off was of a total that has not been opened."""
    for line in lines:
        if line is not None:
            kind: Callable[..., _Entry] = OpenedSet
            for start, other in _KINDS.items():
                kind = other if line.startswith(start) else kind
            yield _DOCUMENTS[kind].loads(line, kind)


def _allowed(entries: Iterable[_Entry]) -> frozenset[str]:
    found = frozenset[str]()
    for entry in entries:
        if isinstance(entry, AloneAllowed):
            found = entry.hospitals
    return found


def _append(lines: Lines, entry: _Entry) -> None:
    lines.append(_DOCUMENTS[type(entry)].dumps(entry))
