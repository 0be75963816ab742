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


def test_with_a_manifest_there_is_none(tmp_path: Path) -> None:
    node = enrolled_nodes(tmp_path)[0]
    assert pinned(node) is None
    with pytest.raises(ProtocolError, match="key-fingerprint must be left out of the node conf"):
        pinned(node | {"key-fingerprint": FINGERPRINT})


@pytest.mark.parametrize("value", ["ab", "AB" * 32, "ab" * 33, "g" * 64])
def test_what_is_no_fingerprint_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError, match="must be 64 lower-case hexadecimal digits"):
        pinned({"key-fingerprint": value})
