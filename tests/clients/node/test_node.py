from __future__ import annotations

import pytest
from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig
from flwr.supercore.task_identity import TaskIdentity

from fl_he.clients.node.app import hospital_partition, read_node
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.records import ProtocolError


def context(node_config: UserConfig) -> Context:
    return Context(run_id=1, node_id=9, node_config=node_config, state=RecordDict(), run_config={})


def test_last_partition_of_a_simulation_is_the_key_holder() -> None:
    nodes = [read_node(context({"partition-id": i, "num-partitions": 3})) for i in range(3)]
    assert [node.role for node in nodes] == [Role.HOSPITAL, Role.HOSPITAL, Role.KEY_HOLDER]
    assert [node.name for node in nodes] == ["hospital-1", "hospital-2", "company X"]
    assert all(node.simulated for node in nodes)


def test_slots_of_a_simulation_have_room_for_its_hospitals() -> None:
    for nodes, hospitals in ((1, 1), (2, 1), (4, 3), (601, 600)):
        for partition in {0, nodes - 1}:
            node = read_node(context({"partition-id": partition, "num-partitions": nodes}))
            assert node.packing == Packing(max_contributors=hospitals)
    assert Packing(max_contributors=3).slots_per_ciphertext(2048) == 40


@pytest.mark.parametrize("partition", [0, 2])
def test_a_deployed_node_with_partitions_is_not_taken_for_a_simulated_one(partition: int) -> None:
    """Flower's guides start SuperNodes so; the process that it starts says whose it is."""
    deployed = context({"partition-id": partition, "num-partitions": 3})
    assert read_node(deployed).simulated
    TaskIdentity.node_id = deployed.node_id
    assert not read_node(deployed).simulated
    with pytest.raises(ProtocolError, match="a deployed node must say its role as well"):
        _ = read_node(deployed).role
    deployed.node_config["role"] = "key-holder"
    assert read_node(deployed).role is Role.KEY_HOLDER


def test_a_process_that_is_nobodys_is_a_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskIdentity, "_node_id", None)
    assert read_node(context({"partition-id": 0, "num-partitions": 3})).simulated


def test_deployed_hospital() -> None:
    node = read_node(context({"role": "hospital", "name": "st-mary", "key-fingerprint": "ab" * 32}))
    assert (node.role, node.name) == (Role.HOSPITAL, "st-mary")
    assert not node.simulated


def test_deployed_key_holder_has_a_name_without_being_given_one() -> None:
    assert read_node(context({"role": "key-holder"})).name == "node-9"


@pytest.mark.parametrize(
    ("node_config", "words"),
    [
        ({}, "a node must say its role"),
        (
            {"partition-id": 0, "num-partitions": 4, "key-fingerprint": "ab" * 32},
            r"holds \['key-fingerprint'\] must say its role",
        ),
        ({"role": "boss"}, r"role .* must be one of \['hospital', 'key-holder'\], got 'boss'"),
        ({"role": 1}, "role in the node configuration must be a text"),
        ({"role": "hospital"}, "must be given key-fingerprint or federation"),
        ({"role": "hospital", "key-fingerprint": " "}, "key-fingerprint .* must be a text"),
    ],
)
def test_node_configurations_that_say_too_little(node_config: UserConfig, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        _ = read_node(context(node_config)).role


@pytest.mark.parametrize(
    "setting",
    [
        *("name", "key-fingerprint", "private-key", "min-contributors"),
        *("federation", "identity", "passphrase-file"),
        *("data", "target", "positive", "model-path"),
    ],
)
def test_no_setting_of_a_deployed_node_is_ignored(setting: str) -> None:
    node_config: UserConfig = {"partition-id": 0, "num-partitions": 4, setting: "1"}
    with pytest.raises(ProtocolError, match=rf"holds \['{setting}'\] must say its role"):
        _ = read_node(context(node_config)).role


@pytest.mark.parametrize("role", ["hospital", "key-holder"])
def test_a_node_that_says_its_role_is_deployed_whatever_else_it_says(role: str) -> None:
    node_config: UserConfig = {
        "role": role,
        "key-fingerprint": "ab" * 32,
        "partition-id": 0,
        "num-partitions": 4,
    }
    assert not read_node(context(node_config)).simulated


def test_a_setting_without_end_is_refused() -> None:
    config: UserConfig = {"role": "hospital", "name": "a\0b", "key-fingerprint": "x"}
    with pytest.raises(ProtocolError, match=r"name in .* must be a text without NUL"):
        _ = read_node(Context(1, 5, config, RecordDict(), {})).name


def test_partitions_of_hospitals_leave_company_x_out() -> None:
    numbers = [{"partition-id": i, "num-partitions": 4} for i in range(4)]
    found = [hospital_partition(context({**number})) for number in numbers[:-1]]
    assert found == [(0, 3), (1, 3), (2, 3)]
    with pytest.raises(ProtocolError, match="company X has no partition of the data"):
        hospital_partition(context({**numbers[-1]}))


def test_a_deployed_hospital_has_the_partition_of_its_own_configuration() -> None:
    deployed: UserConfig = {"role": "hospital", "key-fingerprint": "ab" * 32}
    numbered: UserConfig = {**deployed, "partition-id": 2, "num-partitions": 3}
    assert hospital_partition(context(numbered)) == (2, 3)
    for other in (deployed, {**numbered, "partition-id": 3}, {**numbered, "num-partitions": "3"}):
        with pytest.raises(ProtocolError, match="holds partition-id and num-partitions"):
            hospital_partition(context(other))
