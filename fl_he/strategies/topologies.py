"""How an encrypted sum comes about: fold in the strategy, or chain from node to node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from time import perf_counter

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.strategies.exchange import exchange
from fl_he.wire.encrypted_sum import content_bytes

AUTO = "auto"


class RunningSum(ABC):
    """An encrypted sum in the making, and what it has cost so far.

    Subclasses know what is summed: what a contributor is asked and how its reply is read.

    Attributes
    ----------
    vector : EncryptedVector or None
    bytes_sent : int
        Size of all messages, both ways.
    add_seconds : float
        What the additions took.
    """

    def __init__(self, public_key: PublicKey) -> None:
        self.vector: EncryptedVector | None = None
        self.bytes_sent = 0
        self.add_seconds = 0.0
        self._public_key = public_key

    @abstractmethod
    def ask(self, message: Message, handed: EncryptedVector | None) -> Message:
        """Return what a contributor is sent, with the sum that it is to add to, if any."""

    @abstractmethod
    def take(self, reply: Message) -> EncryptedVector | None:
        """Check a contributor's reply; None for one that is skipped."""

    def add(self, vector: EncryptedVector) -> None:
        """Add ciphertexts to the sum, in place."""
        start = perf_counter()
        if self.vector is None:
            self.vector = vector
        else:
            self.vector.add_in_place(vector, self._public_key)
        self.add_seconds += perf_counter() - start


@dataclass(frozen=True)
class Order:
    """Who contributes, and how.

    Attributes
    ----------
    messages : list of Message
        One for each contributor.
    timeout : float
        Seconds to wait for the reply to each message.
    segments : int
        How many chains run side by side, at least 1.
    """

    messages: list[Message]
    timeout: float
    segments: int = 1


def fold(grid: Grid, order: Order, running: RunningSum) -> None:
    """Ask all contributors at once; add their ciphertexts one after another as they arrive.

    Holds one running sum whatever their number. One that sends an error or nothing is left out.

    Raises
    ------
    ProtocolError
        On the first reply that is not what was asked.
    """
    requests = [running.ask(message, None) for message in order.messages]
    running.bytes_sent += sum(content_bytes(message) for message in requests)
    for reply in exchange(grid, requests, order.timeout):
        if (vector := running.take(reply)) is not None:
            running.add(vector)


@dataclass
class _Segment:
    """One chain: who is still to come, and the last sum that a contributor of it has returned."""

    rest: list[Message]
    vector: EncryptedVector | None = None


def chain(grid: Grid, order: Order, running: RunningSum) -> None:
    """Hand the running sum from node to node; each adds its own ciphertext to it.

    With several segments so many chains run side by side, each over its share of the contributors,
    and the strategy adds their sums: the last reply comes after contributors / segments hops. If
    one sends an error or nothing, the next one is handed the sum that it was handed.

    Raises as :func:`fold`.
    """
    at_work: dict[int, _Segment] = {}

    def ask_next(segment: _Segment) -> Message | None:
        if not segment.rest:
            if segment.vector is not None:
                running.add(segment.vector)
            return None
        hop = running.ask(segment.rest.pop(0), segment.vector)
        at_work[hop.metadata.dst_node_id] = segment
        running.bytes_sent += content_bytes(hop)
        return hop

    def hand_on(reply: Message) -> Message | None:
        segment = at_work.pop(reply.metadata.src_node_id)
        if (vector := running.take(reply)) is not None:
            segment.vector = vector
        return ask_next(segment)

    segments = [_Segment(order.messages[at :: order.segments]) for at in range(order.segments)]
    firsts = [hop for segment in segments if (hop := ask_next(segment)) is not None]
    for _ in exchange(grid, firsts, order.timeout, hand_on):
        pass


def segments_of(segments: int | str, contributors: int) -> int:
    """Return how many chains are meant: ``"auto"`` is about the square root of the contributors."""
    return isqrt(contributors) if segments == AUTO else int(segments)


TOPOLOGIES: dict[str, Callable[[Grid, Order, RunningSum], None]] = {"fold": fold, "chain": chain}
