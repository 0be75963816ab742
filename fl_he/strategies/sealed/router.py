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

from fl_he.strategies.encrypted_sum import Cost
from fl_he.strategies.exchange import exchange, save_model
from fl_he.strategies.roster import Roster
from fl_he.strategies.sealed.members import Member, SealedMembers
from fl_he.strategies.sealed.progress import OpenedRound, SealedProgress, SealedSum
from fl_he.strategies.skipping import Skipped, read_reply
from fl_he.wire.encrypted_sum import content_bytes
from fl_he.wire.model import model_message_content
from fl_he.wire.records import CONFIG, ProtocolError, refused_as
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
        From which the chain goes on: hospitals begin with the initial model and are sent all totals
        so far.
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
        arrays: ArrayRecord | None = None,
        on_summed: Callable[[SealedProgress], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.arrays = arrays
        self.progress = progress
        self.on_summed = on_summed
        self.members = SealedMembers(roster)
        self._roster, self._waiting = roster, roster.waiting
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
        ProtocolError
            If too few hospitals take part, or company X refuses the sum.
        """
        unopened = self.progress.unopened
        if unopened is None:
            unopened = self._summed()
            self.progress = replace(self.progress, unopened=unopened)
            self.on_summed(self.progress)
        request, start = unopened.request, perf_counter()
        reply = self._roster.ask_company_x(OPEN, request.to_content())
        with refused_as("the key holder has not opened the sum:"):
            answer = read_reply(reply, OpenReply)
        opened = OpenedRound(request.round, request.contributors, answer.totals)
        self._number = max(self._number, request.round)
        self.progress = replace(
            self.progress, opened=(*self.progress.opened, opened), unopened=None
        )
        size = len(request.envelope) + content_bytes(reply)
        return replace(unopened, cost=unopened.cost.opened(start, size, answer.decrypt_seconds))

    def finish(self) -> tuple[Skipped, ...]:
        """Send all hospitals the totals that they lack; return those that saved no model."""
        present = self._gathered()
        contents = {node: self._content(one.news(self.progress)) for node, one in present.items()}
        return save_model(
            self._roster.grid, contents, lambda node: present[node].name, self._waiting.hop_timeout
        )

    def _gathered(self) -> dict[int, Member]:
        """See who is connected, and meet those of whom it is not known where they stand."""
        self._roster.gather()
        self.progress, failed = self.members.meet(self.progress)
        for one in failed:
            _logger.warning("%s takes no part yet: %s", one.name, one.reason)
        return self.members.present

    def _summed(self) -> SealedSum:
        work, start = _Work(), perf_counter()
        for _ in range(_ATTEMPTS):
            waiting = list(self._gathered().values())
            self._number += 1
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
        reply = next(exchange(self._roster.grid, [message], self._waiting.hop_timeout))
        work.cost.bytes_sent += content_bytes(message) + content_bytes(reply)
        try:
            answer = read_reply(reply, SealedReply)
        except ProtocolError as error:
            _logger.warning("%s is left out of round %d: %s", member.name, self._number, error)
            self.members.present.pop(member.node_id, None)
            work.skipped.add(member.name)
            return False
        work.last, work.envelope, work.update_bytes = member, answer.envelope, answer.update_bytes
        work.cost.encrypt_seconds += answer.encrypt_seconds
        work.cost.add_seconds += answer.add_seconds
        return True

    def _content(self, news: News) -> RecordDict:
        content = news.to_content()
        content[CONFIG] = self.config
        if self.arrays is not None:
            content.update(model_message_content(self.arrays))
        return content
