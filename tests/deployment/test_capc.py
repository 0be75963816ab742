"""CaPC over real SuperLink and SuperNode processes, each message in a separate process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from capc_nodes import ANSWERING, QUERYING, capc_nodes, majority
from federation_processes import PATIENCE, Processes

CASES = np.array([[20.0, 1.0], [90.0, 4.5], [55.5, 2.25], [40.0, 3.0]])

pytestmark = [pytest.mark.slow, pytest.mark.waits, pytest.mark.xdist_group("federation")]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    settings = {
        str(node["name"]): " ".join(f"{key}={json.dumps(value)}" for key, value in node.items())
        for node in capc_nodes(tmp_path, CASES, epsilon=4000.0)
    }
    processes = Processes(tmp_path, settings)
    yield processes
    processes.stop()


def test_labels_are_the_majority_and_stay_on_the_querying_partys_disk(processes: Processes) -> None:
    folder = processes.folder / "run"
    capc = ("experiment=capc_breast_cancer", "hospitals=4", "topology=chain", "capc.queries=4")
    metrics = processes.finish(folder, processes.run(*capc, f"output_dir={folder}"))
    labels = (processes.folder / QUERYING / "labels.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in labels[1:]] == majority(CASES)
    querying = metrics["querying"]
    assert isinstance(querying, list)
    (result,) = querying
    assert {key for key, value in result.items() if value is not None} == {"party", "queries"}
    for name in ANSWERING:
        ledger = (processes.folder / name / "voting.jsonl").read_text().splitlines()
        begun, answered = map(json.loads, ledger)
        assert (answered["queries"], answered["session"]) == (4, begun["begun"])
    # No case is left: the next run is refused because of the files on the nodes' disks.
    again = processes.run(*capc, f"output_dir={folder}-2")
    again.wait(PATIENCE)
    assert "no party has open cases" in processes.log("run")
