from __future__ import annotations

from pathlib import Path

import pytest
from deployed_nodes import KEY, enrolled_nodes
from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig

from fl_he.clients.node.enrolment import pinned_fingerprint
from fl_he.wire.records import ProtocolError

FINGERPRINT = KEY.public_key.fingerprint


def pinned(node_config: UserConfig) -> str | None:
    return pinned_fingerprint(Context(1, 9, node_config, RecordDict(), {}))


def test_a_simulated_node_was_told_no_fingerprint() -> None:
    assert pinned({"partition-id": 0, "num-partitions": 3}) is None


def test_it_is_the_node_configurations() -> None:
    assert pinned({"key-fingerprint": FINGERPRINT}) == FINGERPRINT


@pytest.mark.parametrize("key_fingerprint", [{}, {"key-fingerprint": FINGERPRINT}])
def test_it_is_the_manifests(tmp_path: Path, key_fingerprint: UserConfig) -> None:
    assert pinned(enrolled_nodes(tmp_path)[0] | key_fingerprint) == FINGERPRINT


def test_both_must_agree(tmp_path: Path) -> None:
    node = enrolled_nodes(tmp_path)[0] | {"key-fingerprint": "ab" * 32}
    with pytest.raises(ProtocolError, match=f"must be the manifest's, {FINGERPRINT}, or left out"):
        pinned(node)


@pytest.mark.parametrize("value", ["ab", "AB" * 32, "ab" * 33, "g" * 64])
def test_what_is_no_fingerprint_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError, match="must be 64 lower-case hexadecimal digits"):
        pinned({"key-fingerprint": value})
