"""Who takes part in a sealed chain, and how hospitals and company X meet through the coordinator.

A hospital joins with a challenge, which company X answers with its session in an envelope. The
coordinator carries both, and keeps in mind how far each hospital is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_he.strategies.exchange import Skipped, ask_until_answered, error_reason, exchange
from fl_he.strategies.roster import Roster, call_again, call_roll, gather
from fl_he.strategies.sealed.progress import SealedProgress
from fl_he.wire.encrypted_sum import printable
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import (
    JOIN,
    SESSION,
    JoinReply,
    News,
    SealedTotal,
    SessionReply,
    SessionRequest,
)

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Member:
    """A hospital, and what the coordinator believes it knows.

    Attributes
    ----------
    node_id : int
    name : str
        In the manifest.
    after : int
        The last round whose total it has, 0 if none.
    statement : bytes or None
        Company X's, of the session, for a hospital that has not heard it yet.
    """

    node_id: int
    name: str
    after: int
    statement: bytes | None

    def news(self, progress: SealedProgress) -> News:
        """Return what it lacks."""
        lacking = tuple(
            SealedTotal(one.number, one.contributors, one.totals[self.name])
            for one in progress.opened
            if one.number > self.after
        )
        return News(progress.session, self.statement, lacking)

    def has_heard(self, news: News) -> None:
        """Note that it has answered a message with these news."""
        self.statement = None
        if news.totals:
            self.after = news.totals[-1].round


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many nodes a sealed chain waits for, and how long, in seconds."""

    hospitals: int
    min_contributors: int
    hop_timeout: float
    key_holder_timeout: float
    node_timeout: float


class SealedMembers:
    """The hospitals that are connected and have met company X.

    Parameters
    ----------
    waiting : Waiting

    Notes
    -----
    ``present`` holds them by node; one that is taken out of it has to meet company X anew.
    ``company_x`` is the key holder's name in the manifest, once they have met.
    """

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.present: dict[int, Member] = {}
        self.company_x = self._manifest = ""
        self._roster: Roster | None = None

    @property
    def roster(self) -> Roster:
        """The nodes; raises ProtocolError before the roll was called."""
        if self._roster is None:
            raise ProtocolError("the roll must be called first: it is when the run starts")
        return self._roster

    def call_roll(self, grid: Grid, progress: SealedProgress) -> SealedProgress:
        """Have all hospitals of the start meet company X; later calls do nothing.

        Returns
        -------
        SealedProgress
            With company X's session.

        Raises
        ------
        ProtocolError
            If one of them cannot take part.
        """
        if self._roster is not None:
            return progress
        waiting = self.waiting
        self._roster = call_roll(grid, waiting.hospitals, waiting.node_timeout, waiting.hop_timeout)
        progress, failed = self._meet(grid, progress)
        for skipped in failed:
            raise ProtocolError(f"{skipped.name} takes part in no sealed chain: {skipped.reason}")
        return progress

    def gather(self, grid: Grid, progress: SealedProgress) -> SealedProgress:
        """See who is connected, and meet those of whom it is not known where they stand."""
        progress = self.call_roll(grid, progress)
        waiting = self.waiting
        self._roster = gather(
            self.roster, grid, waiting.min_contributors, waiting.node_timeout, waiting.hop_timeout
        )
        progress, failed = self._meet(grid, progress)
        for skipped in failed:
            _logger.warning("%s takes no part yet: %s", skipped.name, skipped.reason)
        return progress

    def ask_company_x(self, grid: Grid, action: str, content: RecordDict) -> Message:
        """Return company X's answer, asking it until it gives one."""

        def message() -> Message:
            if self.roster.key_holder not in grid.get_node_ids():
                # Without node authentication it comes back as a new node.
                self._roster = call_again(self.roster, grid, self.waiting.hop_timeout)
            return Message(content, self.roster.key_holder, action)

        return ask_until_answered(grid, message, self.waiting.key_holder_timeout)

    def _meet(self, grid: Grid, progress: SealedProgress) -> tuple[SealedProgress, list[Skipped]]:
        """Have new hospitals challenge company X; return also those that take no part."""
        connected = self.roster.hospitals
        self.present = {n: member for n, member in self.present.items() if n in connected}
        new = [node_id for node_id in connected if node_id not in self.present]
        if not new:
            return progress, []
        joining, failed = self._joining(grid, new)
        if self._manifest:
            # Company X would refuse to answer anybody as long as one of them is a stranger to it.
            joining = self._fitting(joining, self._manifest, progress, failed)
        if not joining:
            return progress, failed
        request = SessionRequest(
            progress.session,
            {reply.name: reply.challenge for reply in joining.values() if reply.challenge},
        )
        answer = self.ask_company_x(grid, SESSION, request.to_content())
        if answer.has_error():
            raise ProtocolError(f"the key holder has stated no session: {error_reason(answer)}")
        stated = SessionReply.from_content(answer.content)
        if progress.session not in ("", stated.session):
            raise ProtocolError("the key holder must keep to the session in which the run began")
        self.company_x, self._manifest = stated.name, stated.manifest
        progress = replace(progress, session=stated.session)
        for node_id, reply in self._fitting(joining, stated.manifest, progress, failed).items():
            self.present[node_id] = Member(
                node_id, reply.name, reply.after, stated.statements.get(reply.name)
            )
        return progress, failed

    def _joining(self, grid: Grid, nodes: list[int]) -> tuple[dict[int, JoinReply], list[Skipped]]:
        joining: dict[int, JoinReply] = {}
        failed: list[Skipped] = []
        messages = [Message(RecordDict(), node_id, JOIN) for node_id in nodes]
        for reply in exchange(grid, messages, self.waiting.hop_timeout):
            node_id = reply.metadata.src_node_id
            if reply.has_error():
                failed.append(Skipped(self.roster.name(node_id), error_reason(reply)))
                continue
            try:
                joining[node_id] = JoinReply.from_content(reply.content)
            except ProtocolError as error:
                failed.append(Skipped(self.roster.name(node_id), str(error)))
        return joining, failed

    def _fitting(
        self,
        joining: dict[int, JoinReply],
        manifest: str,
        progress: SealedProgress,
        failed: list[Skipped],
    ) -> dict[int, JoinReply]:
        """Return those that may take part; add the others, and why, to those that failed."""
        fitting: dict[int, JoinReply] = {}
        names = {member.name for member in self.present.values()}
        for node_id, reply in joining.items():
            if (reason := _misfit(reply, manifest, progress, names)) is None:
                fitting[node_id] = reply
                names.add(reply.name)
            else:
                failed.append(Skipped(printable(reply.name), reason))
        return fitting


def _misfit(
    reply: JoinReply, manifest: str, progress: SealedProgress, names: set[str]
) -> str | None:
    if reply.manifest != manifest:
        return f"its manifest must be company X's, {manifest}, got {printable(reply.manifest)}"
    if not reply.challenge and reply.session != progress.session:
        return "it takes part in another session"
    if reply.name in names:
        return "there is a node of that name already"
    lacking = (one for one in progress.opened if one.number > reply.after)
    if any(reply.name not in one.totals for one in lacking):
        return "company X has sealed no totals for it: it was not in the manifest then"
    return None
