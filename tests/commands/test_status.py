"""``fl-he status``: a node's operator looks at federation, sessions and budgets."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from capc_nodes import ANSWERING, QUERYING, agreement, capc_nodes
from command_line import fl_he
from deployed_nodes import KEY, deployed_nodes, enrolled_nodes
from flwr.app.user_config import UserConfig, UserConfigValue
from lying_coordinator import LyingCoordinator, clinics
from study_plans import PRIVATE
from study_plans import UNPREPARED as PLAN

from fl_he.capc.node.deployed import AgreedNode, VotingLedger
from fl_he.clients import run_keys
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.pair_memory import PairMemory
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.wire.learning_terms import privacy_members


def text(value: UserConfigValue) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def settings(node: UserConfig, **more: UserConfigValue) -> str:
    """Return a node configuration as `fl-he node` is given it."""
    numbers = {key: repr(value) for key, value in node.items() if type(value) in (int, float)}
    texts = {key: text(value) for key, value in {**node, **more}.items() if key not in numbers}
    return " ".join(f"{key}={value}" for key, value in {**numbers, **texts}.items())


def status(folder: Path, node: UserConfig, **more: UserConfigValue) -> tuple[int, str, str]:
    return fl_he(folder, "status", "--node-config", settings(node, **more))


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Require that no file is made or changed."""

    def found() -> dict[Path, tuple[int, bytes]]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = found()
    yield
    assert found() == before


def section(output: str, title: str) -> list[str]:
    """Return the lines of a section."""
    (found,) = (part for part in output.split("\n\n") if part.splitlines()[0] == title)
    return found.splitlines()[1:]


def test_company_x_sees_sessions_and_sets(tmp_path: Path) -> None:
    nodes = clinics(tmp_path, PLAN)
    first = LyingCoordinator(nodes, PLAN)
    first.step(1)
    first.step(2)
    second = LyingCoordinator(nodes, PLAN, run_id=8)
    with untouched(tmp_path):
        code, output, errors = status(tmp_path, nodes[-1])
    assert (code, errors) == (0, "")
    assert section(output, "node") == ["name  company-x", "role  key-holder"]
    shown = fl_he(tmp_path, "show", "federation.json")[1]
    assert section(output, "federation") == shown.splitlines()
    assert Manifest.load(tmp_path / "federation.json").fingerprint in shown
    rows = section(output, "sessions, last opened round")
    assert rows[0].split("  ")[0] == "session"
    days = datetime.now(UTC) + timedelta(days=30)
    kept = ["until", f"{days:%Y-%m-%d}", "UTC"]
    # Without the time of the day.
    assert [[cell for cell in row.split() if ":" not in cell] for row in rows[1:]] == [
        [first.session, first.public_key.fingerprint[:16], *kept, "2"],
        [second.session, second.public_key.fingerprint[:16], *kept, "-"],
    ]
    opened = fl_he(tmp_path, "ledger", "company-x.json")[1]
    assert "opened: clinic-1, clinic-2, clinic-3\n" in opened
    assert section(output, "opened sets") == opened.splitlines()
    assert section(output, "study plans")[1].split() == [PLAN.digest[:16], "1", "of", "2"]


@pytest.mark.slow
def test_company_x_sees_what_has_become_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = clinics(tmp_path, PLAN)
    node = DeployedNode.configured(nodes[-1])
    assert node.run_keys is not None
    sessions = [LyingCoordinator(nodes, PLAN, run_id=run).session for run in (7, 8, 9)]
    node.run_keys.end(sessions[0])
    node.run_keys.find(sessions[1]).path.unlink()
    with untouched(tmp_path):
        rows = section(status(tmp_path, nodes[-1])[1], "sessions, last opened round")[1:]
    assert "deleted at the run's end" in rows[0]
    assert "missing, was until 2" in rows[1]
    assert re.search(r"  until 2[-0-9]+ [0-9:]+ UTC +-$", rows[2])
    late = run_keys.now() + 31 * 24 * 60 * 60
    monkeypatch.setattr(run_keys, "now", lambda: late)
    node.run_keys.delete_old()
    rows = section(status(tmp_path, nodes[-1])[1], "sessions, last opened round")[1:]
    assert "deleted after 30 days" in rows[2]
    ledger = tmp_path / "company-x.json.opened.jsonl"
    ledger.write_text(re.sub('"days":30', f'"days":{10**9}', ledger.read_text()))
    ledger.write_text(re.sub('{"deleted".*\n', "", ledger.read_text()))
    code, _, errors = status(tmp_path, nodes[-1])
    assert (code, errors) == (1, "fl-he: a key's days must end before the year 10000\n")


def test_a_hospital_sees_trainings_and_budget(tmp_path: Path) -> None:
    terms = {
        "privacy-epsilon": 1.0,
        "privacy-delta": 1e-5,
        "privacy-clip": 2.0,
        "privacy-rounds": 4,
    }
    plan = replace(PRIVATE, lr=(0.001,))  # small: a step of noise stays within the plan's bounds
    nodes = clinics(tmp_path, plan)
    for node in nodes[:-1]:
        node |= {**terms, "privacy-ledger": f"{node['data']}.ledger", "alone": "allow"}
    liar = LyingCoordinator(nodes, plan)
    liar.config.update(privacy_members(plan.privacy))
    liar.step(1)
    liar.step(2)
    liar.ask(1000, 3)
    with untouched(tmp_path):
        code, output, errors = status(tmp_path, nodes[0])
    assert (code, errors) == (0, "")
    (file,) = tmp_path.glob("1.csv.training-*.json")
    assert section(output, "trainings")[1:] == [f"{file.name}  2"]
    assert section(output, "privacy")[0].startswith("epsilon 1, delta 1e-05, clip 2, 4 rounds")
    assert [row.split() for row in section(output, "privacy")[2:]] == [
        ["gradient", "3", "of", "4"],
        ["scaling", "0", "of", "0"],
    ]
    assert section(output, "totals that single this hospital out") == ["allowed"]
    assert section(status(tmp_path, nodes[-1])[1], "opened sets")[-1] == (
        "allow being singled out: clinic-1, clinic-2, clinic-3"
    )


@pytest.mark.slow
def test_an_answering_party_sees_the_votes_that_are_left(tmp_path: Path) -> None:
    changes = {"sigma_gnmax": 0.5, "sigma_threshold": 0.5, "epsilon": 80.0}
    nodes = capc_nodes(tmp_path, np.array([[20.0, 1.0]]), **changes)
    (party,) = (node for node in nodes if node["name"] == ANSWERING[0])
    with untouched(tmp_path):
        code, output, errors = status(tmp_path, party)
    assert (code, errors) == (0, "")
    (before,) = section(output, "votes")
    most = VotingLedger(FileStore(tmp_path / "none"), agreement(**changes)).budget().affordable()
    assert before == f"0 queries answered, {most} left"
    ledger = VotingLedger(FileStore(Path(str(party["capc-ledger"]))), agreement(**changes))
    ledger.begin("a" * 32, "st-anne", 2)
    ledger.spend("a" * 32, 2)
    assert section(status(tmp_path, party)[1], "votes") == [
        f"2 queries answered, {most - 2} left",
        "asked by st-anne: 2 of 1000",
    ]
    assert "\nvotes\n" not in status(tmp_path, nodes[-1])[1]


@pytest.mark.slow
def test_a_hospital_sees_who_must_collude_to_learn_its_updates(tmp_path: Path) -> None:
    nodes = clinics(tmp_path, PLAN)
    title = "pairwise masks"
    assert section(status(tmp_path, nodes[0])[1], title) == ["none"]
    nodes[0]["collusion"] = "resistant"
    with untouched(tmp_path):
        assert section(status(tmp_path, nodes[0])[1], title) == ["nothing yet"]
    node, names = DeployedNode.configured(nodes[0]), ("clinic-1", "clinic-2", "clinic-3")
    memory = PairMemory(node.masked_sets(), node.pairs("ab"), names[0])
    memory.begin(dict.fromkeys(names, bytes(32)))
    with untouched(tmp_path):
        code, output, errors = status(tmp_path, nodes[0])
    assert (code, errors) == (0, "")
    assert [re.split(" {2,}", line) for line in section(output, title)] == [
        ["", "company X learns one only with", "set"],
        ["updates", "2 of the 3 hospitals", "clinic-1, clinic-2, clinic-3"],
    ]
    assert title not in status(tmp_path, nodes[-1])[1].splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "others"),
    [
        ((*ANSWERING, "st-agnes"), "2 of the 3 hospitals"),  # one of them may ask
        ((*ANSWERING[1:], "st-agnes"), "2 of the 3 hospitals"),
        ((*ANSWERING[1:], QUERYING), "2 of the 3 hospitals"),  # two votes are not summed
    ],
)
def test_an_answering_party_sees_who_must_collude_to_learn_its_votes(
    tmp_path: Path, names: tuple[str, ...], others: str
) -> None:
    nodes = capc_nodes(tmp_path, np.array([[20.0, 1.0]]))
    (party,) = (node for node in nodes if node["name"] == ANSWERING[1])
    party["collusion"] = "resistant"
    agreed = AgreedNode.of(DeployedNode.configured(party))
    PairMemory(*agreed.pair_stores(), ANSWERING[1]).begin(dict.fromkeys(names, bytes(32)))
    with untouched(tmp_path):
        code, output, errors = status(tmp_path, party)
    assert (code, errors) == (0, "")
    assert [re.split(" {2,}", line) for line in section(output, "pairwise masks")] == [
        ["", "company X learns one only with", "set"],
        ["votes", others, ", ".join(sorted(names))],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("enrolled", [True, False])
def test_nothing_is_made_before_the_first_session(tmp_path: Path, enrolled: bool) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN) if enrolled else deployed_nodes(tmp_path)
    for node in nodes:
        with untouched(tmp_path):
            code, output, errors = status(tmp_path, node)
        assert (code, errors) == (0, "")
        opened = "trainings" if node["role"] == "hospital" else "sessions, last opened round"
        assert section(output, opened) == ["nothing yet"]
        if not enrolled:
            assert section(output, "federation") == [
                "no manifest: contributors are counted, not recognised"
            ]
            pin = [f"company X's key  {KEY.public_key.fingerprint}"]
            assert section(output, "node")[2:] == (pin if node["role"] == "hospital" else [])


def test_a_foreign_apps_hospital_needs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    assert status(tmp_path, {"role": "hospital", "key-fingerprint": "ab" * 32})[0] == 0
    assert not (tmp_path / "flwr" / "fl-he").exists()


def test_another_reader_is_no_obstacle(tmp_path: Path) -> None:
    nodes = clinics(tmp_path, PLAN)
    LyingCoordinator(nodes, PLAN).step(1)
    with (tmp_path / "company-x.json.opened.jsonl").open("rb") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_SH)
        assert status(tmp_path, nodes[-1])[0] == 0


def test_no_secret_is_printed(tmp_path: Path) -> None:
    nodes = clinics(tmp_path, PLAN)
    LyingCoordinator(nodes, PLAN).step(1)
    secret = re.compile(r"\"(?:[dpq]|signing|sealing|seed)\": ?\"([^\"]{16,})\"")
    kept = [path.read_text() for path in tmp_path.glob("*.json") if path.stat().st_mode & 0o77 == 0]
    secrets = [found for one in kept for found in secret.findall(one)]
    assert secrets
    for node in nodes:
        _, output, errors = status(tmp_path, node)
        assert not [found for found in secrets if found in output + errors]
        assert "sick" not in output


@pytest.mark.slow
def test_a_damaged_file_ends_its_section_only(tmp_path: Path) -> None:
    nodes = clinics(tmp_path, PLAN)
    LyingCoordinator(nodes, PLAN).step(1)
    ledger = tmp_path / "company-x.json.opened.jsonl"
    ledger.write_text("?\n")
    code, output, errors = status(tmp_path, nodes[-1])
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("fl-he: a ledger's line must")
    assert section(output, "sessions, last opened round") == []
    assert section(output, "opened sets")[0] == "opened: clinic-1, clinic-2, clinic-3"
    (tmp_path / "company-x.json").unlink()
    code, output, _ = status(tmp_path, nodes[-1])
    assert code == 1
    assert section(output, "study plans")[1].split() == [PLAN.digest[:16], "1", "of", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "a node must say its role"),
        ("role", "a node must say its role"),
        ('role="hospital" federation=unquoted', "--node-config is neither settings such as"),
        ("nowhere.toml", "--node-config is neither settings such as"),
        ('role="nurse"', "role in the node configuration must be one of"),
        ('role="key-holder" privat-key="x"', "(did you mean private-key?)"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, given: str, words: str) -> None:
    code, output, errors = fl_he(tmp_path, "status", "--node-config", given)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert words in errors


@pytest.mark.slow
def test_it_takes_all_options_of_the_node(tmp_path: Path) -> None:
    node = enrolled_nodes(tmp_path)[-1]
    more = ("--superlink", "x:1", "--insecure", "--node-config", settings(node), "--port", "9")
    code, output, _ = fl_he(tmp_path, "status", *more)
    assert code == 0
    assert output == status(tmp_path, node)[1]
