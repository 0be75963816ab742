"""docs/deployment.md against the programs that it speaks of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import fl_he
from flwr.common.config import parse_config_args

from fl_he.clients.node.settings import DEPLOYED_ONLY, check_settings
from fl_he.wire.encrypted_sum import Role

GUIDE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def test_every_setting_of_a_node_is_in_the_guide() -> None:
    rows = re.findall(r"^\| (`.*?) \|", GUIDE.split("## 6")[1].split("## 7")[0], re.MULTILINE)
    settings = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert settings == DEPLOYED_ONLY | {"role"}


def test_the_node_configurations_of_the_guide_are_accepted() -> None:
    texts = re.findall(r"--node-config '(.*?)'", GUIDE, re.DOTALL)
    roles = []
    for text in texts:
        node_config = parse_config_args([text])
        roles.append(Role(str(node_config["role"])))
        check_settings(node_config, roles[-1])
    assert roles == [Role.HOSPITAL, Role.KEY_HOLDER, Role.KEY_HOLDER]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "call"),
    [("flower-superlink", "flower-superlink"), ("flower-supernode", "fl-he node --")],
)
def test_flowers_programs_have_the_options_of_the_guide(program: str, call: str) -> None:
    calls = "".join(block for block in BLOCKS if call in block)
    options = set(re.findall(r"(?<!\w)--[a-z-]+", calls))
    command = [str(Path(sys.executable).parent / program), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(options) > 3
    assert options <= set(re.findall(r"--[a-z-]+", shown))


@pytest.mark.parametrize("command", ["enroll", "federation", "show", "report"])
def test_the_commands_of_the_guide_exist(tmp_path: Path, command: str) -> None:
    assert f"fl-he {command} " in GUIDE
    calls = re.findall(rf"fl-he {command} (?:.*\\\n)*.*", GUIDE)
    options = set(re.findall(r"(?<!\w)--[a-z-]+", " ".join(call.split("#")[0] for call in calls)))
    code, shown, _ = fl_he(tmp_path, command, "--help")
    assert code == 0
    assert options <= set(re.findall(r"--[a-z-]+", shown))


def test_links_lead_somewhere() -> None:
    docs = Path(__file__).parents[2] / "docs"
    links = re.findall(r"\]\(([^)#]+)\)", GUIDE)
    assert links
    assert all((docs / link).exists() for link in links)
