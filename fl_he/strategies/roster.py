"""Which nodes take part: one key holder, and hospitals that agree on their features."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, sleep

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_he.crypto.packing import Packing
from fl_he.crypto.public_key import PublicKey
from fl_he.learning.data import first_schema_difference
from fl_he.messages import DESCRIBE, Description, ProtocolError, Role, printable
from fl_he.strategies.exchange import error_reason, exchange

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Roster:
    """The nodes of a run.

    Attributes
    ----------
    key_holder : int
        Node id of company X.
    public_key : PublicKey
        Its key.
    session : str
        Its name for this run.
    hospitals : dict of int to str
        Node ids and names.
    packing : Packing
        The only one in which the key holder opens sums.
    features : tuple of str
        What the hospitals' coefficients stand for; empty where the app does not say.
    simulated : bool
        Whether all nodes live in a simulation.
    """

    key_holder: int
    public_key: PublicKey
    session: str
    hospitals: dict[int, str]
    packing: Packing
    features: tuple[str, ...]
    simulated: bool

    def name(self, node_id: int) -> str:
        """Return the node's name for messages to people."""
        return self.hospitals.get(node_id, "the key holder")


def call_roll(grid: Grid, hospitals: int, node_timeout: float, hop_timeout: float) -> Roster:
    """Ask every node what it is until one key holder and enough hospitals are there.

    Parameters
    ----------
    grid : Grid
    hospitals : int
        How many hospitals are needed.
    node_timeout : float
        Seconds to wait for nodes to connect.
    hop_timeout : float
        Seconds to wait for their answers.

    Raises
    ------
    ProtocolError
        If a node refuses to describe itself, if hospitals' features differ, or if after
        ``node_timeout`` there are too few hospitals or not exactly one key holder.
    """
    described: dict[int, Description] = {}
    deadline = monotonic() + node_timeout
    while True:
        new = [node_id for node_id in grid.get_node_ids() if node_id not in described]
        described.update(_describe(grid, new, hop_timeout))
        holders = [n for n, d in described.items() if d.role is Role.KEY_HOLDER]
        present = {n: d for n, d in described.items() if d.role is Role.HOSPITAL}
        if len(holders) > 1:
            raise ProtocolError(f"a federation must have one key holder, got {len(holders)}")
        if holders and len(present) >= hospitals:
            break
        if monotonic() > deadline:
            raise ProtocolError(
                f"a federation must have {hospitals} hospitals and one key holder, got "
                f"{len(present)} and {len(holders)} after {node_timeout:g} s"
            )
        sleep(_POLL_SECONDS)
    holder = described[holders[0]]
    present = dict(sorted(present.items(), key=lambda item: item[1].name))
    return Roster(
        key_holder=holders[0],
        public_key=PublicKey.from_json(holder.public_key),
        session=holder.session,
        hospitals={n: printable(d.name) for n, d in present.items()},
        packing=Packing.from_json(holder.packing),
        features=_common_features(list(present.values())),
        simulated=all(d.simulated for d in described.values()),
    )


def _describe(grid: Grid, nodes: list[int], timeout: float) -> dict[int, Description]:
    requests = [Message(RecordDict(), node_id, DESCRIBE) for node_id in nodes]
    described = {}
    for reply in exchange(grid, requests, timeout):
        if reply.has_error():
            raise ProtocolError(
                f"a node refused to take part: {error_reason(reply)} (a node that knows no "
                "'describe' runs an app without with_key_holder)"
            )
        described[reply.metadata.src_node_id] = Description.from_content(reply.content)
    return described


def _common_features(hospitals: list[Description]) -> tuple[str, ...]:
    first = hospitals[0]
    for other in hospitals[1:]:
        difference = first_schema_difference(first.features, other.features)
        if difference is not None:
            raise ProtocolError(
                f"hospitals must have the same features: {printable(other.name)} differs from "
                f"{printable(first.name)}: {printable(difference)}"
            )
    return first.features
