"""Lengths of company X's replies in a sealed chain: the task decides them, and no patient."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_federation import DeployedFederation
from numpy.typing import NDArray
from sealed_federation import COMPANY, Federation, terms

from fl_he.clients.totals.payload import total_binding
from fl_he.crypto.envelopes.sealing import unseal
from fl_he.strategies.dropouts import Waiting
from fl_he.strategies.roll_call import call_roll
from fl_he.strategies.sealed import router
from fl_he.strategies.sealed.progress import SealedProgress
from fl_he.wire.sealed_messages import OPEN, OpenReply
from fl_he.wire.totals import Total

HOSPITALS = {"north": 12, "south": 15, "east": 20}
ROUNDS = 5
#: One line each: optimizer, scaling, other terms.
TASKS: list[tuple[str, str, Mapping[str, Any]]] = [
    ("newton", "federated", {}),
    ("newton", "none", {"C": 1.0}),
    ("lbfgs", "none", {}),
    ("gd", "federated", {}),
    ("nesterov", "none", {}),
    ("newton", "federated", {"firth": True}),
]


def data_sets() -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield features of all patients, of very different numbers."""
    random = np.random.default_rng(3)
    usual = random.normal(size=(sum(HOSPITALS.values()), 3))
    yield "usual", usual
    for value in (0.0, -7.25):
        yield f"one patient has {value}", np.concatenate([[[value] * 3], usual[1:]])
    yield "whole numbers", np.rint(usual)
    yield "small", usual * 1e-3
    yield "large", usual * 5
    yield "far from 0", usual + 5
    yield "a constant column", usual * [1, 1, 0]
    yield "two constant columns", usual * [1, 0, 0] + [0, 3, 5]
    yield "an aliased column", usual[:, [0, 1, 0]] * [1, 1, 2]
    yield "a rare flag", np.where([True, True, False], usual, np.eye(len(usual), 3))
    yield "outliers", usual + 8 * (np.arange(len(usual)) % 9 == 0)[:, None]


def lengths(
    federation: Federation, optimizer: str, scaling: str, changes: Mapping[str, Any]
) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Train, and return the length of each envelope of each total, and company X's memories."""
    rate = {"lr": 0.01} if optimizer in ("gd", "nesterov") else {"lr": 1.0}
    config = terms(optimizer=optimizer, scaling=scaling, **rate, **changes).to_config()
    progress = SealedProgress()
    waiting = Waiting(hop_timeout=10.0, node_timeout=0.5)
    roll = call_roll(federation.grid, waiting, len(HOSPITALS), progress.session)
    chain = router.SealedChain(roll, config, progress, scheme="masks", on_summed=lambda _: None)
    chain.begin()
    found, memories = [], []
    identity = federation.identities[COMPANY]
    contributors = [chain.run_round().request.contributors for _ in range(ROUNDS)]
    replies = [one for one in federation.grid.received if one.metadata.message_type == OPEN]
    for number, (reply, names) in enumerate(zip(replies, contributors, strict=True), 1):
        totals = OpenReply.from_content(reply.content).totals
        found.append([len(totals[name]) for name in sorted(totals)])
        binding = total_binding(chain.progress.session, number, names)
        opened = Total.from_bytes(unseal(totals[COMPANY], identity, identity.public, binding))
        memories.append(json.loads(opened.memory))
    return found, memories


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "scaling", "changes"), TASKS)
def test_lengths_of_company_xs_replies_say_nothing_of_data(
    tmp_path: Path, optimizer: str, scaling: str, changes: Mapping[str, Any]
) -> None:
    seen, memories = {}, []
    for name, features in data_sets():
        start, folder = 0, tmp_path / name
        folder.mkdir()
        federation = DeployedFederation(folder, HOSPITALS, alone=False)
        for hospital, rows in HOSPITALS.items():
            part = federation.data[hospital]
            ours = features[start : start + rows]
            federation.data[hospital] = dataclasses.replace(part, features=ours)
            start += rows
        federation.app()  # writes the tables
        seen[name], told = lengths(federation, optimizer, scaling, changes)
        memories += told
    first = seen["usual"]
    assert len(first) == ROUNDS
    assert {name: one for name, one in seen.items() if one != first} == {}
    texts = {len(json.dumps(one)) for one in memories}
    assert len(texts) > ROUNDS, "the memories themselves differ in length"
    if optimizer == "lbfgs":
        bases = [one["optimizer"]["base"] for one in memories]
        assert any(base and base["length"] < 1 for base in bases), "a step was shortened"
    if changes == {} and optimizer == "newton":
        assert any(one["aliased"] for one in memories)
    if scaling == "federated":
        assert any(one["constant"] for one in memories)
