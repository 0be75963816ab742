"""A hospital with a cell that does not fit, or that drops out: the run stops and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployed_federation import DeployedFederation
from experiments import experiment
from flwr.app import Context, RecordDict
from local_grid import LocalGrid, simulated_nodes
from quick import slow, slow_but
from reply_forms import form_of
from sealed_federation import COMPANY, Federation, pooled_descent
from sealed_steps import Steps

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.crypto.schemes import MASKS, SCHEMES
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.run_files.checkpoint import load_checkpoint
from fl_he.strategies.opened_sum import MisfitError
from fl_he.wire.encrypted_sum import DECRYPT, DecryptRequest
from fl_he.wire.permission import PERMIT, PERMIT_SEALED, PermitRequest, SealedPermitRequest
from fl_he.wire.records import ENCRYPTED_STYPE, ENVELOPE_STYPE, ProtocolError
from fl_he.wire.sealed_messages import OPEN, OpenRequest

HOSPITALS = {"north": 40, "south": 25, "east": 60}
WORDS = "at some hospitals the app failed, or a value did not fit; see their logs"
SEALED = ["topology=chain", "sealed=true"]
GD = ["scaling=none", "optimizer=gd", "optimizer.lr=0.5", "C=null", "rounds=3"]


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("fold", 0),
        *slow(("fold", 2), ("chain", 0), ("chain", 2), ("sealed", 0), ("sealed", 2)),
    ],
)
def test_a_run_stops_is_mended_and_goes_on(
    tmp_path: Path, kind: str, rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed=kind == "sealed")
    overrides = [*(SEALED if kind == "sealed" else [f"topology={kind}"]), *GD]
    folder, table = tmp_path / "run", federation.table("south")
    good = table.read_text()

    def spoil(_: object = None) -> None:
        header, row, *rest = good.split("\n")
        change("\n".join([header, f"1e308,{row.partition(',')[2]}", *rest]))

    def change(text: str) -> None:
        """Write a table whose rows differ in one, and forget the earlier ones as operators do."""
        table.write_text(text)
        table.with_name(f"{table.name}.rows").unlink(missing_ok=True)

    def after(event: object) -> None:
        if getattr(event, "entry", {}).get("round") == rounds:
            spoil()

    if rounds == 0:
        spoil()
    for _ in range(2):  # resuming is in vain until the cell is fixed
        resume = [f"resume={folder}"] if (folder / "checkpoint.json").exists() else []
        config = compose("config", [*overrides, *resume])
        with pytest.raises(MisfitError) as caught:
            server_app.train(federation.grid, config, folder, after)
        assert str(caught.value) == WORDS
        restart(federation)
    assert "of column 'age', does not fit its slot" in caplog.text
    assert kind == "sealed" or all(len(seen) == 1 for seen in forms(federation).values())
    assert len(load_checkpoint(folder, compose("config", [f"resume={folder}"])).rounds) == rounds
    change(good)
    metrics = server_app.train(federation.grid, compose("config", [f"resume={folder}"]), folder)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    w, b = pooled_descent(federation.data.values(), 3)
    saved = LogisticModel.load(tmp_path / "models" / "south.json")
    np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)


@pytest.mark.parametrize("scheme", slow_but(SCHEMES, MASKS))
@pytest.mark.parametrize("kind", ["fold", "sealed", *slow(("chain",))])
def test_a_run_stops_at_a_dropout_and_goes_on(tmp_path: Path, kind: str, scheme: str) -> None:
    """Company X refuses the total of the others, and is never sent their sum.

    Else it would have two sums of round 2, whose difference is south's update.

    With on_dropout=wait the run stops before: waiting does not cure a refusal.
    """
    hospitals = {**HOSPITALS, "west": 30}
    federation = DeployedFederation(tmp_path, hospitals, sealed=kind == "sealed", alone=False)
    overrides = [*(SEALED if kind == "sealed" else [f"topology={kind}"]), *GD]
    overrides.append(f"crypto.scheme={scheme}")
    folder, table = tmp_path / "run", federation.table("south")
    good = table.read_text()

    def after(event: object) -> None:
        if getattr(event, "entry", {}).get("round") == 1:
            table.write_text(good.rpartition("\n")[0])

    # While it is away, the run is resumed in vain.
    for way in ("continue", "continue", "wait"):
        resume = [f"resume={folder}"] if (folder / "checkpoint.json").exists() else []
        config = compose("config", [*overrides, "hospitals=4", f"on_dropout={way}", *resume])
        words = {
            "continue": "these 3 hospitals would expose south: fewer",
            "wait": "with on_dropout=wait no total is opened without south: this node refused",
        }
        with pytest.raises(ProtocolError, match=words[way]) as stopped:
            server_app.train(federation.grid, config, folder, after)
        assert f"resume={folder} continues the run" in "".join(stopped.value.__notes__)
        restart(federation)
    table.write_text(good)
    metrics = server_app.train(federation.grid, compose("config", [f"resume={folder}"]), folder)
    assert [entry["contributors"] for entry in metrics["rounds"]] == [4, 4, 4]
    asked, sent = company_x_was_handed(federation)
    # A sealed chain keeps the hospitals of its last total.
    first = [] if kind == "sealed" else [4]
    assert (asked, sent) == ([4, 3, 3, *first], [4, 4, 4])
    w, b = pooled_descent(federation.data.values(), 3)
    saved = LogisticModel.load(tmp_path / "models" / "south.json")
    np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", slow_but(SCHEMES, MASKS))
@pytest.mark.parametrize("kind", ["fold", "sealed"])
def test_company_x_is_asked_only_where_the_set_changes(
    tmp_path: Path, kind: str, scheme: str
) -> None:
    """Hospitals that allow it may be left out."""
    for drops, handed in ((False, ([4], [4, 4, 4])), (True, ([4, 3], [4, 3, 3]))):
        (place := tmp_path / str(drops)).mkdir()
        federation = DeployedFederation(place, {**HOSPITALS, "west": 30}, sealed=kind == "sealed")
        overrides = [*(SEALED if kind == "sealed" else [f"topology={kind}"]), *GD]
        overrides += [f"crypto.scheme={scheme}", "hospitals=4", "on_dropout=continue"]
        table = federation.table("south")

        def after(event: object, table: Path = table, drops: bool = drops) -> None:
            if drops and getattr(event, "entry", {}).get("round") == 1:
                table.write_text(table.read_text().rpartition("\n")[0])

        server_app.train(federation.grid, compose("config", overrides), place / "run", after)
        assert company_x_was_handed(federation) == handed


@pytest.mark.parametrize("kind", ["fold", "sealed"])
def test_a_study_before_it_without_a_hospital(tmp_path: Path, kind: str) -> None:
    """The first sum of a run, of all hospitals, would expose the one that was away then."""
    federation = DeployedFederation(
        tmp_path, {**HOSPITALS, "west": 30}, sealed=kind == "sealed", alone=False
    )
    overrides = [*(SEALED if kind == "sealed" else [f"topology={kind}"]), *GD]
    overrides += ["hospitals=3", "on_dropout=continue"]
    away = federation.grid.leave(federation.node_id("south"))
    server_app.train(federation.grid, compose("config", overrides), tmp_path / "run")
    assert company_x_was_handed(federation) == ([3], [3, 3, 3])
    federation.grid.contexts[away.node_id] = away
    restart(federation)
    federation.move_models()
    with pytest.raises(ProtocolError, match="these 4 hospitals would expose south: fewer"):
        server_app.train(federation.grid, compose("config", overrides), tmp_path / "other")
    assert company_x_was_handed(federation) == ([3, 4], [3, 3, 3])
    if kind == "sealed":
        kept = load_checkpoint(tmp_path / "other").sealed
        assert kept is not None
        assert kept["unopened"] is None
    else:
        assert not (tmp_path / "other" / "checkpoint.json").exists()


def test_an_envelope_is_as_long_whatever_is_in_it(tmp_path: Path) -> None:
    """Its length depends on the contributors' names."""
    found = []
    for value in (1.0, 1e308):
        folder = tmp_path / str(value)
        folder.mkdir()
        federation = Federation(folder, HOSPITALS)
        south = federation.data["south"]
        features = np.where(np.arange(len(south.features))[:, None], south.features, value)
        federation.data["south"] = replace(south, features=features)
        steps = Steps(federation)
        steps.start()
        found.append(len(steps.chain(1, ["north", "south", "east"])))
    assert len(set(found)) == 1


def forms(federation: DeployedFederation) -> dict[int, set[str]]:
    """Return the coordinator's view of each hospital's replies to training."""
    found: dict[int, set[str]] = {}
    for reply in federation.grid.received:
        if reply.metadata.message_type == "train" and reply.has_content():
            found.setdefault(reply.metadata.src_node_id, set()).add(str(form_of(reply)))
    return found


def company_x_was_handed(federation: DeployedFederation) -> tuple[list[int], list[int]]:
    """Return how many contributors each question and each sum to company X had."""
    asked: list[int] = []
    sent: list[int] = []
    for message in federation.grid.sent:
        action, content = message.metadata.message_type, message.content
        if message.metadata.dst_node_id != federation.node_id(COMPANY):
            continue
        if action == PERMIT:
            asked.append(len(PermitRequest.from_content(content).tickets))
        elif action == PERMIT_SEALED:
            asked.append(SealedPermitRequest.from_content(content).contributors)
        elif action == DECRYPT:
            sent.append(DecryptRequest.from_content(content).contributors)
        elif action == OPEN:
            sent.append(len(OpenRequest.from_content(content).contributors))
        else:
            types = {a.stype for record in content.array_records.values() for a in record.values()}
            assert not types & {ENCRYPTED_STYPE, ENVELOPE_STYPE}
    return asked, sent


def restart(federation: DeployedFederation) -> None:
    """Begin another Flower run: nodes keep only the files on their disks."""
    federation.grid.run_id += 1
    for node_id, old in federation.grid.contexts.items():
        new = Context(federation.grid.run_id, node_id, old.node_config, RecordDict(), {})
        federation.grid.contexts[node_id] = new


def test_a_simulation_with_too_few_bits_is_started_anew(tmp_path: Path) -> None:
    """Resumed it would have the same bits, so nobody is sent there."""
    config = experiment("rounds=2", "crypto.integer_bits=6", "C=1", folder=tmp_path)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    with pytest.raises(MisfitError, match=r"num-examples.*crypto\.integer_bits") as stopped:
        server_app.train(grid, config, tmp_path)
    (note,) = stopped.value.__notes__
    assert note == "a resumed run keeps its settings: start a new one, in another folder"
    assert (tmp_path / "checkpoint.json").exists()
