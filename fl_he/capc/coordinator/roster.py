"""Who takes part in CaPC: the parties, the privacy guardian, and what deployed nodes agreed on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic, sleep

from fl_he.capc.agreement import Agreement
from fl_he.capc.coordinator.steps import Steps
from fl_he.capc.messages import NO_SESSION, CapcReply, CapcRequest
from fl_he.capc.protocol import CapcStep
from fl_he.wire.encrypted_sum import Role, printable
from fl_he.wire.records import ProtocolError

#: The guardian's name for people, whatever the node calls itself.
GUARDIAN = "the privacy guardian"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CapcRoster:
    """The nodes of a CaPC run.

    Attributes
    ----------
    guardian : int
        Node id of the privacy guardian.
    parties : dict of int to str
        Node ids and names of the parties.
    described : dict of int to CapcReply
        What each node has said of itself.
    agreement : Agreement or None
        What deployed nodes have agreed on; None in a simulation.
    """

    guardian: int
    parties: dict[int, str]
    described: dict[int, CapcReply] = field(repr=False)
    agreement: Agreement | None

    def name(self, node: int) -> str:
        """Return a node's name for messages to people."""
        return self.parties.get(node, GUARDIAN)

    def answering(self, querying: int) -> dict[int, str]:
        """Return the parties that answer another's queries."""
        return {
            node: name
            for node, name in self.parties.items()
            if node != querying and self.described[node].answers
        }


def call_roll(steps: Steps, parties: int, node_timeout: float) -> CapcRoster:
    """Ask all nodes for name and role.

    Parameters
    ----------
    steps : Steps
    parties : int
        How many must be there, beside the privacy guardian.
    node_timeout : float
        Seconds to wait for nodes to connect.

    Raises
    ------
    ProtocolError
        If there are not exactly so many parties and one guardian, or they have not agreed on the
        same.
    """
    deadline = monotonic() + node_timeout
    while len(nodes := list(steps.grid.get_node_ids())) < parties + 1:
        if monotonic() > deadline:
            raise ProtocolError(
                f"CaPC must have {parties} parties and a guardian, got {len(nodes)} nodes"
            )
        sleep(_POLL_SECONDS)
    requests = dict.fromkeys(nodes, CapcRequest(NO_SESSION, 1))
    described = steps.take(CapcStep.DESCRIBE, requests, lambda node: f"node {node}")
    guardians = [node for node, reply in described.items() if reply.role == Role.KEY_HOLDER]
    names = {
        node: printable(reply.name)
        for node, reply in sorted(described.items())
        if reply.role == Role.HOSPITAL
    }
    different = len({*names.values()} - {GUARDIAN})
    if len(guardians) != 1 or not different == len(names) == parties:
        raise ProtocolError(
            f"CaPC must have {parties} parties of different names and a guardian, got "
            f"{different} and {len(guardians)}"
        )
    return CapcRoster(guardians[0], names, described, _agreed(described.values()))


def _agreed(replies: Iterable[CapcReply]) -> Agreement | None:
    texts = {reply.agreement for reply in replies}
    if len(texts) != 1:
        raise ProtocolError(
            f"all nodes of CaPC must have the same agreement, got {len(texts)} different ones: "
            "compare what `fl-he show` prints of them"
        )
    text = texts.pop()
    return Agreement.from_json(text) if text else None
