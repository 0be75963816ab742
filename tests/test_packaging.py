from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from flwr.supercore.fab_format_version import normalize_and_validate_fab_format

from fl_he import __version__

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
BUILD = "from flwr.cli.app import app; app()"


def test_flower_ships_the_package_and_nothing_else(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "fl_he", project / "fl_he", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    for name in ("key.json", "outputs/run/metrics.json", "data/patients.json", "tests/helper.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("{}")
    subprocess.run(
        [sys.executable, "-c", BUILD, "build"],
        cwd=project,
        env={**os.environ, "FLWR_HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0"},
        check=True,
        capture_output=True,
    )
    (bundle,) = project.glob("*.fab")
    with zipfile.ZipFile(bundle) as archive:
        shipped = {name for name in archive.namelist() if not name.startswith(".info/")}
    ours = {
        path.relative_to(project).as_posix()
        for path in (project / "fl_he").rglob("*")
        if path.suffix in {".py", ".yaml", ".json", ".md"}
    }
    assert {"fl_he/conf/config.yaml", "fl_he/learning/tables/ranges/breast_cancer.json"} <= ours
    templates = "fl_he/report/page/templates"
    assert {f"{templates}/page.html.md", f"{templates}/style.css.md"} <= ours
    assert shipped == {*ours, "pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.slow
def test_flowers_hub_would_take_the_app() -> None:
    publish = import_module("flwr.cli.app_cmd.publish")
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    publish._validate_description(config["project"]["description"])
    publish._validate_files(publish._collect_file_paths(ROOT))
    assert publish._get_declared_license_file(ROOT) == ROOT / "LICENSE"
    metadata = normalize_and_validate_fab_format(config)
    assert (metadata.fab_format_version, metadata.flwr_version_min) == (1, "1.41")


def test_the_pinned_flower_is_the_one_that_the_app_names() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = re.search(r"^flwr==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    target = config["tool"]["flwr"]["app"]["flwr-version-target"]
    assert pinned[1] == target
    tried = re.search(r"^Tested minor versions of Flower: (.*)\.$", CONTRIBUTING, re.MULTILINE)
    assert tried is not None
    assert target.rpartition(".")[0] in tried[1].split(", ")


def test_all_files_say_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == __version__
    assert citation["license"] == "GPL-3.0-or-later"
    assert (
        "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)"
        in (project["classifiers"])
    )
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
