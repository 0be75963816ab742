"""Notebooks are kept without outputs, lead somewhere, and are run by continuous integration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
names = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@names
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    book = json.loads(notebook.read_text())
    assert book["metadata"].keys() == {"kernelspec", "language_info"}
    for cell in book["cells"]:
        assert cell["metadata"] == {}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@names
def test_a_notebook_leads_to_pages_that_are_there(notebook: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", notebook.read_text())
    assert links
    assert [link for link in links if not (notebook.parent / link).exists()] == []


@names
def test_a_notebook_has_no_command_whose_failure_passes(notebook: Path) -> None:
    lines = [line for cell in json.loads(notebook.read_text())["cells"] for line in cell["source"]]
    assert lines
    assert [line for line in lines if line.startswith("!")] == []  # IPython would continue


def test_continuous_integration_runs_all_notebooks() -> None:
    assert len(NOTEBOOKS) == 5
    assert "step make notebooks\n" in (ROOT / ".ci" / "run").read_text()
    assert "jupyter execute examples/notebooks/*.ipynb\n" in (ROOT / "Makefile").read_text()
