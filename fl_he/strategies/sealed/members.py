"""Who takes part in a sealed chain, and how hospitals and company X meet through the coordinator.

A hospital joins with a challenge, which company X answers with its session in an envelope. The
coordinator carries both, and keeps in mind how far each hospital is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flwr.app import Message, RecordDict

from fl_he.strategies.exchange import exchange
from fl_he.strategies.roster import Roster
from fl_he.strategies.sealed.progress import SealedProgress
from fl_he.strategies.skipping import Skipped, read_reply
from fl_he.wire.encrypted_sum import printable
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.sealed_messages import (
    JOIN,
    SESSION,
    JoinReply,
    News,
    SealedTotal,
    SessionReply,
    SessionRequest,
)


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


class SealedMembers:
    """The hospitals that are connected and have met company X.

    Parameters
    ----------
    roster : Roster

    Notes
    -----
    ``present`` holds them by node; one that is taken out of it has to meet company X anew.
    ``company_x`` is the key holder's name in the manifest, once they have met.
    """

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.present: dict[int, Member] = {}
        self.company_x = self._manifest = ""

    def meet(self, progress: SealedProgress) -> tuple[SealedProgress, list[Skipped]]:
        """Have new hospitals challenge company X.

        Returns
        -------
        SealedProgress
            With company X's session.
        list of Skipped
            Those that take no part.
        """
        connected = self.roster.hospitals
        self.present = {n: member for n, member in self.present.items() if n in connected}
        new = [Message(RecordDict(), node, JOIN) for node in connected if node not in self.present]
        joining: dict[int, JoinReply] = {}
        failed: list[Skipped] = []
        for answer in exchange(self.roster.grid, new, self.roster.waiting.hop_timeout):
            node_id = answer.metadata.src_node_id
            try:
                joining[node_id] = read_reply(answer, JoinReply)
            except ProtocolError as error:
                failed.append(Skipped(self.roster.name(node_id), str(error)))
        if self._manifest:
            # Company X would refuse to answer anybody as long as one of them is a stranger to it.
            joining = self._fitting(joining, self._manifest, progress, failed)
        if not joining:
            return progress, failed
        request = SessionRequest(
            progress.session,
            {reply.name: reply.challenge for reply in joining.values() if reply.challenge},
        )
        with refused_as("the key holder has stated no session:"):
            stated = read_reply(
                self.roster.ask_company_x(SESSION, request.to_content()), SessionReply
            )
        if progress.session not in ("", stated.session):
            raise ProtocolError("the key holder must keep to the session in which the run began")
        self.company_x, self._manifest = stated.name, stated.manifest
        progress = replace(progress, session=stated.session)
        for node_id, reply in self._fitting(joining, stated.manifest, progress, failed).items():
            self.present[node_id] = Member(
                node_id, reply.name, reply.after, stated.statements.get(reply.name)
            )
        return progress, failed

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
