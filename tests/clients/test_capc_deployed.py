"""CaPC on deployed nodes, whose files are on this disk and whose messages a test may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from capc_nodes import QUERYING, capc_nodes, majority
from flwr.clientapp import ClientApp
from local_grid import LocalGrid

from fl_he.clients.capc import with_capc
from fl_he.clients.capc_party import Party
from fl_he.strategies.capc import CaPC

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

CASES = np.array([[20.0, 1.0], [90.0, 4.5], [55.5, 2.25], [40.0, 3.0]])


def no_party(context: object) -> Party:
    raise AssertionError("a deployed node must be asked for its own files alone")


class Deployed:
    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        self.nodes = capc_nodes(folder, CASES, **changes)
        self.grid = LocalGrid(with_capc(ClientApp(), no_party), self.nodes)

    def protocol(self) -> CaPC:
        return CaPC(self.grid, 4, threshold=False, topology="chain")

    def ask(self, queries: int) -> None:
        protocol = self.protocol()
        protocol.ask(protocol.parties[QUERYING], queries)

    @property
    def labels(self) -> list[str]:
        lines = (self.folder / QUERYING / "labels.csv").read_text().splitlines()
        assert lines[0] == "age,size,label"
        return [line.rpartition(",")[2] for line in lines[1:]]


def test_the_querying_party_gets_the_majority_label_on_its_own_disk(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path)
    deployed.ask(3)
    assert deployed.labels == majority(CASES)[:3]
    assert set(deployed.labels) == {"well", "sick"}
    deployed.ask(1)
    assert deployed.labels == majority(CASES), "the next run asks about what is left"
