"""One step of CaPC: messages out, replies in, and what it has cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.protocol import CapcStep
from fl_he.strategies.exchange import exchange
from fl_he.strategies.skipping import read_reply
from fl_he.wire.encrypted_sum import content_bytes
from fl_he.wire.records import refused_as


@dataclass(slots=True)
class StepCost:
    """What one step has cost.

    Attributes
    ----------
    step : str
    hops : int
        How often messages went out and came back for it.
    seconds : float
        Wall time from sending to the last reply.
    node_seconds : float
        CPU time of all nodes.
    bytes_sent : int
        Both ways.
    """

    step: str
    hops: int = 0
    seconds: float = 0.0
    node_seconds: float = 0.0
    bytes_sent: int = 0


class Steps:
    """Takes steps over a grid.

    Parameters
    ----------
    grid : Grid
    timeout : float
        Seconds that a node has for one step.
    on_step : callable
        Called with each step's name when it is done.

    Attributes
    ----------
    costs : dict of CapcStep to StepCost
    """

    def __init__(self, grid: Grid, timeout: float, on_step: Callable[[str], None]) -> None:
        self.grid = grid
        self._timeout = timeout
        self.costs: dict[CapcStep, StepCost] = {}
        self._on_step = on_step

    def take(
        self, step: CapcStep, requests: Mapping[int, CapcRequest], name: Callable[[int], str]
    ) -> dict[int, CapcReply]:
        """Send a step to nodes and return their replies.

        Parameters
        ----------
        step : CapcStep
        requests : mapping of int to CapcRequest
            By node id.
        name : callable
            Returns a node's name for messages to people.

        Raises
        ------
        ProtocolError
            On the first node that refuses, does not answer or sends something else.
        """
        start = perf_counter()
        cost = self.costs.setdefault(step, StepCost(step.value))
        messages = [
            Message(request.to_content(), node, step.value) for node, request in requests.items()
        ]
        cost.hops += 1
        cost.bytes_sent += sum(content_bytes(message) for message in messages)
        replies: dict[int, CapcReply] = {}
        for message in exchange(self.grid, messages, self._timeout):
            node = message.metadata.src_node_id
            cost.bytes_sent += content_bytes(message)
            with refused_as(f"{name(node)}:"):
                replies[node] = read_reply(message, CapcReply)
            cost.node_seconds += replies[node].seconds
        cost.seconds += perf_counter() - start
        self._on_step(step.value)
        return replies
