"""CaPC on deployed nodes, whose files are on this disk and whose messages a coordinator changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from capc_nodes import ANSWERING, QUERYING, capc_nodes
from flwr.app import Context
from flwr.clientapp import ClientApp
from local_grid import LocalGrid

from fl_he.capc.coordinator.roster import CapcRoster
from fl_he.capc.coordinator.rounds import CaPC
from fl_he.capc.messages import CapcRequest
from fl_he.capc.node.app import Capc
from fl_he.capc.node.party import Party
from fl_he.capc.protocol import CapcStep
from fl_he.clients.node.app import NodeApp

CASES = np.array([[20.0, 1.0], [90.0, 4.5], [55.5, 2.25], [40.0, 3.0]])

Change = Callable[[CapcStep, str, CapcRequest], CapcRequest]


def no_party(context: Context) -> Party:
    raise AssertionError("a deployed node must be asked for its own files alone")


class Coordinator(LocalGrid):
    """Changes requests on their way to a node."""

    change: Change = staticmethod(lambda step, name, request: request)

    def push_messages(self, messages: Any) -> Any:
        listed = list(messages)
        for message in listed:
            node = message.metadata.dst_node_id
            name = str(self.contexts[node].node_config["name"])
            step = CapcStep(message.metadata.message_type)
            request = self.change(step, name, CapcRequest.from_content(message.content))
            message.content = request.to_content()
        return super().push_messages(listed)


class Deployed:
    """Nodes on this disk. A new object on the same folder acts as restarted nodes.

    With ``masked`` answering parties mask their votes pairwise. ``changes`` are those of the
    agreement.
    """

    def __init__(self, folder: Path, *, masked: bool = False, **changes: Any) -> None:
        self.folder = folder
        self.nodes = capc_nodes(folder, CASES, **changes)
        for node in self.nodes if masked else ():
            if node["name"] in ANSWERING:
                node |= {"collusion": "resistant", "masked-set": len(ANSWERING)}
        self.restart()

    def restart(self) -> None:
        self.grid = Coordinator(NodeApp.of(ClientApp(), Capc(no_party)), self.nodes)

    def ask(self, queries: int, **settings: Any) -> None:
        chosen = {"topology": "chain", **settings}
        protocol = CaPC(CapcRoster(self.grid, len(self.nodes) - 1), **chosen)
        protocol.ask(QUERYING, queries)

    def own(self, name: str) -> Any:
        return next(node for node in self.nodes if node["name"] == name)

    def node(self, name: str) -> int:
        found = self.grid.contexts.items()
        return next(node for node, context in found if context.node_config["name"] == name)

    @property
    def labels(self) -> list[str]:
        lines = (self.folder / QUERYING / "labels.csv").read_text().splitlines()
        assert lines[0] == "age,size,label"
        return [line.rpartition(",")[2] for line in lines[1:]]

    def require_no_label(self) -> None:
        assert not (self.folder / QUERYING / "labels.csv").exists()
