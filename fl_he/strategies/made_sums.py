"""Encrypted sums one after another: made or resumed, opened, and noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING
from time import perf_counter
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.common.logger import log

from fl_he.crypto.tickets.ticketed_sum import scheme_and_tickets
from fl_he.learning.describing.statistics import Table
from fl_he.learning.regression.disclosure import Figures
from fl_he.strategies.opened_sum import (
    MisfitError,
    OpenedSum,
    RefusedError,
    UnopenedSum,
    open_figures,
    open_sum,
    open_table,
    require_permission,
)
from fl_he.strategies.roster import Roster
from fl_he.strategies.total_chain import TotalChain
from fl_he.strategies.update_sum import FOLD, UpdateSum, segments_of
from fl_he.wire.encrypted_sum import EncryptionRequest, Purpose
from fl_he.wire.selection import Selection
from fl_he.wire.table import table_question_in
from fl_he.wire.training_messages import MODEL_LINKS
from fl_he.wire.update_layout import UpdateLayout

_Result = TypeVar("_Result")
#: Bytes of a sum whose opening is announced: it may take seconds.
_LARGE = 1_000_000


@dataclass(frozen=True, slots=True)
class AskedMessages:
    """Messages whose replies are summed up.

    Attributes
    ----------
    purpose : Purpose
    number : int
        From 1.
    messages : list of Message
        One for each hospital, at least one.
    weighted_by : str
        The metric that weights the mean.
    roster : Roster
    chain : TotalChain or None
        Where hospitals compute the model.
    """

    purpose: Purpose
    number: int
    messages: list[Message]
    weighted_by: str
    roster: Roster
    chain: TotalChain | None

    @property
    def hospitals(self) -> set[str]:
        """Names of the hospitals that are asked."""
        return {self.roster.name(one.metadata.dst_node_id) for one in self.messages}

    @property
    def extra(self) -> RecordDict | None:
        """Records that company X gets with the sum: the last total, or the form of a table."""
        if self.purpose == "table":
            return table_question_in(self.messages[0].content)
        return None if self.chain is None else self.chain.for_company_x(self.roster.session)


class MadeSums:
    """The sums of a run.

    Parameters
    ----------
    topology, segments, selection, scheme, on_summed
        See :class:`~fl_he.strategies.EncryptedSum`.

    Attributes
    ----------
    sums : list of OpenedSum
        All that were opened.
    """

    def __init__(
        self,
        topology: str,
        segments: int | str,
        selection: Selection,
        scheme: str,
        on_summed: Callable[[UnopenedSum], None],
    ) -> None:
        self.sums: list[OpenedSum] = []
        self._topology, self._segments = topology, segments
        self._selection, self._scheme, self._on_summed = selection, scheme, on_summed
        self._unopened: dict[tuple[Purpose, int], UnopenedSum] = {}
        #: Layouts of replies with all metrics that were seen, by the action that they answer.
        self._layouts: dict[str, UpdateLayout] = {}
        self._told: set[str] = set()
        self._last: frozenset[tuple[str, bool]] = frozenset()

    def resume(self, unopened: Iterable[UnopenedSum]) -> None:
        """Have an earlier run's sums opened in the place of new ones; none of any others."""
        self._unopened = {(one.request.purpose, one.request.round): one for one in unopened}

    def mean(self, asked: AskedMessages) -> RecordDict:
        """Return the weighted mean of the replies, in the form of one reply.

        Raises
        ------
        MisfitError
            If at some hospitals the app failed, or a value did not fit.
        ProtocolError
            If there is no mean, or company X does not open the sum.
        """
        roster, sent = asked.roster, asked.messages[0].content.array_records
        chain, extra = asked.chain, asked.extra
        total, mean, remarks = self._opened(asked, lambda due: open_sum(due, roster, sent, extra))
        if chain is not None and asked.purpose in MODEL_LINKS:
            chain.take(total.signed)
        self._note(total, remarks)
        return mean

    def figures(self, asked: AskedMessages) -> Figures:
        """Return what company X says of a sum of counts; raises as `mean`."""
        total, figures = self._opened(
            asked, lambda due: open_figures(due, asked.roster, asked.extra)
        )
        self._note(total)
        return figures

    def table(self, asked: AskedMessages) -> Table:
        """Return what company X says of the cells of a table; raises as `mean`."""
        total, table = self._opened(asked, lambda due: open_table(due, asked.roster, asked.extra))
        self._note(total)
        return table

    def _note(self, total: OpenedSum, remarks: Sequence[str] = ()) -> None:
        """Keep the sum and tell of it; the same remark is told once."""
        self.sums.append(total)
        skipped = f", {len(total.skipped)} skipped" if total.skipped else ""
        log(
            INFO,
            "%s %d: %d hospitals in the sum%s, %.1f s",
            *(total.purpose, total.round, total.contributors, skipped, total.cost.seconds),
        )
        for remark in remarks:
            if remark not in self._told:
                log(WARNING, "%s %d: %s", total.purpose, total.round, remark)
        self._told.update(remarks)

    def _opened(self, asked: AskedMessages, opening: Callable[[UnopenedSum], _Result]) -> _Result:
        """Open the sum that is due; a new one where an earlier run's is discarded or refused.

        Raises
        ------
        MisfitError
            If at some hospitals the app failed, or a value did not fit.
        """
        resumed = (asked.purpose, asked.number) in self._unopened
        try:
            return self._open(asked, opening)
        except (MisfitError, RefusedError):
            if not resumed:
                raise
        return self._open(asked, opening)

    def _open(self, asked: AskedMessages, opening: Callable[[UnopenedSum], _Result]) -> _Result:
        unopened = self._due(asked)
        result = opening(unopened)
        self._last = _contributors(unopened)
        return result

    def _due(self, asked: AskedMessages) -> UnopenedSum:
        """Return the sum that a resumed run has still to open, or else a new one."""
        unopened = self._unopened.pop((asked.purpose, asked.number), None)
        if unopened is None:  # else company X permitted the sum before it was kept
            unopened = self._summed(asked)
            # Company X has noted the set of the last sum that it opened.
            if asked.roster.value_keys and _contributors(unopened) != self._last:
                require_permission(unopened, asked.roster, asked.extra)
            if (size := len(unopened.request.encrypted_sum)) > _LARGE:
                purpose = unopened.request.purpose
                log(INFO, "%s %d: company X opens %.1f MB", purpose, asked.number, size / 1e6)
            self._on_summed(unopened)
            if asked.chain is not None:
                skipped = {one.name for one in unopened.skipped}
                asked.chain.hear(asked.roster.hospitals, asked.hospitals - skipped)
        return unopened

    def _summed(self, asked: AskedMessages) -> UnopenedSum:
        start, action = perf_counter(), asked.messages[0].metadata.message_type
        known, roster = self._layouts.get(action), asked.roster
        request = EncryptionRequest(
            public_key=roster.public_key.to_json(),
            packing=roster.packing.to_json(),
            session=roster.session,
            round=asked.number,
            weighted_by=asked.weighted_by,
            layout=known.to_json() if known is not None and known.optional else "",
            run_key=roster.run_key,
            scheme=roster.scheme(self._scheme),
        )
        hospitals = len(asked.messages)
        segments = hospitals if self._topology == FOLD else segments_of(self._segments, hospitals)
        running = UpdateSum(request, roster, roster.packing, self._selection)
        running.collect(asked.messages, segments)
        unopened = running.finished(asked.purpose, start)
        self._layouts[action] = unopened.layout.with_metrics(running.metrics.values())
        return unopened


def _contributors(unopened: UnopenedSum) -> frozenset[tuple[str, bool]]:
    """Return the names on a sum's tickets, each with whether it may be singled out."""
    _, tickets = scheme_and_tickets(unopened.request.encrypted_sum)
    return frozenset((ticket.hospital, ticket.alone) for ticket in tickets)
