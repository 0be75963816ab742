"""The coordinator's part in a sealed chain: it routes envelopes that it cannot read.

It learns who takes part, in what order, how long everybody took and how much they sent; neither
ciphertexts nor totals nor the model. So there is nothing for a strategy to aggregate, and this is
none: each hospital takes the step itself.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fl_he.messages import FINISH, ProtocolError, content_bytes, printable
from fl_he.model_messages import model_message_content
from fl_he.sealed_messages import (
    JOIN,
    OPEN,
    RESEAL,
    SESSION,
    Hop,
    JoinReply,
    News,
    OpenReply,
    OpenRequest,
    ResealRequest,
    SealedReply,
    SealedTotal,
    SessionReply,
    SessionRequest,
)
from fl_he.strategies.exchange import ask_until_answered, error_reason, exchange
from fl_he.strategies.roster import Roster, call_again, call_roll, gather
from fl_he.strategies.sealed_progress import OpenedRound, SealedProgress, UnopenedRound
from fl_he.strategies.skipped import Skipped

_CONFIG = "config"
#: How often a round begins anew whose running sum is lost with a hospital that fails.
_ATTEMPTS = 5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SealedRound:
    """What the coordinator knows of a round.

    Attributes
    ----------
    round : int
        From 1.
    contributors, skipped : tuple of str
        Who is in the sum, in the order of the chain, and who was asked and is not.
    update_bytes : int
        Of one hospital's encrypted update.
    bytes_sent : int
        All messages of the round, both ways.
    seconds : float
        Wall time.
    encrypt_seconds, add_seconds : float
        Summed over the hospitals.
    decrypt_seconds : float
        At the key holder.
    """

    round: int
    contributors: tuple[str, ...]
    skipped: tuple[str, ...]
    update_bytes: int
    bytes_sent: int
    seconds: float
    encrypt_seconds: float
    add_seconds: float
    decrypt_seconds: float


@dataclass(slots=True)
class _Member:
    """A hospital, and what the coordinator believes it knows."""

    node_id: int
    name: str
    after: int
    statement: bytes | None


@dataclass(slots=True)
class _Work:
    """A sum in the making."""

    contributors: list[_Member] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    envelope: bytes | None = None
    update_bytes: int = 0
    bytes_sent: int = 0
    encrypt_seconds: float = 0.0
    add_seconds: float = 0.0
    start: float = field(default_factory=perf_counter)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.contributors)

    def take(self, reply: SealedReply) -> None:
        self.envelope = reply.envelope
        self.update_bytes = reply.update_bytes
        self.encrypt_seconds += reply.encrypt_seconds
        self.add_seconds += reply.add_seconds

    def begin_anew(self) -> None:
        self.contributors, self.envelope = [], None


class SealedChain:
    """Run rounds of a sealed chain.

    The order of the hospitals is drawn anew for each round, so that nobody has the same neighbours
    all the time.

    Parameters
    ----------
    config : ConfigRecord
        The train config, public and the same for the whole run.
    arrays : ArrayRecord or None
        The initial model, where the hospitals' app does not make it itself.
    hospitals : int
        How many must be there before the first round.
    min_contributors : int
        Fewest hospitals in a sum. Company X and the hospitals have limits of their own.
    hop_timeout : float
        Seconds that a hospital has to reply.
    key_holder_timeout : float
        Seconds that company X has to open a sum, restarts of its node included.
    node_timeout : float
        Seconds to wait for nodes to connect.
    on_summed : callable
        Is handed the :class:`SealedProgress` before company X is asked to open a sum, so that a run
        that dies meanwhile can be resumed.

    Notes
    -----
    ``progress`` is the last :class:`SealedProgress`.
    """

    def __init__(
        self,
        config: ConfigRecord,
        *,
        hospitals: int,
        arrays: ArrayRecord | None = None,
        min_contributors: int = 3,
        hop_timeout: float = 600.0,
        key_holder_timeout: float = 600.0,
        node_timeout: float = 60.0,
        on_summed: Callable[[SealedProgress], None] = lambda _: None,
    ) -> None:
        if min_contributors < 1:
            raise ProtocolError(f"min_contributors must be at least 1, got {min_contributors}")
        self.config = config
        self.arrays = arrays
        self.hospitals = max(hospitals, min_contributors)
        self.min_contributors = min_contributors
        self.hop_timeout = hop_timeout
        self.key_holder_timeout = key_holder_timeout
        self.node_timeout = node_timeout
        self.on_summed = on_summed
        self.progress = SealedProgress()
        self._roster: Roster | None = None
        self._company_x = self._manifest = ""
        self._number = 0
        self._members: dict[int, _Member] = {}

    @property
    def roster(self) -> Roster:
        """The nodes; raises ProtocolError before the roll was called."""
        if self._roster is None:
            raise ProtocolError("the roll must be called first: it is when the run starts")
        return self._roster

    def resume(self, progress: SealedProgress) -> None:
        """Go on with a run that was cut off; to be called before the roll.

        Hospitals begin with the initial model and are sent all totals so far.
        """
        self.progress = progress
        self._number = max((one.number for one in progress.opened), default=0)

    def call_roll(self, grid: Grid) -> Roster:
        """Find out who takes part, and have company X and the hospitals meet."""
        if self._roster is None:
            self._roster = call_roll(grid, self.hospitals, self.node_timeout, self.hop_timeout)
            for skipped in self._meet(grid):
                raise ProtocolError(
                    f"{skipped.name} takes part in no sealed chain: {skipped.reason}"
                )
        return self._roster

    def run_round(self, grid: Grid) -> SealedRound:
        """Sum up, have the sum opened and sealed, and keep the envelopes.

        Raises
        ------
        ProtocolError
            If too few hospitals take part, or company X refuses the sum.
        """
        self.call_roll(grid)
        unopened = self.progress.unopened
        if unopened is None:
            unopened = self._summed(grid)
            self.progress = replace(self.progress, unopened=unopened)
            self.on_summed(self.progress)
        start = perf_counter()
        reply = self._ask_company_x(grid, OPEN, unopened.request.to_content())
        if reply.has_error():
            raise ProtocolError(f"the key holder has not opened the sum: {error_reason(reply)}")
        answer, request = OpenReply.from_content(reply.content), unopened.request
        opened = OpenedRound(request.round, request.contributors, answer.totals)
        self._number = max(self._number, request.round)
        self.progress = replace(
            self.progress, opened=(*self.progress.opened, opened), unopened=None
        )
        return SealedRound(
            round=len(self.progress.opened),
            contributors=request.contributors,
            skipped=unopened.skipped,
            update_bytes=unopened.update_bytes,
            bytes_sent=(unopened.bytes_sent + len(request.envelope) + content_bytes(reply)),
            seconds=unopened.seconds + perf_counter() - start,
            encrypt_seconds=unopened.encrypt_seconds,
            add_seconds=unopened.add_seconds,
            decrypt_seconds=answer.decrypt_seconds,
        )

    def finish(self, grid: Grid) -> tuple[Skipped, ...]:
        """Send every hospital the totals that it lacks, and have it save the model.

        Returns
        -------
        tuple of Skipped
            The hospitals that could not save it, or did not answer; they are warned about as well.
        """
        self._gather(grid)
        messages = []
        for member in self._members.values():
            content = self._content(self._news(member))
            messages.append(Message(content, member.node_id, FINISH))
        failures = tuple(
            Skipped(self._members[reply.metadata.src_node_id].name, error_reason(reply))
            for reply in exchange(grid, messages, self.hop_timeout)
            if reply.has_error()
        )
        for one in failures:
            _logger.warning("%s has not saved the final model: %s", one.name, one.reason)
        return failures

    def _summed(self, grid: Grid) -> UnopenedRound:
        work = _Work()
        for _ in range(_ATTEMPTS):
            self._gather(grid)
            self._number += 1
            self._send_round(grid, work)
            if work.envelope is not None:
                break
        else:
            raise ProtocolError(
                f"a round must come to a sum within {_ATTEMPTS} attempts; left out: "
                f"{', '.join(sorted(set(work.skipped)))}"
            )
        return UnopenedRound(
            request=OpenRequest(self.progress.session, self._number, work.names, work.envelope),
            skipped=tuple(sorted(set(work.skipped) - set(work.names))),
            update_bytes=work.update_bytes,
            bytes_sent=work.bytes_sent,
            seconds=perf_counter() - work.start,
            encrypt_seconds=work.encrypt_seconds,
            add_seconds=work.add_seconds,
        )

    def _send_round(self, grid: Grid, work: _Work) -> None:
        """Send the running sum round; leaves no envelope if it was lost on its way."""
        waiting = list(self._members.values())
        secrets.SystemRandom().shuffle(waiting)
        while waiting:
            if len(work.contributors) + len(waiting) < self.min_contributors:
                raise ProtocolError(
                    f"a round must have at least {self.min_contributors} contributors "
                    f"(min_contributors), got {len(work.contributors) + len(waiting)}; left out: "
                    f"{', '.join(sorted(set(work.skipped))) or 'nobody'}"
                )
            member = waiting.pop(0)
            hop = Hop(
                round=self._number,
                contributors=work.names,
                next_node=waiting[0].name if waiting else self._company_x,
                public_key=self.roster.public_key.to_json(),
                envelope=work.envelope,
            )
            news = self._news(member)
            content = self._content(news)
            content.update(hop.to_content())
            reply = self._ask(grid, member, MessageType.TRAIN, content, work)
            if reply is not None:
                _has_heard(member, news)
                work.contributors.append(member)
                work.take(reply)
                continue
            work.skipped.append(member.name)
            if work.contributors and not self._reseal(grid, waiting, work):
                return

    def _reseal(self, grid: Grid, waiting: list[_Member], work: _Work) -> bool:
        """Have the last contributor seal again for the node after the one that failed."""
        last = work.contributors[-1]
        next_node = waiting[0].name if waiting else self._company_x
        request = ResealRequest(self.progress.session, self._number, next_node)
        reply = self._ask(grid, last, RESEAL, request.to_content(), work)
        if reply is not None:
            work.take(reply)
            return True
        _logger.warning("the running sum is lost with %s: the round begins anew", last.name)
        work.skipped.append(last.name)
        work.begin_anew()
        return False

    def _ask(
        self, grid: Grid, member: _Member, action: str, content: RecordDict, work: _Work
    ) -> SealedReply | None:
        """Return a hospital's reply; without a usable one it has to meet company X anew."""
        message = Message(content, member.node_id, action)
        work.bytes_sent += content_bytes(message)
        reply = next(exchange(grid, [message], self.hop_timeout))
        work.bytes_sent += content_bytes(reply)
        try:
            if not reply.has_error():
                return SealedReply.from_content(reply.content)
            reason = error_reason(reply)
        except ProtocolError as error:
            reason = str(error)
        _logger.warning("%s is left out of round %d: %s", member.name, self._number, reason)
        self._members.pop(member.node_id, None)
        return None

    def _gather(self, grid: Grid) -> None:
        """See who is connected, and meet those of whom it is not known where they stand."""
        self._roster = gather(
            self.call_roll(grid), grid, self.min_contributors, self.node_timeout, self.hop_timeout
        )
        for skipped in self._meet(grid):
            _logger.warning("%s takes no part yet: %s", skipped.name, skipped.reason)

    def _meet(self, grid: Grid) -> list[Skipped]:
        """Have new hospitals challenge company X; return those that take no part."""
        connected = self.roster.hospitals
        self._members = {n: member for n, member in self._members.items() if n in connected}
        new = [node_id for node_id in connected if node_id not in self._members]
        if not new:
            return []
        joining, failed = self._joining(grid, new)
        if self._manifest:
            # Company X would refuse to answer anybody as long as one of them is a stranger to it.
            joining = self._fitting(joining, self._manifest, failed)
        if not joining:
            return failed
        request = SessionRequest(
            self.progress.session,
            {reply.name: reply.challenge for reply in joining.values() if reply.challenge},
        )
        answer = self._ask_company_x(grid, SESSION, request.to_content())
        if answer.has_error():
            raise ProtocolError(f"the key holder has stated no session: {error_reason(answer)}")
        stated = SessionReply.from_content(answer.content)
        if self.progress.session not in ("", stated.session):
            raise ProtocolError("the key holder must keep to the session in which the run began")
        self._company_x, self._manifest = stated.name, stated.manifest
        self.progress = replace(self.progress, session=stated.session)
        for node_id, reply in self._fitting(joining, stated.manifest, failed).items():
            self._members[node_id] = _Member(
                node_id, reply.name, reply.after, stated.statements.get(reply.name)
            )
        return failed

    def _fitting(
        self, joining: dict[int, JoinReply], manifest: str, failed: list[Skipped]
    ) -> dict[int, JoinReply]:
        """Return those that may take part; add the others, and why, to those that failed."""
        fitting: dict[int, JoinReply] = {}
        names = {member.name for member in self._members.values()}
        for node_id, reply in joining.items():
            if (reason := self._misfit(reply, manifest, names)) is None:
                fitting[node_id] = reply
                names.add(reply.name)
            else:
                failed.append(Skipped(printable(reply.name), reason))
        return fitting

    def _misfit(self, reply: JoinReply, manifest: str, names: set[str]) -> str | None:
        if reply.manifest != manifest:
            return f"its manifest must be company X's, {manifest}, got {printable(reply.manifest)}"
        if not reply.challenge and reply.session != self.progress.session:
            return "it takes part in another session"
        if reply.name in names:
            return "there is a node of that name already"
        lacking = (one for one in self.progress.opened if one.number > reply.after)
        if any(reply.name not in one.totals for one in lacking):
            return "company X has sealed no totals for it: it was not in the manifest then"
        return None

    def _joining(self, grid: Grid, nodes: list[int]) -> tuple[dict[int, JoinReply], list[Skipped]]:
        joining: dict[int, JoinReply] = {}
        failed: list[Skipped] = []
        messages = [Message(RecordDict(), node_id, JOIN) for node_id in nodes]
        for reply in exchange(grid, messages, self.hop_timeout):
            node_id = reply.metadata.src_node_id
            if reply.has_error():
                failed.append(Skipped(self.roster.name(node_id), error_reason(reply)))
                continue
            try:
                joining[node_id] = JoinReply.from_content(reply.content)
            except ProtocolError as error:
                failed.append(Skipped(self.roster.name(node_id), str(error)))
        return joining, failed

    def _ask_company_x(self, grid: Grid, action: str, content: RecordDict) -> Message:
        def message() -> Message:
            if self.roster.key_holder not in grid.get_node_ids():
                # Without node authentication it comes back as a new node.
                self._roster = call_again(self.roster, grid, self.hop_timeout)
            return Message(content, self.roster.key_holder, action)

        return ask_until_answered(grid, message, self.key_holder_timeout)

    def _news(self, member: _Member) -> News:
        lacking = tuple(
            SealedTotal(one.number, one.contributors, one.totals[member.name])
            for one in self.progress.opened
            if one.number > member.after
        )
        return News(self.progress.session, member.statement, lacking)

    def _content(self, news: News) -> RecordDict:
        content = news.to_content()
        content[_CONFIG] = self.config
        if self.arrays is not None:
            content.update(model_message_content(self.arrays))
        return content


def _has_heard(member: _Member, news: News) -> None:
    member.statement = None
    if news.totals:
        member.after = news.totals[-1].round
