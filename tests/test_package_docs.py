"""Each package's docstring names its modules, in the order in which they import each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fl_he"


def listed(package: str) -> list[str]:
    """Return the modules that a package's docstring names in its table."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text()))
    return re.findall(r"^(\w+) {2,}\S", docstring or "", re.MULTILINE)


@pytest.mark.parametrize("package", ["crypto", "learning", "clients", "strategies"])
def test_all_modules_are_listed_each_behind_those_that_it_imports(package: str) -> None:
    found = listed(package)
    files = [path.stem for path in (PACKAGE / package).glob("*.py") if path.stem != "__init__"]
    assert sorted(found) == sorted(files)
    for place, module in enumerate(found):
        tree = ast.parse((PACKAGE / package / f"{module}.py").read_text())
        imported = {
            name
            for node in tree.body  # what a function imports is loaded later
            if isinstance(node, ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names]
                if node.module == f"fl_he.{package}"
                else re.findall(rf"^fl_he\.{package}\.(\w+)$", node.module or "")
            )
        }
        assert imported <= set(found[:place]), f"{module} imports what is listed behind it"
