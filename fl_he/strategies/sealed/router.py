"""The coordinator's part in a sealed chain: it routes envelopes that it cannot read.

It learns who takes part, in what order, how long everybody took and how much they sent; neither
ciphertexts nor totals nor the model. So there is nothing for a strategy to aggregate, and this is
none: each hospital takes the step itself.

A hospital joins with a challenge, which company X answers with its session in an envelope. The
coordinator carries both, and keeps in mind how far each hospital is.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fl_he.config.groups import AUTO
from fl_he.strategies.exchange import save_model
from fl_he.strategies.opened_sum import Cost, MisfitError, ask_permission
from fl_he.strategies.roster import Roster
from fl_he.strategies.sealed.progress import OpenedRound, SealedProgress, SealedSum
from fl_he.strategies.skipping import Skipped, nobody_answered, read_reply
from fl_he.wire.encrypted_sum import MisfitReply, content_bytes, printable
from fl_he.wire.model import model_message_content
from fl_he.wire.permission import PERMIT_SEALED, SealedPermitRequest
from fl_he.wire.records import CONFIG, ProtocolError, refused_as
from fl_he.wire.sealed_messages import (
    JOIN,
    OPEN,
    RESEAL,
    SESSION,
    Hop,
    JoinReply,
    JoinRequest,
    News,
    OpenReply,
    OpenRequest,
    ResealRequest,
    SealedReply,
    SealedTotal,
    SessionReply,
    SessionRequest,
)

#: Most attempts at a round whose running sum is lost with a hospital that fails.
_ATTEMPTS = 5

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
    contributed : int
        The last round to which it had contributed when it joined.
    statement : bytes or None
        Company X's, of the session, for a hospital that has not heard it yet.
    alone : bool
        Whether it allows totals that single it out.
    """

    node_id: int
    name: str
    after: int
    contributed: int
    statement: bytes | None
    alone: bool = False

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
    ``company_x`` is company X's name in the manifest, once they have met.
    """

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.present: dict[int, Member] = {}
        self.company_x = self._manifest = ""
        self.value_keys: Mapping[str, bytes] = {}

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
        request = JoinRequest(progress.session).to_content()
        new = [Message(request, node, JOIN) for node in connected if node not in self.present]
        joining: dict[int, JoinReply] = {}
        failed: list[Skipped] = []
        for answer in self.roster.ask(new, len(connected), len(self.present)):
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
        challenges = {one.name: one.challenge for one in joining.values() if one.challenge}
        request = SessionRequest(progress.session, challenges).to_content()
        with refused_as("company X has stated no session:"):
            stated = read_reply(self.roster.ask_company_x(SESSION, request), SessionReply)
        if progress.session not in ("", stated.session):
            raise ProtocolError("company X must keep to the session in which the run began")
        self.company_x, self._manifest = stated.name, stated.manifest
        self.value_keys = stated.value_keys
        progress = replace(progress, session=stated.session)
        for node_id, reply in self._fitting(joining, stated.manifest, progress, failed).items():
            statement = stated.statements.get(reply.name)
            self.present[node_id] = Member(
                node_id, reply.name, reply.after, reply.contributed, statement, reply.alone
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


@dataclass(slots=True)
class _Work:
    """A sum in the making."""

    contributors: tuple[str, ...] = ()
    last: Member | None = None
    skipped: set[str] = field(default_factory=set)
    envelope: bytes | None = None
    update_bytes: int = 0
    cost: Cost = field(default_factory=Cost)


class SealedChain:
    """Run rounds of a sealed chain.

    The order of the hospitals is drawn anew for each round, so that nobody has the same neighbours
    all the time.

    Parameters
    ----------
    roster : Roster
    config : ConfigRecord
        The train config, public and the same for the whole run.
    progress : SealedProgress
        State from which the chain continues: hospitals begin with the initial model and are sent
        all totals so far.
    scheme : {"auto", "paillier", "masks"}
        Encryption of the updates; see `fl_he.strategies.EncryptedSum`.
    arrays : ArrayRecord or None
        The initial model, where the hospitals' app does not make it itself.
    on_summed : callable
        Is handed the :class:`SealedProgress` before company X is asked to open a sum, so that a run
        that dies meanwhile can be resumed.

    Notes
    -----
    ``progress`` is the last :class:`SealedProgress`.
    """

    def __init__(
        self,
        roster: Roster,
        config: ConfigRecord,
        progress: SealedProgress,
        *,
        scheme: str = AUTO,
        arrays: ArrayRecord | None = None,
        on_summed: Callable[[SealedProgress], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.arrays = arrays
        self.progress = progress
        self.on_summed = on_summed
        self.members = SealedMembers(roster)
        self._roster, self._waiting, self._scheme = roster, roster.waiting, scheme
        self._number = max((one.number for one in self.progress.opened), default=0)

    def begin(self) -> None:
        """Have company X and the hospitals meet; raises ProtocolError if one cannot take part."""
        progress, failed = self.members.meet(self.progress)
        for one in failed:
            raise ProtocolError(f"{one.name} takes part in no sealed chain: {one.reason}")
        self.progress = progress

    def run_round(self) -> SealedSum:
        """Sum up, have the sum opened and sealed, and keep the envelopes.

        Raises
        ------
        MisfitError
            If at some hospitals the app failed, or a value did not fit; a resumed chain
            sums up anew first.
        ProtocolError
            If too few hospitals take part, or company X refuses the sum; a resumed chain likewise.
        """
        unopened = resumed = self.progress.unopened
        if unopened is None:
            unopened = self._summed()
        request, start = unopened.request, perf_counter()
        if not self.members.company_x:  # of a run that is resumed
            self._gathered()
        self._number = max(self._number, request.round)
        if resumed is None:  # else company X permitted the sum before it was kept
            self._require_permission(request)
            self.progress = replace(self.progress, unopened=unopened)
            self.on_summed(self.progress)
        content = self._content(self._last())
        content.update(request.to_content())
        reply = self._roster.ask_company_x(OPEN, content)
        misfit = reply.has_content() and MisfitReply.is_in(reply.content)
        refused = reply.has_error() and not nobody_answered(reply)
        if misfit or (refused and resumed is not None):
            self.progress = replace(self.progress, unopened=None)
            if resumed is None:
                raise MisfitError
            return self.run_round()
        with refused_as("company X has not opened the sum:"):
            answer = read_reply(reply, OpenReply)
        opened = OpenedRound(request.round, request.contributors, answer.totals)
        self.progress = replace(
            self.progress, opened=(*self.progress.opened, opened), unopened=None
        )
        size = len(request.envelope) + content_bytes(reply)
        return replace(
            unopened,
            cost=unopened.cost.opened(start, size),
            prepares=answer.prepares,
            over=answer.over,
        )

    def _require_permission(self, request: OpenRequest) -> None:
        """Ask company X before it is sent a sum of other hospitals than the last that it opened.

        See `require_permission` of open sums. The coordinator has no tickets here.
        """
        last = {name for one in self.progress.opened[-1:] for name in one.contributors}
        names = set(request.contributors)
        if names != last:
            present = self.members.present.values()
            alone = tuple(one.name for one in present if one.alone and one.name in names)
            asked = SealedPermitRequest(
                *(request.session, request.round, request.contributors), alone
            )
            content = self._content(self._last())
            ask_permission(self._roster, PERMIT_SEALED, asked.add_to(content))

    def finish(self) -> tuple[Skipped, ...]:
        """Send all hospitals the totals that they lack; return those that saved no model."""
        present = self._gathered()
        contents = {node: self._content(one.news(self.progress)) for node, one in present.items()}
        return save_model(
            self._roster.grid, contents, lambda node: present[node].name, self._waiting.hop_timeout
        )

    def _last(self) -> News:
        """Return the last total as company X has sealed it for itself."""
        last = [
            SealedTotal(one.number, one.contributors, one.totals[self.members.company_x])
            for one in self.progress.opened[-1:]
        ]
        return News(self.progress.session, totals=tuple(last))

    def _gathered(self) -> dict[int, Member]:
        """See who is connected, and meet those of whom it is not known where they stand."""
        self._roster.gather()
        self.progress, failed = self.members.meet(self.progress)
        for one in failed:
            self._roster.miss(one.name, one.reason, "takes no part yet")
        return self.members.present

    def _summed(self) -> SealedSum:
        work, start = _Work(), perf_counter()
        for _ in range(_ATTEMPTS):
            waiting = list(self._gathered().values())
            self._number = 1 + max([self._number, *(one.contributed for one in waiting)])
            self._send_round(waiting, work)
            if work.envelope is not None:
                break
        else:
            raise ProtocolError(
                f"a round must come to a sum within {_ATTEMPTS} attempts; left out: "
                f"{', '.join(sorted(work.skipped))}"
            )
        work.cost.seconds = perf_counter() - start
        return SealedSum(
            OpenRequest(self.progress.session, self._number, work.contributors, work.envelope),
            work.cost,
            tuple(sorted(work.skipped.difference(work.contributors))),
            work.update_bytes,
        )

    def _send_round(self, waiting: list[Member], work: _Work) -> None:
        """Send the running sum round; leaves no envelope if it was lost on its way."""
        secrets.SystemRandom().shuffle(waiting)
        self._require_enough(waiting, work)
        while waiting:
            member = waiting.pop(0)
            next_node = waiting[0].name if waiting else self.members.company_x
            hop = Hop(
                round=self._number,
                contributors=work.contributors,
                next_node=next_node,
                public_key=self._roster.public_key.to_json(),
                envelope=work.envelope,
                value_key=self.members.value_keys.get(member.name),
                run_key=self._roster.run_key,
                scheme=self._roster.scheme(self._scheme),
            )
            news = member.news(self.progress)
            content = self._content(news)
            content.update(hop.to_content())
            if self._ask(member, MessageType.TRAIN, content, work):
                member.has_heard(news)
                work.contributors += (member.name,)
                continue
            self._require_enough(waiting, work)
            if work.last is not None and not self._reseal(work.last, next_node, work):
                return

    def _require_enough(self, waiting: list[Member], work: _Work) -> None:
        if (left := len(work.contributors) + len(waiting)) < self._waiting.min_contributors:
            skipped = ", ".join(sorted(work.skipped)) or "nobody"
            raise self._waiting.too_few(left, f"; left out: {skipped}")

    def _reseal(self, last: Member, next_node: str, work: _Work) -> bool:
        """Have the last contributor seal again for the node after the one that failed."""
        request = ResealRequest(self.progress.session, self._number, next_node)
        if self._ask(last, RESEAL, request.to_content(), work):
            return True
        _logger.warning("the running sum is lost with %s: the round begins anew", last.name)
        work.contributors, work.last, work.envelope = (), None, None
        return False

    def _ask(self, member: Member, action: str, content: RecordDict, work: _Work) -> bool:
        """Take a hospital's reply; without a usable one it has to meet company X anew."""
        message = Message(content, member.node_id, action)
        taking_part = len(self.members.present)
        reply = next(self._roster.ask([message], taking_part, len(work.contributors)))
        work.cost.bytes_sent += content_bytes(message) + content_bytes(reply)
        try:
            answer = read_reply(reply, SealedReply)
        except ProtocolError as error:
            consequence = f"is left out of round {self._number}"
            self._roster.miss(member.name, str(error), consequence)
            self.members.present.pop(member.node_id, None)
            work.skipped.add(member.name)
            return False
        work.last, work.envelope, work.update_bytes = member, answer.envelope, answer.update_bytes
        return True

    def _content(self, news: News) -> RecordDict:
        content = news.to_content()
        content[CONFIG] = self.config
        if self.arrays is not None:
            content.update(model_message_content(self.arrays))
        return content


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
