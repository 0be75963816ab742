"""How an encrypted sum comes about: fold in the strategy, or chain from hospital to hospital."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_he.crypto.encrypted_vector import EncryptedVector
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.packing import Packing
from fl_he.messages import EncryptedReply, EncryptionRequest, ProtocolError, content_bytes
from fl_he.selection import Selection
from fl_he.strategies.exchange import error_reason, exchange
from fl_he.strategies.roster import Roster
from fl_he.strategies.skipped import Skipped
from fl_he.update import UpdateLayout

_logger = logging.getLogger(__name__)


@dataclass
class RunningSum:
    """An encrypted sum in the making, and what it has cost so far.

    Attributes
    ----------
    vector : EncryptedVector or None
    layout : UpdateLayout or None
        What the slots hold; every contributor must have the same.
    contributors : int
    bytes_sent : int
        Size of all messages, both ways.
    update_bytes : int
        Size of one encrypted update.
    plain : ndarray
        The sum of what was not encrypted; empty as a rule.
    encrypt_seconds, add_seconds : float
        Summed over the hospitals, and for a fold over the strategy's additions.
    skipped : list of Skipped
        The hospitals that were asked and are not in the sum.
    """

    vector: EncryptedVector | None = None
    layout: UpdateLayout | None = None
    contributors: int = 0
    bytes_sent: int = 0
    update_bytes: int = 0
    plain: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    encrypt_seconds: float = 0.0
    add_seconds: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)

    def take(self, reply: Message, order: Order) -> EncryptedVector | None:
        """Check one hospital's reply and note its cost.

        Returns
        -------
        EncryptedVector or None
            None for a hospital that is skipped, since it sent an error or nothing.

        Raises
        ------
        ProtocolError
            With the hospital's name, for any other reply than the one that was asked for: who
            sends that does not follow the protocol, and a round without it would not mend that.
        """
        name = order.roster.name(reply.metadata.src_node_id)
        if reply.has_error():
            self.skipped.append(Skipped(name, error_reason(reply)))
            _logger.warning("%s is skipped in this round: %s", name, self.skipped[-1].reason)
            return None
        self.bytes_sent += content_bytes(reply)
        try:
            answer = EncryptedReply.from_content(reply.content)
            layout = UpdateLayout.from_json(answer.layout)
        except (ProtocolError, CryptoError) as error:
            raise ProtocolError(f"{name}: {error}") from error
        if self.layout is not None and layout != self.layout:
            raise ProtocolError(
                f"hospitals must send the same arrays and metrics, {name} sent others than the rest"
            )
        in_plain = [slot.name for slot in layout.arrays if not slot.encrypted]
        if wrongly := list(filter(order.selection.encrypts, in_plain)):
            raise ProtocolError(f"{name} must encrypt the arrays {wrongly}, and it did not")
        if len(answer.plain) != layout.plain_length:
            raise ProtocolError(f"{name} must send the plain arrays of its layout and no others")
        try:
            vector = EncryptedVector.from_bytes(answer.encrypted_sum, order.roster.public_key)
        except CryptoError as error:
            raise ProtocolError(f"{name} sent no usable ciphertexts: {error}") from error
        if len(vector) != len(layout) or vector.packing != order.packing:
            raise ProtocolError(f"{name} must fill the slots of its own layout as asked")
        self.plain = answer.plain if self.layout is None else self.plain + answer.plain
        self.layout = layout
        self.contributors += 1
        self.update_bytes = len(answer.encrypted_sum)
        self.encrypt_seconds += answer.encrypt_seconds
        self.add_seconds += answer.add_seconds
        return vector

    def add(self, vector: EncryptedVector, order: Order) -> None:
        """Add ciphertexts to the sum, in place."""
        start = perf_counter()
        if self.vector is None:
            self.vector = vector
        else:
            self.vector.add_in_place(vector, order.roster.public_key)
        self.add_seconds += perf_counter() - start


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be summed, and by whom.

    Attributes
    ----------
    messages : list of Message
        The wrapped strategy's, one for each hospital that contributes.
    request : EncryptionRequest
        What they all carry besides.
    roster : Roster
    packing : Packing
        What the replies must be packed like.
    timeout : float
        Seconds to wait for the reply to each message.
    segments : int
        How many chains run side by side, at least 1.
    selection : Selection
        Which arrays must be encrypted.
    """

    messages: list[Message]
    request: EncryptionRequest
    roster: Roster
    packing: Packing
    timeout: float
    segments: int
    selection: Selection


def fold(grid: Grid, order: Order) -> RunningSum:
    """Ask all hospitals at once; add their ciphertexts one after another as they arrive.

    Holds one running sum whatever the number of hospitals. A hospital that sends an error or
    nothing is left out.

    Raises
    ------
    ProtocolError
        On the first reply that is not what was asked.
    """
    running = RunningSum()
    requests = [addressed(message, order.request) for message in order.messages]
    running.bytes_sent = sum(content_bytes(message) for message in requests)
    for reply in exchange(grid, requests, order.timeout):
        if (vector := running.take(reply, order)) is not None:
            running.add(vector, order)
    return running


@dataclass
class _Segment:
    """One chain: who is still to come, and the last sum that a hospital of it has returned."""

    rest: list[Message]
    vector: EncryptedVector | None = None


def chain(grid: Grid, order: Order) -> RunningSum:
    """Hand the running sum from hospital to hospital; each adds its own ciphertext to it.

    With several segments so many chains run side by side, each over its share of the hospitals,
    and the strategy adds their sums: the last reply comes after hospitals / segments hops. If a
    hospital sends an error or nothing, the next one is handed the sum that it was handed.

    Raises as :func:`fold`.
    """
    running = RunningSum()
    at_work: dict[int, _Segment] = {}

    def ask_next(segment: _Segment) -> Message | None:
        if not segment.rest:
            if segment.vector is not None:
                running.add(segment.vector, order)
            return None
        request = order.request
        if segment.vector is not None and running.layout is not None:
            request = request.continuing(segment.vector.to_bytes(), running.layout.to_json())
        hop = addressed(segment.rest.pop(0), request)
        at_work[hop.metadata.dst_node_id] = segment
        running.bytes_sent += content_bytes(hop)
        return hop

    def hand_on(reply: Message) -> Message | None:
        segment = at_work.pop(reply.metadata.src_node_id)
        if (vector := running.take(reply, order)) is not None:
            segment.vector = vector
        return ask_next(segment)

    segments = [_Segment(order.messages[at :: order.segments]) for at in range(order.segments)]
    firsts = [hop for segment in segments if (hop := ask_next(segment)) is not None]
    for _ in exchange(grid, firsts, order.timeout, hand_on):
        pass
    return running


def addressed(message: Message, request: EncryptionRequest) -> Message:
    """Return the wrapped strategy's message with the encryption request in it.

    The strategy may have given the same content to all of its messages, so it is copied.
    """
    metadata = message.metadata
    return Message(
        request.add_to(message.content),
        metadata.dst_node_id,
        metadata.message_type,
        ttl=metadata.ttl,
        group_id=metadata.group_id,
    )


TOPOLOGIES: dict[str, Callable[[Grid, Order], RunningSum]] = {"fold": fold, "chain": chain}
