"""Bundles with code of a coordinator that lies, over real SuperLink and SuperNode processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from federation_processes import Processes, wait_for
from flwr.common.constant import ErrorCode

from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.version import __version__

pytestmark = pytest.mark.release

#: Replaces fl-he's module of this name where the bundle is unpacked and put first on the path.
CLIENT = """
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
Path({canaries!r}, "imported").touch()
app = ClientApp()
@app.query()
def query(message, context):
    Path({canaries!r}, context.node_config["name"]).touch()
    return Message(RecordDict(), reply_to=message)
"""
SERVER = """
import json, time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while len(nodes := list(grid.get_node_ids())) < context.run_config["nodes"]:
        time.sleep(0.2)
    sent = [Message(RecordDict(), node, "query") for node in nodes]
    replies = grid.send_and_receive(sent, timeout=120)
    told = [[r.error.code, r.error.reason] if r.has_error() else None for r in replies]
    out = Path(context.run_config["out"])
    out.with_suffix(".new").write_text(json.dumps(told))
    out.with_suffix(".new").rename(out)
"""
PYPROJECT = """
[project]
name = "fl-he"
version = "{version}"
license = "Apache-2.0"
dependencies = ["flwr"]
[tool.flwr.app]
publisher = "fl-he"
[tool.flwr.app.components]
serverapp = "coordinator:app"
clientapp = "fl_he.client_app:app"
[tool.flwr.app.config]
nodes = 3
out = ""
"""
#: A SuperLink that tells nodes that every run is an agent's, whose code Flower runs otherwise; or
#: that the bundle of every run is the content of a file, while the file exists.
LYING_SUPERLINK = """
import sys
from hashlib import sha256
from pathlib import Path
from flwr.proto.fab_pb2 import Fab, GetFabResponse
from flwr.superlink.cli import flower_superlink
from flwr.superlink.servicer.fleet import fleet_handlers
honest_run, honest_fab = fleet_handlers.run_to_proto, fleet_handlers.get_fab
spoiled = Path({spoiled!r})
def run(one):
    proto = honest_run(one)
    if {kind!r} == "agent":
        proto.primary_task_type = "flwr-agentapp"
    elif spoiled.exists():
        proto.fab_hash = sha256(spoiled.read_bytes()).hexdigest()
    return proto
def fab(request, state):
    if not spoiled.exists():
        return honest_fab(request, state)
    return GetFabResponse(fab=Fab(hash_str=request.hash_str, content=spoiled.read_bytes()))
fleet_handlers.run_to_proto, fleet_handlers.get_fab = run, fab
sys.argv[0] = "flower-superlink"
flower_superlink()
"""


class Attacked(Processes):
    """Nodes that answer any bundle, this one alone, or one whose hash only begins like its hash.

    Parameters
    ----------
    folder : Path
    kind : str
        ``agent`` or ``spoiled`` for a SuperLink that lies; ``careless`` for one node that is
        Flower's own.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._kind = kind
        self.canaries, self.spoiled = folder / "canaries", folder / "spoiled.fab"
        self.app = folder / "app"
        (self.app / "fl_he").mkdir(parents=True)
        self.canaries.mkdir()
        (self.app / "pyproject.toml").write_text(PYPROJECT.format(version=__version__))
        (self.app / "coordinator.py").write_text(SERVER)
        (self.app / "fl_he" / "__init__.py").touch()
        client = CLIENT.format(canaries=str(self.canaries))
        (self.app / "fl_he" / "client_app.py").write_text(client)
        build = [str(Path(sys.executable).parent / "flwr"), "build", "--app", str(self.app)]
        subprocess.run(build, cwd=folder, check=True, capture_output=True)
        (bundle,) = folder.glob("*.fab")
        self.bundle = bundle.read_bytes()
        self.hash = sha256(self.bundle).hexdigest()
        ours = ("fl-he", "node", "--bundle-sha256")
        programs: dict[str, Sequence[str]] = {
            "any": ours[:2],
            "whole": (*ours, self.hash),
            "prefix": (*ours, self.hash[:8] + "0" * 56),
        }
        if kind == "careless":
            programs = {kind: ("flower-supernode",)}
        settings = {name: f'name="{name}" role="hospital"' for name in programs}
        super().__init__(folder, settings, programs)

    def attack(self) -> list[tuple[int, str] | None]:
        """Run the bundle; return the nodes' errors, None for a node that answers."""
        out = self.folder / "replies.json"
        config = f'nodes={len(self._programs)} out="{out}"'
        self._start("run", "flwr", "run", str(self.app), "--stream", "--run-config", config)
        wait_for(out.exists, lambda: self.log("run"))
        replies: list[list[object] | None] = json.loads(out.read_text())
        out.unlink()
        return [None if r is None else (int(str(r[0])), str(r[1])) for r in replies]

    def _start(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        if name == "superlink" and self._kind in ("agent", "spoiled"):
            lies = LYING_SUPERLINK.format(kind=self._kind, spoiled=str(self.spoiled))
            program, arguments = sys.executable, ("-c", lies, *arguments)
        return super()._start(name, program, *arguments)


@pytest.fixture
def attacked(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Attacked]:
    attacked = Attacked(tmp_path, request.param)
    yield attacked
    attacked.stop()


@pytest.mark.parametrize("attacked", ["client", "agent"], indirect=True)
def test_no_code_of_a_bundle_runs_and_its_hash_is_compared_as_a_whole(attacked: Attacked) -> None:
    replies = attacked.attack()
    errors = [reply for reply in replies if reply is not None]
    assert len(errors) == len(replies) == 3, attacked.log("run")
    (reason,) = (reason for code, reason in errors if code == ErrorCode.INVALID_FAB)
    assert attacked.hash in reason
    assert [code for code, _ in errors].count(ErrorCode.MOD_FAILED_PRECONDITION) == 2
    assert list(attacked.canaries.iterdir()) == []


@pytest.mark.parametrize("attacked", ["spoiled"], indirect=True)
def test_a_node_refuses_a_bundle_that_is_no_archive_and_goes_on(attacked: Attacked) -> None:
    refusal = (ErrorCode.INVALID_FAB, PRIVATE_REFUSAL)
    for spoiled in (b"no archive", attacked.bundle[: len(attacked.bundle) // 2]):
        attacked.spoiled.write_bytes(spoiled)
        assert attacked.attack() == [refusal] * 3, attacked.log("any")
        attacked.spoiled.unlink()
    codes = [None if reply is None else reply[0] for reply in attacked.attack()]
    assert codes.count(ErrorCode.MOD_FAILED_PRECONDITION) == 2, attacked.log("any")
    assert codes.count(ErrorCode.INVALID_FAB) == 1


@pytest.mark.parametrize("attacked", ["careless"], indirect=True)
def test_the_same_bundle_takes_a_node_that_runs_what_it_is_sent(attacked: Attacked) -> None:
    assert attacked.attack() == [None]
    assert {path.name for path in attacked.canaries.iterdir()} == {"imported", "careless"}
