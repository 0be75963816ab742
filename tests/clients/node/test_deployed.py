"""A deployed hospital's own terms: all of them or none, and sensible ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from deployed_nodes import enrolled_nodes
from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig

from fl_he.clients.node.deployed import DeployedNode
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.wire.records import ProtocolError

SETTINGS: UserConfig = {
    "privacy-epsilon": 1,
    "privacy-delta": 1e-5,
    "privacy-clip": 0.5,
    "privacy-rounds": 7,
    "privacy-ledger": "/nowhere/privacy.jsonl",
}


def node(settings: UserConfig) -> DeployedNode:
    return DeployedNode(Context(1, 2, {"role": "hospital", **settings}, RecordDict(), {}))


def test_slots_have_room_for_the_hospitals_of_the_manifest(tmp_path: Path) -> None:
    for settings in enrolled_nodes(tmp_path):
        enrolled = DeployedNode(Context(1, 2, settings, RecordDict(), {}))
        assert enrolled.packing == Packing(max_contributors=3)
    assert node({}).packing == Packing(max_contributors=512)


def test_company_x_keeps_all_files_beside_its_identity(tmp_path: Path) -> None:
    settings = enrolled_nodes(tmp_path)[-1]
    node = DeployedNode(Context(1, 2, settings, RecordDict(), {}))
    for store in (node.opened(), node.opened_sets(), node.planned()):
        with store.exclusively() as lines:
            lines.append("a line")
    names = ("opened", "plans", "sets")
    expected = [f"company-x.json.{name}.jsonl" for name in names]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == expected


def test_all_settings_are_terms() -> None:
    assert node(SETTINGS).privacy == GaussianPrivacy(1.0, 1e-5, 0.5, 7, 3)
    five: UserConfig = {**SETTINGS, "min-contributors": 5}
    assert node(five).privacy == GaussianPrivacy(1.0, 1e-5, 0.5, 7, 5)


def test_a_share_for_the_scaling_is_said_beside_them() -> None:
    scaled: UserConfig = {**SETTINGS, "privacy-scaling": 0.25}
    assert node(scaled).privacy == GaussianPrivacy(1.0, 1e-5, 0.5, 7, 3, 0.25)
    with pytest.raises(ProtocolError, match="missing: privacy-epsilon"):
        _ = node({"privacy-scaling": 0.25}).privacy


def test_no_settings_are_no_privacy() -> None:
    assert node({"min-contributors": 5}).privacy is None


@pytest.mark.parametrize("left_out", SETTINGS)
def test_a_part_of_the_settings_is_refused(left_out: str) -> None:
    some = {key: value for key, value in SETTINGS.items() if key != left_out}
    with pytest.raises(ProtocolError, match=rf"with privacy needs .*; missing: {left_out}$"):
        _ = node(some).privacy


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("privacy-epsilon", 0, "epsilon must be above 0"),
        ("privacy-delta", 1.0, "delta must be above 0 and below 1"),
        ("privacy-clip", True, "privacy-clip in the node configuration must be a number"),
        ("privacy-clip", "1", "privacy-clip in the node configuration must be a number"),
        ("privacy-rounds", 1.0, "privacy-rounds in the node configuration must be a whole number"),
        ("privacy-rounds", 0, "privacy-rounds in .* must be a whole number from 1 on, got 0$"),
        ("privacy-scaling", 1.0, "scaling must be at least 0 and below 1, got 1"),
        ("privacy-scaling", -0.1, "scaling must be at least 0 and below 1, got -0.1"),
        ("privacy-scaling", "0.2", "privacy-scaling in the node configuration must be a number"),
    ],
)
def test_a_setting_out_of_range_is_refused(
    key: str, value: float | str | bool, message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        _ = node({**SETTINGS, key: value}).privacy


def test_a_ledger_needs_a_file(tmp_path: Path) -> None:
    assert node({"privacy-ledger": str(tmp_path / "privacy.jsonl")}).released()
    with pytest.raises(ProtocolError, match="must be given privacy-ledger"):
        node({}).released()
