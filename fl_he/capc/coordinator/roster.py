"""Participants of CaPC, and their steps one at a time: messages out, replies in, the cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic, perf_counter, sleep

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.capc.agreement import Agreement
from fl_he.capc.messages import MANIFEST, NO_SESSION, CapcReply, CapcRequest
from fl_he.capc.protocol import CapcStep
from fl_he.strategies.exchange import exchange
from fl_he.strategies.pairing import carried, shared_manifest
from fl_he.strategies.skipping import read_reply
from fl_he.wire.encrypted_sum import Role, content_bytes, printable
from fl_he.wire.records import ProtocolError, refused_as

#: The guardian's name for people, not the node's own.
GUARDIAN = "the privacy guardian"
_POLL_SECONDS = 0.2


@dataclass(slots=True)
class StepCost:
    """Cost of one step.

    Attributes
    ----------
    step : str
    hops : int
        How often messages went out and came back for it.
    seconds : float
        Wall time from sending to the last reply.
    node_seconds : float or None
        CPU time of all nodes; None if one of them does not say.
    bytes_sent : int
        Both ways.
    """

    step: str
    hops: int = 0
    seconds: float = 0.0
    node_seconds: float | None = 0.0
    bytes_sent: int = 0


class CapcRoster:
    """The nodes of a CaPC run, which are asked for name and role first.

    Parameters
    ----------
    grid : Grid
    parties : int
        Number of parties, without the privacy guardian.
    timeout : float
        Seconds that a node has for one step.
    node_timeout : float
        Seconds to wait for nodes to connect.
    on_step : callable
        Called with each step's name when it is done.

    Attributes
    ----------
    names : dict of int to str
        Names of the parties and of the guardian, by their node ids.
    parties : dict of str to CapcReply
        What each party has said of itself, by its name.
    agreement : Agreement or None
        What deployed nodes have agreed on; None in a simulation.
    masked_set : tuple of str
        Names of the parties that mask their votes for each other; empty where they do not.
    costs : dict of CapcStep to StepCost
        What each step has cost so far.

    Raises
    ------
    ProtocolError
        If there are not exactly this many parties and one guardian, or they have not agreed on the
        same.
    """

    def __init__(
        self,
        grid: Grid,
        parties: int,
        *,
        timeout: float = 600.0,
        node_timeout: float = 120.0,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._grid, self._timeout, self._on_step = grid, timeout, on_step
        self.costs: dict[CapcStep, StepCost] = {}
        deadline = monotonic() + node_timeout
        while len(nodes := list(grid.get_node_ids())) < parties + 1:
            if monotonic() > deadline:
                raise ProtocolError(
                    f"CaPC must have {parties} parties and a guardian, got {len(nodes)} nodes"
                )
            sleep(_POLL_SECONDS)
        self.names = {node: f"node {node}" for node in sorted(nodes)}
        request = CapcRequest(NO_SESSION, 1)
        described = self.take(CapcStep.DESCRIBE, dict.fromkeys(self.names.values(), request))
        replies = [(node, described[name]) for node, name in self.names.items()]
        guardians = [node for node, reply in replies if reply.role == Role.KEY_HOLDER]
        hospitals = [(node, reply) for node, reply in replies if reply.role == Role.HOSPITAL]
        self.parties = {printable(reply.name): reply for _, reply in hospitals}
        different = len(self.parties.keys() - {GUARDIAN})
        if len(guardians) != 1 or not different == len(hospitals) == parties:
            raise ProtocolError(
                f"CaPC must have {parties} parties of different names and a guardian, got "
                f"{different} and {len(guardians)}"
            )
        self.names = {node: printable(reply.name) for node, reply in hospitals}
        self.names[guardians[0]] = GUARDIAN
        texts = {reply.agreement for reply in described.values()}
        if len(texts) != 1:
            raise ProtocolError(
                f"all nodes of CaPC must have the same agreement, got {len(texts)} different ones: "
                "compare what `fl-he show` prints of them"
            )
        (text,) = texts
        self.agreement = Agreement.from_json(text) if text else None
        self.masked_set = self._masked_set()
        if self.masked_set:
            self._exchange_seeds(described.values())

    def _masked_set(self) -> tuple[str, ...]:
        """Return the parties that mask their votes for each other: all that answer, or none."""
        answering = {name: one.resistant for name, one in self.parties.items() if one.answers}
        if others := [name for name in answering if not answering[name]]:
            if len(others) < len(answering):
                raise ProtocolError(
                    "all parties that answer must mask their votes (collusion='resistant' in the "
                    f"node configuration), or none: {', '.join(others)} does not"
                )
            return ()
        return tuple(answering)

    def _exchange_seeds(self, described: Iterable[CapcReply]) -> None:
        """Carry each party's halves of seeds to the others; see `fl_he.strategies.pairing`."""
        call = CapcRequest(NO_SESSION, 1, answering=self.masked_set)
        if self.agreement is None:
            manifest = shared_manifest(one.identity for one in described)
            call = replace(call, keys={MANIFEST: manifest})
        sealed = self.take(CapcStep.SEEDS, dict.fromkeys(self.masked_set, call))
        brought = carried({name: reply.parts for name, reply in sealed.items()})
        self.take(CapcStep.PAIR, {n: replace(call, parts=parts) for n, parts in brought.items()})

    def answering(self, querying: str) -> tuple[str, ...]:
        """Return the parties that answer another's queries."""
        return tuple(n for n, reply in self.parties.items() if n != querying and reply.answers)

    def take(self, step: CapcStep, requests: Mapping[str, CapcRequest]) -> dict[str, CapcReply]:
        """Send a step to nodes, each by its name, and return their replies.

        Raises
        ------
        ProtocolError
            On the first node that refuses, does not answer or sends something else.
        """
        start = perf_counter()
        cost = self.costs.setdefault(step, StepCost(step.value))
        ids = {name: node for node, name in self.names.items()}
        messages = [
            Message(request.to_content(), ids[name], step.value)
            for name, request in requests.items()
        ]
        cost.hops += 1
        cost.bytes_sent += sum(content_bytes(message) for message in messages)
        replies: dict[str, CapcReply] = {}
        for message in exchange(self._grid, messages, self._timeout):
            name = self.names[message.metadata.src_node_id]
            cost.bytes_sent += content_bytes(message)
            with refused_as(f"{name}:"):
                replies[name] = read_reply(message, CapcReply)
            told = replies[name].seconds
            if cost.node_seconds is not None:
                cost.node_seconds = None if told is None else cost.node_seconds + told
        cost.seconds += perf_counter() - start
        self._on_step(step.value)
        return replies
