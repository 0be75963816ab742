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

from fl_he.strategies.exchange import Skipped, error_reason, exchange
from fl_he.strategies.roster import Roster
from fl_he.strategies.sealed.members import Member, SealedMembers, Waiting
from fl_he.strategies.sealed.progress import OpenedRound, SealedProgress, UnopenedRound
from fl_he.wire.encrypted_sum import FINISH, content_bytes
from fl_he.wire.model import model_message_content
from fl_he.wire.records import CONFIG, ProtocolError
from fl_he.wire.sealed_messages import (
    OPEN,
    RESEAL,
    Hop,
    News,
    OpenReply,
    OpenRequest,
    ResealRequest,
    SealedReply,
)

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
class _Work:
    """A sum in the making."""

    contributors: list[Member] = field(default_factory=list)
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
        self.min_contributors = min_contributors
        self.hop_timeout = hop_timeout
        self.on_summed = on_summed
        self.progress = SealedProgress()
        self._members = SealedMembers(
            Waiting(
                hospitals=max(hospitals, min_contributors),
                min_contributors=min_contributors,
                hop_timeout=hop_timeout,
                key_holder_timeout=key_holder_timeout,
                node_timeout=node_timeout,
            )
        )
        self._number = 0

    @property
    def roster(self) -> Roster:
        """The nodes; raises ProtocolError before the roll was called."""
        return self._members.roster

    def node_name(self, node_id: int) -> str:
        """Return a node's name for messages to people; hospitals may come back."""
        return self.roster.name(node_id)

    def resume(self, progress: SealedProgress) -> None:
        """Go on with a run that was cut off; to be called before the roll.

        Hospitals begin with the initial model and are sent all totals so far.
        """
        self.progress = progress
        self._number = max((one.number for one in progress.opened), default=0)

    def call_roll(self, grid: Grid) -> Roster:
        """Find out who takes part, and have company X and the hospitals meet."""
        self.progress = self._members.call_roll(grid, self.progress)
        return self.roster

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
        reply = self._members.ask_company_x(grid, OPEN, unopened.request.to_content())
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
        self.progress = self._members.gather(grid, self.progress)
        messages = []
        for member in self._members.present.values():
            content = self._content(member.news(self.progress))
            messages.append(Message(content, member.node_id, FINISH))
        failures = tuple(
            Skipped(self._members.present[reply.metadata.src_node_id].name, error_reason(reply))
            for reply in exchange(grid, messages, self.hop_timeout)
            if reply.has_error()
        )
        for one in failures:
            _logger.warning("%s has not saved the final model: %s", one.name, one.reason)
        return failures

    def _summed(self, grid: Grid) -> UnopenedRound:
        work = _Work()
        for _ in range(_ATTEMPTS):
            self.progress = self._members.gather(grid, self.progress)
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
        waiting = list(self._members.present.values())
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
                next_node=waiting[0].name if waiting else self._members.company_x,
                public_key=self.roster.public_key.to_json(),
                envelope=work.envelope,
            )
            news = member.news(self.progress)
            content = self._content(news)
            content.update(hop.to_content())
            reply = self._ask(grid, member, MessageType.TRAIN, content, work)
            if reply is not None:
                member.has_heard(news)
                work.contributors.append(member)
                work.take(reply)
                continue
            work.skipped.append(member.name)
            if work.contributors and not self._reseal(grid, waiting, work):
                return

    def _reseal(self, grid: Grid, waiting: list[Member], work: _Work) -> bool:
        """Have the last contributor seal again for the node after the one that failed."""
        last = work.contributors[-1]
        next_node = waiting[0].name if waiting else self._members.company_x
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
        self, grid: Grid, member: Member, action: str, content: RecordDict, work: _Work
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
        self._members.present.pop(member.node_id, None)
        return None

    def _content(self, news: News) -> RecordDict:
        content = news.to_content()
        content[CONFIG] = self.config
        if self.arrays is not None:
            content.update(model_message_content(self.arrays))
        return content
