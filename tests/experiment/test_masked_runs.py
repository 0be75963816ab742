"""Deployed runs whose hospitals mask pairwise: trained, stopped at a dropout and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deployed_federation import DeployedFederation
from flwr.app import Context, Message, RecordDict
from lost_replies import crash
from quick import slow_but
from sealed_federation import pooled_descent

from fl_he import server_app
from fl_he.config.composition import compose
from fl_he.crypto.schemes import MASKS, SCHEMES
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.strategies.dropouts import DropoutError
from fl_he.wire.records import ProtocolError

HOSPITALS = {"north": 40, "south": 25, "east": 60}
SEALED = ["topology=chain", "sealed=true"]
GD = ["scaling=none", "optimizer=gd", "optimizer.lr=0.5", "C=null", "rounds=3"]
MASKED = "crypto.collusion=resistant"


def masking(folder: Path, *, sealed: bool) -> DeployedFederation:
    federation = DeployedFederation(folder, HOSPITALS, sealed=sealed, alone=False)
    for name in HOSPITALS:
        federation.context(name).node_config["collusion"] = "resistant"
    return federation


@pytest.mark.parametrize("scheme", slow_but(SCHEMES, MASKS))
@pytest.mark.parametrize("kind", ["fold", *slow_but(["sealed", "chain"], "sealed")])
def test_a_masked_run_stops_at_a_dropout_and_goes_on(
    tmp_path: Path, kind: str, scheme: str
) -> None:
    federation = masking(tmp_path, sealed=kind == "sealed")
    overrides = [*(SEALED if kind == "sealed" else [f"topology={kind}"]), *GD, MASKED]
    overrides += [f"crypto.scheme={scheme}", "on_dropout=stop"]
    folder, south, seen = tmp_path / "run", federation.node_id("south"), list[Message]()

    def tamper(reply: Message) -> Message:
        metadata = reply.metadata
        if metadata.message_type.partition(".")[0] != "train" or metadata.src_node_id != south:
            return reply
        seen.append(reply)
        return crash(reply) if len(seen) == 2 else reply

    federation.grid.tamper = tamper
    with pytest.raises((DropoutError, ProtocolError), match="south"):
        server_app.train(federation.grid, compose("config", overrides), folder)
    federation.grid.run_id += 1
    for node_id, old in federation.grid.contexts.items():
        new = Context(federation.grid.run_id, node_id, old.node_config, RecordDict(), {})
        federation.grid.contexts[node_id] = new
    metrics = server_app.train(federation.grid, compose("config", [f"resume={folder}"]), folder)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    assert metrics["crypto"]["masked_set"] == 3
    w, b = pooled_descent(federation.data.values(), 3)
    saved = LogisticModel.load(tmp_path / "models" / "south.json")
    np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)
    assert len(list(tmp_path.glob("south.csv.pairs-*.jsonl"))) == 1


def test_masks_that_hospitals_do_not_have_are_no_promise(tmp_path: Path) -> None:
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed=False)
    config = compose("config", [*GD, MASKED])
    with pytest.raises(ProtocolError, match="set collusion='resistant' in their node"):
        server_app.train(federation.grid, config, tmp_path / "run")


def test_all_hospitals_mask_or_none(tmp_path: Path) -> None:
    federation = masking(tmp_path, sealed=False)
    del federation.context("east").node_config["collusion"]
    with pytest.raises(ProtocolError, match=r"all hospitals must mask .* or none: east does not"):
        server_app.train(federation.grid, compose("config", GD), tmp_path / "run")
