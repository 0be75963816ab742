"""A hospital with a cell that does not fit: the run stops, is mended and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deployed_federation import DeployedFederation
from flwr.app import Context, RecordDict
from sealed_federation import pooled_descent

from fl_he import server_app
from fl_he.config.composition import compose
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.run_files.checkpoint import load_checkpoint
from fl_he.strategies.encrypted_sum import MisfitError

HOSPITALS = {"north": 40, "south": 25, "east": 60}
WORDS = "some hospitals had values that did not fit; see their logs"
SEALED = ["topology=chain", "sealed=true"]
GD = ["scaling=none", "optimizer=gd", "optimizer.lr=0.5", "C=null", "rounds=3"]


@pytest.mark.parametrize("kind", ["fold", "chain", "sealed"])
@pytest.mark.parametrize("rounds", [0, 2])
def test_a_run_stops_is_mended_and_goes_on(
    tmp_path: Path, kind: str, rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed=kind == "sealed")
    overrides = [*(SEALED if kind == "sealed" else [f"topology={kind}"]), *GD]
    folder, table = tmp_path / "run", federation.table("south")
    good = table.read_text()

    def spoil(_: object = None) -> None:
        header, row, *rest = good.split("\n")
        table.write_text("\n".join([header, f"1e308,{row.partition(',')[2]}", *rest]))

    def after(event: object) -> None:
        if getattr(event, "entry", {}).get("round") == rounds:
            spoil()

    if rounds == 0:
        spoil()
    for _ in range(2):  # one that is not mended is resumed in vain
        resume = [f"resume={folder}"] if (folder / "checkpoint.json").exists() else []
        config = compose("config", [*overrides, *resume])
        with pytest.raises(MisfitError) as caught:
            server_app.train(federation.grid, config, folder, after)
        assert str(caught.value) == WORDS
        restart(federation)
    assert "of column 'age', does not fit its slot" in caplog.text
    assert len(load_checkpoint(folder, compose("config", [f"resume={folder}"])).rounds) == rounds
    table.write_text(good)
    metrics = server_app.train(federation.grid, compose("config", [f"resume={folder}"]), folder)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    w, b = pooled_descent(federation.data.values(), 3)
    saved = LogisticModel.load(tmp_path / "models" / "south.json")
    np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)


def restart(federation: DeployedFederation) -> None:
    """Begin another Flower run: nodes have what is on their disks."""
    federation.grid.run_id += 1
    for node_id, old in federation.grid.contexts.items():
        new = Context(federation.grid.run_id, node_id, old.node_config, RecordDict(), {})
        federation.grid.contexts[node_id] = new
