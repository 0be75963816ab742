from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import yaml

from fl_he import __version__

ROOT = Path(__file__).parents[1]
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
    assert {"fl_he/conf/config.yaml", "fl_he/learning/ranges/breast_cancer.json"} <= ours
    assert {"fl_he/report/templates/page.html.md", "fl_he/report/templates/style.css.md"} <= ours
    assert shipped == {*ours, "pyproject.toml", "README.md", "LICENSE"}


def test_all_files_say_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == __version__
    assert project["license"] == citation["license"]
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
