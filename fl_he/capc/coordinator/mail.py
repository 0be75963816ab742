"""Parts on their way between the nodes of one batch, by the protocol's table."""

from __future__ import annotations

from collections.abc import Mapping

from fl_he.capc.protocol import OPENING, TABLE, TAKER, CapcRole, CapcStep, Places, Row
from fl_he.wire.records import ProtocolError

_Parts = Mapping[str, bytes]


class Mail:
    """Parts on their way between the nodes of one batch.

    A part waits for the step that takes it. The steps come in the order of the table, so answering
    parties whose models have fewer layers wait for those with more.

    Parameters
    ----------
    places : Places
    in_turn : bool
        Whether the votes go from party to party; else the coordinator sums them.
    """

    def __init__(self, places: Places, *, in_turn: bool) -> None:
        self._places = places
        self._in_turn = in_turn
        self._waiting: dict[CapcStep, dict[str, dict[str, bytes]]] = {}
        owners = {CapcRole.QUERYING: places.querying, CapcRole.GUARDIAN: places.guardian}
        for row in OPENING:
            self._waiting[row.step] = {owners[row.role]: {}}

    def due(self) -> tuple[Row, dict[str, dict[str, bytes]]] | None:
        """Return the next step, and what each node takes of it; None at the end of the batch."""
        for row in TABLE:
            if waiting := self._waiting.pop(row.step, None):
                nodes = (self._places.querying, *self._places.answering, self._places.guardian)
                taken = {name: waiting.pop(name) for name in nodes if name in waiting}
                if row.in_turn and self._in_turn:
                    later = list(taken)[1:]
                    self._waiting[row.step] = {name: taken.pop(name) for name in later}
                return row, taken
        return None

    def post(self, row: Row, name: str, given: _Parts, taken: _Parts) -> None:
        """Put what a node gave in reply to what it took where it is taken next.

        Raises
        ------
        ProtocolError
            If the step gives something else.
        """
        wanted = set(taken or self._places.answering) if row.by_party else set(given)
        if wanted != set(given) or (row.gives and not given):
            raise ProtocolError(f"{name} replied to {row.step} with the parts {sorted(given)}")
        for key, part, peer in self._places.handed(row, given, name, incoming=False):
            taker = TAKER[part]
            box = self._waiting.setdefault(taker.step, {}).setdefault(peer, {})
            box[name if taker.by_party else part.name] = given[key]
