"""Each room's docstring and docs/extend.md list its modules, in the order of the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from test_layers import ANYWHERE, ORDER, PACKAGE

EXTEND = (PACKAGE.parent / "docs" / "extend.md").read_text()
ROOMS = sorted(
    path.parent.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("__init__.py")
    if path.parent != PACKAGE
)


def listed(docstring: str) -> list[str]:
    """Return the modules and folders that a room's docstring names in its table."""
    return re.findall(r"^(\w+) {2,}\S", docstring, re.MULTILINE)


def imported(room: str, member: str) -> Iterator[str]:
    """Yield the members of a room that one of them imports when it is loaded."""
    path = PACKAGE / room / member
    package = f"fl_he.{room.replace('/', '.')}"
    for source in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.parse(source.read_text("utf-8")).body:  # a function's imports come later
            if isinstance(node, ast.ImportFrom) and node.module == package:
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from re.findall(rf"^{re.escape(package)}\.(\w+)", node.module or "")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_lists_its_members_each_behind_those_that_it_imports(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8")))
    found = listed(docstring or "")
    members = [
        path.stem
        for path in (PACKAGE / room).iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    ]
    assert sorted(found) == sorted(members)
    for place, member in enumerate(found):
        behind = set(imported(room, member)) & set(found[place + 1 :])
        assert not behind, f"{member} imports what is listed behind it: {behind}"


def test_a_page_maps_the_rooms_in_the_order_of_imports() -> None:
    section = EXTEND.partition("## Layers")[2].partition("\n## ")[0]
    rows = [
        re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    ]
    assert [set(row) for row in rows if row] == [
        ANYWHERE,
        *({*places} for places in reversed(ORDER) if places != ("__init__",)),
    ]
