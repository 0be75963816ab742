"""Refusals of ``fl-he node`` before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import fl_he
from quick import slow


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bundle-sha256", "ab12"), "--bundle-sha256 must be 64 lower-case hexadecimal digits"),
        (("--app", "os:path"), "--app must be MODULE:ATTRIBUTE and name an installed ClientApp"),
        (("--isolation", "subprocess"), "leave out --isolation and --superexec-auth-secret-file"),
    ],
)
def test_refusals_are_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, output, errors = fl_he(tmp_path, "node", "--insecure", *arguments)
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("fl-he: ")
    assert words in line


def test_an_option_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    code, _, errors = fl_he(tmp_path, "node", "--superlnk", "x:1")
    assert code == 2
    assert "fl-he node: error: unrecognized arguments: --superlnk x:1" in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ('role="hospital" federation="manifest.json"', True),
        ('role="hospital" federation="manifest.json" plan="plan.json"', False),
        *slow(("", True), ("role", True), ('role="hospital" capc="agreement.json"', False)),
    ],
)
def test_a_node_without_a_plan_says_so(tmp_path: Path, settings: str, warned: bool) -> None:
    given = ("--node-config", settings, "--root-certificates", "nowhere.crt")
    code, _, errors = fl_he(tmp_path, "node", *given)
    words = "fl-he: no plan in the node configuration: the coordinator chooses what is computed"
    assert code == 1
    assert (words in errors.splitlines()) is warned


@pytest.mark.slow
@pytest.mark.parametrize("role", ["hospital", "key-holder"])
def test_a_hospital_with_its_own_app_says_who_chooses_the_model(tmp_path: Path, role: str) -> None:
    imports = "from flwr.clientapp import ClientApp\nfrom fl_he import with_key_holder\n\n"
    (tmp_path / "own.py").write_text(f"{imports}app = with_key_holder(ClientApp())\n")
    given = ("--app", "own:app", "--node-config", f'role="{role}"', "--root-certificates", "no.crt")
    code, _, errors = fl_he(tmp_path, "node", *given)
    told = "fl-he: the coordinator chooses the model that the app trains on" in errors.splitlines()
    assert code == 1
    assert told is (role == "hospital")
    assert "no plan" not in errors


def test_help_names_our_options_and_where_flowers_are(tmp_path: Path) -> None:
    code, output, _ = fl_he(tmp_path, "node", "--help")
    assert code == 0
    for words in ("--app", "--bundle-sha256", "--node-config", "flower-supernode --help"):
        assert words in output
