"""Running sum of the hospitals' encrypted updates: by fold in the strategy, or chain by chain."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from logging import INFO
from math import isqrt
from time import perf_counter

import numpy as np
from flwr.app import Message
from flwr.common.logger import log
from numpy.typing import NDArray

from fl_he.config.groups import AUTO
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.strategies.exchange import message_to
from fl_he.strategies.opened_sum import Cost, UnopenedSum
from fl_he.strategies.roster import Roster
from fl_he.strategies.skipping import Skipped, error_reason
from fl_he.wire.encrypted_sum import (
    DecryptRequest,
    EncryptedReply,
    EncryptionRequest,
    Purpose,
    content_bytes,
    printable,
)
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.selection import LOCAL, PLAIN, Selection
from fl_he.wire.update_layout import ArraySlot, MetricSlot, UpdateLayout

FOLD = "fold"
TOPOLOGIES = (FOLD, "chain")

_logger = logging.getLogger(__name__)
#: Seconds between two lines of progress.
_PROGRESS_SECONDS = 2.0


@dataclass
class _Segment:
    """One chain: who is still to come, and the last sum that a contributor of it has returned.

    All tickets but the last one stay here while a sum travels, so that a chain's bytes are in
    proportion to its hospitals.
    """

    rest: list[Message]
    part: _Part | None = None
    summed: TicketedSum | None = None

    def handed(self) -> bytes | None:
        """Return the sum for the next hospital, with the last ticket alone."""
        if self.summed is None:
            return None
        return TicketedSum(self.summed.vector, self.summed.tickets[-1:]).to_bytes()

    def take_back(self, summed: TicketedSum) -> None:
        """Take the sum that came back, with the tickets that stayed here."""
        stayed = () if self.summed is None else self.summed.tickets[:-1]
        self.summed = TicketedSum(summed.vector, (*stayed, *summed.tickets))


@dataclass
class _Part:
    """The sum of updates of one layout, and the messages that they answer."""

    layout: UpdateLayout
    messages: list[Message] = field(default_factory=list)
    summed: TicketedSum | None = None
    plain: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


class UpdateSum:
    """A running sum of updates.

    Updates of different layouts cannot be added. The layout that most hospitals have counts. A
    hospital that has other arrays is skipped. One that has other metrics is asked again, for the
    metrics that count.

    Parameters
    ----------
    request : EncryptionRequest
        Request that all messages carry, too.
    roster : Roster
    packing : Packing
        What the replies must be packed like.
    selection : Selection
        Which arrays must be encrypted.

    Attributes
    ----------
    metrics : dict of str to MetricSlot
        All metrics that hospitals have, whether they are in the sum or not.
    update_bytes : int
        Size of one encrypted update without its ticket.
    cost : Cost
    skipped : list of Skipped
        The hospitals that were asked and are not in the sum.
    """

    def __init__(
        self, request: EncryptionRequest, roster: Roster, packing: Packing, selection: Selection
    ) -> None:
        self.metrics: dict[str, MetricSlot] = {}
        self.update_bytes = 0
        self.cost = Cost()
        self.skipped: list[Skipped] = []
        self._simulated_logs: dict[str, list[str]] = {}
        self._parts: dict[str, _Part] = {}
        self._request, self._roster = request, roster
        self._packing, self._selection = packing, selection

    def collect(self, messages: list[Message], segments: int) -> None:
        """Hand sums from hospital to hospital; each adds its ciphertexts to what it is handed.

        Chains run side by side, each over its share of the hospitals, and their sums are added in
        place as they arrive: the last reply comes after hospitals / segments hops. If one sends an
        error or nothing, the next one is handed the sum that it was handed; so too if one answers
        alone, because the sum that it was handed has another layout than its update. A fold is a
        chain for each hospital: all are asked at once, and one running sum is held for each layout.

        Parameters
        ----------
        messages : list of Message
            The wrapped strategy's, one for each hospital.
        segments : int
            How many chains there are, at least 1.

        Raises
        ------
        ProtocolError
            On the first reply that is not what was asked.
        """
        self._collect(messages, segments, self._request)
        if again := self._settle():
            layout = self._largest().layout.to_json()
            self._collect(again, len(again), replace(self._request, layout=layout, exact=True))
            for message in self._settle():
                self._leave_out(message, "its metrics are others than it was asked for")

    def _collect(self, messages: list[Message], segments: int, asked: EncryptionRequest) -> None:
        at_work: dict[int, tuple[_Segment, Message]] = {}

        def ask_next(segment: _Segment) -> Message | None:
            part = segment.part
            if not segment.rest:
                if segment.summed is not None and part is not None:
                    self._add(part, segment.summed)
                return None
            message = segment.rest.pop(0)
            name = self._roster.name(message.metadata.dst_node_id)
            request = replace(asked, value_key=self._roster.value_keys.get(name))
            if part is not None:
                handed, layout = segment.handed(), part.layout.to_json()
                request = replace(request, running_sum=handed, layout=layout, exact=False)
            hop = addressed(message, request)
            at_work[hop.metadata.dst_node_id] = segment, message
            self.cost.bytes_sent += content_bytes(hop)
            return hop

        def hand_on(reply: Message) -> Message | None:
            segment, message = at_work.pop(reply.metadata.src_node_id)
            self._take(reply, segment, message)
            return ask_next(segment)

        chains = [_Segment(messages[at::segments]) for at in range(segments)]
        firsts = [hop for segment in chains if (hop := ask_next(segment)) is not None]
        told = perf_counter()
        replies = self._roster.ask(firsts, len(messages), following=hand_on)
        for number, _ in enumerate(replies, start=1):
            if number < len(messages) and perf_counter() - told > _PROGRESS_SECONDS:
                megabytes = self.cost.bytes_sent / 1e6
                log(INFO, "%d of %d answers, %.1f MB so far", number, len(messages), megabytes)
                told = perf_counter()

    def _settle(self) -> list[Message]:
        """Keep the largest sum; return the messages to hospitals with its arrays, other metrics."""
        if not self._parts:
            return []
        largest = self._largest()
        again: list[Message] = []
        for part in self._parts.values():
            difference = largest.layout.array_difference(part.layout)
            if part is not largest and difference is None:
                again += part.messages
            for message in part.messages if difference is not None else ():
                self._leave_out(message, difference or "")
        self._parts = {largest.layout.to_json(): largest}
        return again

    def _largest(self) -> _Part:
        parts = self._parts.values()
        return max(parts, key=lambda part: (len(part.messages), part.layout.metric_values))

    def _leave_out(self, message: Message, difference: str) -> None:
        name = self._roster.name(message.metadata.dst_node_id)
        reason = f"{difference}: all hospitals must have the same model"
        self._skip(name, reason)

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(self._roster.miss(name, reason, "is skipped in this round"))

    def finished(self, purpose: Purpose, start: float) -> UnopenedSum:
        """Return the sum for company X; `start` is when it was begun, by ``perf_counter``.

        Raises
        ------
        NoMeanError
            If there are fewer contributors than ``min_contributors``.
        """
        waiting, request = self._roster.waiting, self._request
        part = self._largest() if self._parts else None
        contributors = len(part.messages) if part else 0
        if part is None or part.summed is None or contributors < waiting.min_contributors:
            names = dict[str, list[str]]()
            for one in self.skipped:
                names.setdefault(one.reason, []).append(one.name)
            reasons = "; ".join(f"{', '.join(of)}: {reason}" for reason, of in names.items())
            raise waiting.too_few(contributors, cause=reasons)
        summed = part.summed.to_bytes()
        self.cost.seconds = perf_counter() - start
        return UnopenedSum(
            DecryptRequest(request.session, purpose, request.round, contributors, summed),
            self.cost,
            part.layout,
            part.plain,
            skipped=tuple(self.skipped),
            ciphertexts=part.summed.vector.ciphertexts,
            update_bytes=self.update_bytes,
            simulated_logs=tuple(
                f"{', '.join(sorted(names))}: {words}"
                for words, names in sorted(self._simulated_logs.items())
            ),
        )

    def _take(self, reply: Message, segment: _Segment, message: Message) -> None:
        """Check one hospital's reply, note its cost and hand the sum in it to the segment.

        A hospital that sent an error or nothing is skipped.

        Raises
        ------
        DropoutError
            If the round does not continue without the hospital.
        ProtocolError
            With the hospital's name, for any other reply than the one that was asked for: its
            sender does not follow the protocol, and a round without it would not fix that.
        """
        name = self._roster.name(reply.metadata.src_node_id)
        if reply.has_error():
            self._skip(name, error_reason(reply))
            return
        self.cost.bytes_sent += content_bytes(reply)
        with refused_as(f"{name}:"):
            answer = EncryptedReply.from_content(reply.content)
            layout = UpdateLayout.from_json(answer.layout)
            left_out = UpdateLayout.from_json(answer.left_out).metrics if answer.left_out else ()
        self._check_ways(name, layout.arrays)
        if len(answer.plain) != layout.plain_length:
            raise ProtocolError(f"{name} must send the plain arrays of its layout and no others")
        with refused_as(f"{name} sent no usable ciphertexts:"):
            summed = TicketedSum.from_bytes(
                answer.encrypted_sum, self._roster.public_key, [self._request.scheme]
            )
        vector = summed.vector
        filled = len(vector) == len(layout) and vector.packing == self._packing
        if not filled or layout.fraction_bits != self._packing.fraction_bits:
            raise ProtocolError(f"{name} must fill the slots of its own layout as asked")
        if answer.simulated_log and self._roster.simulated:
            self._simulated_logs.setdefault(printable(answer.simulated_log), []).append(name)
        for metric in (*layout.optional, *left_out):
            self.metrics.setdefault(metric.name, metric)
        for metric in left_out:
            _logger.warning(
                "the metric %r of %s is left out in this round, since others do not have it",
                metric.name,
                name,
            )
        part = self._parts.setdefault(answer.layout, _Part(layout))
        part.plain = part.plain + answer.plain if part.messages else answer.plain
        part.messages.append(message)
        if segment.part is None or segment.part is part:
            segment.part = part
            segment.take_back(summed)
        else:  # it has answered alone: the sum that it was handed is of another layout
            self._add(part, summed)
        self.update_bytes = vector.nbytes
        self.cost.encrypt_seconds += answer.encrypt_seconds
        self.cost.add_seconds += answer.add_seconds

    def _check_ways(self, name: str, arrays: tuple[ArraySlot, ...]) -> None:
        """Refuse arrays in plain that were to be encrypted, or another choice for integers."""
        with refused_as(f"{name}:"):
            ways = [(a, self._selection.way(a.name, a.dtype, whole=a.whole)) for a in arrays]
        if wrongly := [a.name for a, way in ways if a.way == PLAIN != way]:
            raise ProtocolError(f"{name} must encrypt the arrays {wrongly}, and it did not")
        if others := [a.name for a, way in ways if a.way != way and LOCAL in (a.way, way)]:
            raise ProtocolError(
                f"{name} must treat the integers of the arrays {others} as the strategy does: give "
                "the mod and the strategy the same integers"
            )

    def _add(self, part: _Part, summed: TicketedSum) -> None:
        start = perf_counter()
        if part.summed is None:
            part.summed = summed
        else:
            part.summed.add_in_place(summed, self._roster.public_key)
        self.cost.add_seconds += perf_counter() - start


def segments_of(segments: int | str, contributors: int) -> int:
    """Return how many chains are meant: ``"auto"`` is about the square root of the contributors."""
    return isqrt(contributors) if segments == AUTO else int(segments)


def addressed(message: Message, request: EncryptionRequest) -> Message:
    """Return the wrapped strategy's message with the encryption request in it.

    The strategy may have given the same content to all of its messages, so it is copied.
    """
    return message_to(message.metadata.dst_node_id, message, request.add_to(message.content))
