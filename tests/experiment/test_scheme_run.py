"""Whole deployed runs with masks: the models are those of Paillier, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_federation import DeployedFederation
from deployed_nodes import deployed_nodes, enrolled_nodes
from flwr.app import Message, RecordDict
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from masked_transcripts import schemes_in, sums_in
from quick import release, slow
from sealed_federation import Federation, pooled_descent
from study_plans import PLAN

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.learning.regression.evaluation import BINS
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.wire.encrypted_sum import DECRYPT, DESCRIBE, DecryptReply, Description
from fl_he.wire.records import ProtocolError

HOSPITALS = {"north": 40, "south": 25, "east": 60}
GD = ("optimizer=gd", "optimizer.lr=0.5", "scaling=none", "C=null", "rounds=3")
WITH_FIRTH: dict[str, Any] = {"penalty": "firth", "C": (None,), "optimizers": ("newton",), "lr": ()}


def key_of(messages: list[Message]) -> PublicKey:
    described = (
        Description.from_content(message.content)
        for message in messages
        if message.metadata.message_type == DESCRIBE and "fl-he" in message.content
    )
    return next(PublicKey.from_json(one.public_key) for one in described if one.public_key)


def trained(federation: Federation, folder: Path, *overrides: str) -> dict[str, Any]:
    """Run on nodes that have forgotten Flower's state; return the metrics."""
    federation.move_models()
    for context in federation.grid.contexts.values():
        context.state, context.run_id = RecordDict(), context.run_id + 1
    return server_app.train(federation.grid, compose("config", [*GD, *overrides]), folder)


@pytest.mark.parametrize(
    "topology",
    [
        ("topology=fold",),
        ("topology=chain",),
        *slow((("topology=chain", "segments=auto"),)),
        ("topology=chain", "sealed=true"),
    ],
    ids=str,
)
def test_hospitals_have_the_model_of_the_pooled_data(
    tmp_path: Path, topology: tuple[str, ...]
) -> None:
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed="sealed=true" in topology)
    models: dict[str, list[str]] = {}
    for scheme in SCHEMES:
        seen = len(federation.grid.received)
        settings = (*topology, f"crypto.scheme={scheme}")
        metrics = trained(federation, tmp_path / scheme, *settings)
        assert metrics["crypto"]["scheme"] == scheme
        models[scheme] = [federation.model(name).read_text() for name in HOSPITALS]
        received = federation.grid.received[seen:]
        made = sums_in(received)
        if federation.sealed:
            states = [federation.state(name).contribution for name in HOSPITALS]
            made = [last.running_sum.vector for last in states if last is not None]
        vectors = [TicketedSum.from_bytes(one, key_of(received)).vector for one in made]
        assert {(vector.scheme, vector.tagged) for vector in vectors} == {(scheme, True)}
        assert metrics["crypto"]["ciphertexts_per_update"] == 1
        assert {vector.nbytes for vector in vectors} == {metrics["crypto"]["bytes_per_update"]}
    assert models[MASKS] == models[PAILLIER], "bit for bit"
    w, b = pooled_descent(federation.data.values(), 3)
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "overrides"),
    [
        *slow(
            (
                {"scaling": "federated", "class_weights": "balanced", "bins": BINS},
                ("optimizer=newton", "class_weight=balanced", "evaluate=true"),
            ),
            (
                {"scaling": "federated", "class_weights": "balanced"},
                ("sealed=true", "topology=chain", "optimizer=newton", "class_weight=balanced"),
            ),
            (
                {**WITH_FIRTH, "most_rounds": 12, "max_coefficient": 99.0},
                ("penalty=firth", "scaling=none", "optimizer=newton"),
            ),
        ),
        *release(
            (
                {**WITH_FIRTH, "profile": True, "most_rounds": 30, "max_coefficient": 99.0},
                ("penalty=firth", "scaling=none", "optimizer=newton", "inference.profile=[age]"),
            )
        ),
    ],
)
def test_all_sums_of_a_plan(
    tmp_path: Path, changes: Mapping[str, Any], overrides: tuple[str, ...]
) -> None:
    """Moments, class totals, Firth's penalty, profiles, evaluations and inference."""
    plan = replace(PLAN, **({"most_rounds": 4} | dict(changes)))
    found: list[Any] = []
    for scheme in SCHEMES:
        folder = tmp_path / scheme
        folder.mkdir()
        nodes = enrolled_nodes(folder, plan)
        for node in nodes[:3]:
            node["test-data"] = node["data"]
        penalty = "null" if plan.C[0] is None else 1
        settings = [f"plan={folder / 'plan-0.json'}", "tolerance=1e-6", f"C={penalty}"]
        rounds = f"rounds={plan.most_rounds}"
        config = compose("config", [*settings, rounds, *overrides, f"crypto.scheme={scheme}"])
        grid = LocalGrid(client_app.build(lambda _: Config()), nodes)
        metrics = server_app.train(grid, config, folder / "run")
        assert [r.error.reason for r in grid.received if r.has_error()] == []
        opened = [
            reply.content.array_records["fl-he.sum"]["sum"].data
            for reply in grid.received
            if reply.metadata.message_type == DECRYPT and "fl-he.sum" in reply.content
        ]
        models = [(folder / f"model-{number}.json").read_text() for number in (1, 2, 3)]
        if plan.profile:
            metrics["inference"]["profile"].pop("seconds")
        kept = {key: metrics.get(key) for key in ("federated", "inference", "evaluation")}
        found.append((opened, models, repr(kept)))
        assert metrics["crypto"]["scheme"] == scheme
    assert found[0] == found[1], "bit for bit"


def clipped_sum(federation: Federation, clip: float, theta: np.ndarray) -> np.ndarray:
    """Return the sum of clipped gradients over all patients, by numpy alone."""
    parts = federation.data.values()
    X = np.concatenate([np.c_[part.features, np.ones(len(part.labels))] for part in parts])
    y = np.concatenate([part.labels for part in parts])
    each = X * (1 / (1 + np.exp(-(X @ theta))) - y)[:, None]
    norms = np.sqrt((each**2).sum(axis=1))
    assert (norms > clip).any()
    return np.asarray((each * np.minimum(1, clip / norms)[:, None]).sum(axis=0))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_private_releases_with_a_manifest(tmp_path: Path, scheme: str) -> None:
    """Totals are clipped sums with the noise that is reported, and so are all models."""
    terms: UserConfig = {
        **{"privacy-epsilon": 5.0, "privacy-delta": 1e-5, "privacy-clip": 0.5},
        **{"privacy-rounds": 3, "min-contributors": 3},
    }
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed=False)
    for name in HOSPITALS:
        ledger = {"privacy-ledger": str(tmp_path / f"{name}.privacy")}
        federation.context(name).node_config.update({**terms, **ledger})
    private = ("privacy=gaussian", "privacy.epsilon=5", "privacy.clip=0.5")
    metrics = trained(federation, tmp_path / "run", *private, f"crypto.scheme={scheme}")
    received = federation.grid.received
    assert schemes_in(received, key_of(received)) == {scheme}
    deviation, theta = metrics["privacy"]["noise_in_last_total"], np.zeros(4)
    noise = []
    for reply in received:
        if reply.metadata.message_type == DECRYPT:
            total = DecryptReply.from_content(reply.content).total
            assert total[:2].tolist() == [3.0, 125.0]
            noise.append((total[2:] - clipped_sum(federation, 0.5, theta)) / deviation)
            theta -= 0.5 * total[2:] / total[1]
    assert len(noise) == 3
    # By chance beyond 7 standard deviations once in 10**10 for 12 numbers.
    assert 1e-3 < np.abs(noise).max() < 7
    assert len({repr(one) for one in np.concatenate(noise)}) == 12
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose([*saved.coefficients, saved.intercept], theta, atol=1e-9)


def test_the_configuration_and_one_node_choose(tmp_path: Path) -> None:
    nodes = deployed_nodes(tmp_path)
    nodes[1]["scheme"] = PAILLIER
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes)
    masks = compose("config", [*GD, f"crypto.scheme={MASKS}"])
    with pytest.raises(ProtocolError) as caught:
        server_app.train(grid, masks, tmp_path / "masks")
    assert str(caught.value) == (
        "scheme must be one that all nodes accept (paillier), got 'masks': see scheme in the node "
        "configurations"
    )
    auto = compose("config", [*GD, "crypto.scheme=auto"])
    assert server_app.train(grid, auto, tmp_path / "auto")["crypto"]["scheme"] == PAILLIER
    with pytest.raises(ConfigError, match="must be one of paillier, masks, auto, got 'mask'"):
        compose("config", ["crypto.scheme=mask"])
