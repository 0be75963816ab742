"""Refuse each wrong setting of a node at `query.describe`, before any training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from deployed_nodes import HEADER, KEY, deployed_nodes, enrolled_nodes
from experiments import experiment, on_round
from flwr.app import Message, RecordDict
from flwr.app.user_config import UserConfig, UserConfigValue
from identities import make
from local_grid import LocalGrid

from fl_he import client_app, server_app
from fl_he.clients.node.settings import check_settings
from fl_he.config.composition import compose
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.wire.encrypted_sum import DESCRIBE, Description, Role
from fl_he.wire.records import ProtocolError

APP = client_app.build(lambda _: pytest.fail("a deployed node has no run configuration"))


def describe(node: UserConfig) -> str:
    """Return why the node does not describe itself; an empty text if it does."""
    grid = LocalGrid(APP, [node])
    (reply,) = grid.send_and_receive([Message(RecordDict(), next(iter(grid.contexts)), DESCRIBE)])
    if reply.has_error():
        return str(reply.error.reason)
    Description.from_content(reply.content)
    return ""


def test_nodes_that_are_set_up_well_describe_themselves(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    nodes = [*deployed_nodes(tmp_path / "plain"), *enrolled_nodes(tmp_path)]
    nodes[0] |= {"model-path": str(tmp_path / "new" / "folder" / "model.json")}
    nodes[1] |= {"target": "size", "threshold": 1.5, "drop": "age"}
    del nodes[1]["positive"]
    nodes[2] |= {"drop": " size , age ", "data": str(tmp_path / "wide.csv")}
    (tmp_path / "wide.csv").write_text("age,size,state,weight\n1,2,sick,3\n")
    (tmp_path / "plain" / "2.csv").write_text("age,size,weight\nno number,2,3\n")
    assert [describe(node) for node in nodes] == [""] * 8


WRONG: list[tuple[str, UserConfigValue | None, str]] = [
    ("dta", "x.csv", "got 'dta' (did you mean data?)"),
    ("private-key", "x.json", "a hospital must have no settings but role, name, "),
    ("partition-id", 0, "got 'partition-id'"),
    ("data", None, "a hospital must be given data in its node configuration"),
    ("data", 3, "data in the node configuration must be a text in quotes, got an integer"),
    (
        "data",
        "nowhere.csv",
        "cannot read the file named by data in the node configuration (FileNotFoundError)",
    ),
    (
        "data",
        "/",
        "cannot read the file named by data in the node configuration (IsADirectoryError)",
    ),
    ("target", None, "a hospital must be given target in its node configuration"),
    ("target", "weight", "must name a table that can be used with target, positive, threshold"),
    ("positive", None, "must name a table that can be used with target, positive, threshold"),
    ("positive", 1, "positive in the node configuration must be a text in quotes, got an integer"),
    ("positive", "ill", "must name a table that can be used with target, positive, threshold"),
    ("threshold", 0.5, "in its node configuration, got 2"),
    ("threshold", "0.5", "threshold in the node configuration must be a number, got text"),
    ("threshold", True, "threshold in the node configuration must be a number, got true or false"),
    ("drop", "weight", "must name a table that can be used with target, positive, threshold"),
    ("drop", "", "drop in the node configuration must be a text in quotes, got an empty text"),
    ("model-path", "/", "cannot write the file named by model-path in the node configuration"),
    ("model-path", "/dev/null/model.json", "cannot write the file named by model-path in the"),
    ("key-fingerprint", None, "must be given key-fingerprint or federation"),
    ("key-fingerprint", "ab", "key-fingerprint in the node configuration must be 64 lower-case"),
    ("federation", "f.json", "holds federation must be given identity as well"),
    (
        "scheme",
        "rsa",
        "scheme in the node configuration must be one of masks, paillier, or left out",
    ),
    ("alone", "yes", "alone in the node configuration must be 'allow' or left out"),
    ("role", "boss", "role in the node configuration must be one of ['hospital', 'key-holder']"),
]


@pytest.mark.parametrize(("setting", "value", "words"), WRONG)
def test_a_wrong_setting_of_a_hospital(
    tmp_path: Path, setting: str, value: UserConfigValue | None, words: str
) -> None:
    node = deployed_nodes(tmp_path)[0]
    (tmp_path / "1.csv").write_text(HEADER + "1,2,sick\n3,-1,well\n")
    node.pop(setting, None)
    refused = describe(node if value is None else node | {setting: value})
    assert refused.startswith("clinic-1: ")
    assert words in f"{refused}\n"
    assert str(tmp_path) not in refused


def test_files_that_a_node_will_write_are_tried_before(tmp_path: Path) -> None:
    node = deployed_nodes(tmp_path)[0]
    (tmp_path / "1.csv").write_text(HEADER + "1,2,sick\n3,-1,well\n")
    node |= {"privacy-epsilon": 1.0, "privacy-delta": 1e-6, "privacy-clip": 1.0}
    node |= {"privacy-rounds": 3, "privacy-ledger": str(tmp_path / "ledger.jsonl")}
    assert describe(node) == ""
    assert not (tmp_path / "ledger.jsonl").exists()
    refused = describe(node | {"privacy-ledger": "/dev/null/ledger.jsonl"})
    words = "cannot write the file named by privacy-ledger in the node configuration"
    assert words in refused
    # A folder has the name of the file in which the node keeps its sessions, next to the table.
    (tmp_path / "1.csv.sessions.jsonl").unlink()
    (tmp_path / "1.csv.sessions.jsonl").mkdir()
    assert "cannot write the file named by state in the node configuration" in describe(node)


def test_columns_that_look_like_numbers_of_patients_are_told_in_the_nodes_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = deployed_nodes(tmp_path)[0]
    rows = "".join(f"{n},{n % 7},{('sick', 'well')[n % 2]}\n" for n in range(5000, 5100))
    (tmp_path / "1.csv").write_text(HEADER + rows)
    assert describe(node) == ""
    (told,) = [one for one in caplog.messages if "drop in the node configuration" in one]
    assert "'age'" in told


@pytest.mark.parametrize("labels", ["01", ("false", "TRUE"), ("0.0", "1.0")])
def test_a_target_of_zero_and_one_needs_no_positive_label(
    tmp_path: Path, labels: tuple[str, str]
) -> None:
    node = deployed_nodes(tmp_path)[0]
    del node["positive"]
    (tmp_path / "1.csv").write_text(HEADER + f"1,2,{labels[0]}\n3,-1,{labels[1]}\n")
    assert describe(node) == ""


def test_what_is_wrong_with_a_table_stands_in_the_nodes_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = deployed_nodes(tmp_path)[0]
    (tmp_path / "1.csv").write_text(HEADER + "1,secret,sick\n,-1,well\n")
    refused = describe(node)
    assert not {"age", "size", "secret"} & set(refused.replace("'", " ").split())
    assert (
        "column 'age' must have no missing values, got 1 missing cell in row 3; column 'size' must "
        "be numeric, got 1 cell of text in row 2 (the header is row 1)" in caplog.text
    )
    assert "secret" not in caplog.text


def test_blanks_around_labels_are_told_in_the_nodes_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = deployed_nodes(tmp_path)[0]
    (tmp_path / "1.csv").write_text(HEADER + "1,2, sick\n3,-1,well\n")
    assert describe(node) == ""
    assert [record.getMessage() for record in caplog.records if "blanks" in record.message] == [
        "column 'state' had blanks around 1 label in row 2: they are left off"
    ]


HOLDERS_WRONG: list[tuple[str, UserConfigValue | None, str]] = [
    ("private-key", "other-key.json", "private-key must be left out of company X's node configura"),
    ("key-bits", 512, "key-bits in the node configuration: a key must have between 1024 and 8192"),
    ("key-bits", 1025, "key-bits in the node configuration: key_bits must be a mu"),
    ("key-bits", "2048", "key-bits in the node configuration must be a whole number from 1 on"),
    ("key-kind", "long", "key-kind in the node configuration must be one of short, djn"),
    ("key-kind", 1, "key-kind in the node configuration must be a text in quotes"),
    ("key-days", 0, "key-days in the node configuration must be a whole number from 1 on, got 0"),
    ("key-days", 1.5, "key-days in the node configuration must be a whole number from 1 on"),
    ("max-unused-keys", 0, "max-unused-keys in the node configuration must be a whole number from"),
    ("passphrase-file", "passphrase", "this node's log says more"),
    ("passphrase-file", "nowhere", "cannot read the file named by passphrase-file"),
    ("min-contributors", "3", "min-contributors in the node configuration must be a whole number"),
    ("min-contributors", 0, "min-contributors in the node configuration must be a whole number"),
    ("min-contributors", True, "min-contributors in the node configuration must be a whole"),
    ("data", "1.csv", "a key-holder must have no settings but role, name, federation, identity"),
    ("identity", "clinic-1.json", "role in the node configuration must be 'hospital'"),
    ("identity", "stranger.json", "a node must be one of"),
    ("federation", "1.csv", "federation manifest must be a JSON object"),
]


@pytest.mark.parametrize(("setting", "value", "words"), HOLDERS_WRONG)
def test_a_wrong_setting_of_the_key_holder(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    value: UserConfigValue | None,
    words: str,
) -> None:
    node = enrolled_nodes(tmp_path)[-1]
    PrivateKey.generate(1024).save(tmp_path / "other-key.json")
    make("stranger", "key-holder").save(tmp_path / "stranger.json")
    (tmp_path / "passphrase").touch(0o600)
    (tmp_path / "passphrase").write_text("secret")
    if isinstance(value, str) and setting not in ("min-contributors", "key-bits", "key-kind"):
        value = str(tmp_path / value)
    node.pop(setting) if value is None else node.update({setting: value})
    with caplog.at_level(logging.ERROR):
        refused = describe(node)
    assert refused.startswith("company-x: ")
    assert words in refused
    assert str(tmp_path) not in refused
    assert caplog.messages or "log says more" not in refused


KEYS_WRONG: list[tuple[str, UserConfigValue | None, str]] = [
    ("private-key", None, "a key-holder without a manifest (federation) must be given private-key"),
    ("private-key", "nowhere.json", "must name a key file that this node can open"),
    ("private-key", "1.csv", "must name a key file that this node can open"),
    ("private-key", "identity.json", "must name a key file that this node can open"),
    ("key-bits", 2048, "key-bits in the node configuration must come with a manifest (federation)"),
    (
        "key-kind",
        "djn",
        "key-kind in the node configuration must come with a manifest",
    ),
    ("key-days", 30, "key-days in the node configuration must come with a manifest (federation)"),
    ("max-unused-keys", 9, "max-unused-keys in the node configuration must come with a manifest"),
]


@pytest.mark.parametrize(("setting", "value", "words"), KEYS_WRONG)
def test_a_wrong_key_of_a_key_holder_without_a_manifest(
    tmp_path: Path, setting: str, value: UserConfigValue | None, words: str
) -> None:
    node = deployed_nodes(tmp_path)[-1] | {"name": "company-x"}
    make("company-x", "key-holder").save(tmp_path / "identity.json")
    if isinstance(value, str):
        value = str(tmp_path / value)
    node.pop(setting) if value is None else node.update({setting: value})
    refused = describe(node)
    assert words in refused
    assert str(tmp_path) not in refused


def test_a_protected_key_file_opens_with_the_passphrase(tmp_path: Path) -> None:
    node = deployed_nodes(tmp_path)[-1]
    KEY.save(tmp_path / "protected.json", "secret")
    (tmp_path / "passphrase").touch(0o600)
    (tmp_path / "passphrase").write_text("secret\n")
    node |= {"private-key": str(tmp_path / "protected.json")}
    assert "must name a key file that this node can open" in describe(node)
    assert describe(node | {"passphrase-file": str(tmp_path / "passphrase")}) == ""


@pytest.mark.parametrize("name", [{"name": 3}, {"name": " "}, {}])
def test_a_node_without_a_name_is_named_by_its_number(tmp_path: Path, name: UserConfig) -> None:
    node = deployed_nodes(tmp_path)[-1] | {"min-contributors": 0} | name
    assert describe(node).startswith("node-1000: ")


def test_what_is_wrong_with_a_table_stands_in_the_nodes_log_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = deployed_nodes(tmp_path)[0] | {"target": "weight"}
    with caplog.at_level(logging.ERROR):
        refused = describe(node)
    assert "age" not in refused
    assert "target must be one of the columns" in caplog.messages[0]


def test_the_run_ends_before_any_training(tmp_path: Path) -> None:
    nodes = deployed_nodes(tmp_path)
    nodes[1]["target"] = "weight"
    grid = LocalGrid(APP, nodes)
    with pytest.raises(ProtocolError, match="a node refused to take part: clinic-2: data in the"):
        server_app.train(grid, experiment(folder=tmp_path / "run"), tmp_path / "run")
    assert {message.metadata.message_type for message in grid.sent} == {DESCRIBE}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("role", "other"), [(Role.HOSPITAL, "private-key"), (Role.KEY_HOLDER, "data")]
)
def test_a_setting_of_the_other_role_is_refused_with_all_that_there_are(
    role: Role, other: str
) -> None:
    with pytest.raises(ProtocolError, match="must have no settings but") as error:
        check_settings({other: "x"}, role)
    both = ("role", "name", "federation", "identity", "passphrase-file")
    assert all(f"{key}, " in str(error.value) for key in both)


def test_a_table_that_changes_between_two_rounds_ends_the_run_resumably(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes, folder = deployed_nodes(tmp_path), tmp_path / "run"
    config = experiment("rounds=3", "optimizer=gd", folder=folder)
    table = tmp_path / "2.csv"
    before = table.read_text()

    def swap(entry: Mapping[str, object]) -> None:
        table.write_text("size,age,state\n1,0,sick\n")

    with pytest.raises(ProtocolError, match="at least 3 contributors") as refused:
        server_app.train(LocalGrid(APP, nodes), config, folder, on_round(swap))
    assert "clinic-2: data must be the table with which the session began" in str(refused.value)
    assert "size" not in str(refused.value)
    assert "feature 1 must be 'age', got 'size' (same names in another order)" in caplog.text
    again = compose("config", [f"resume={folder}"])
    with pytest.raises(ProtocolError, match="hospitals must have the same features"):
        server_app.train(LocalGrid(APP, nodes, run_id=8), again, folder)
    table.write_text(before)
    metrics = server_app.train(LocalGrid(APP, nodes, run_id=9), again, folder)
    assert len(metrics["rounds"]) == 3
