"""All refusals of fl-he have one root, all warnings another; docs/extend.md shows both trees."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest

import fl_he
from fl_he.errors import FlHeError, FlHeWarning

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"


@pytest.fixture(scope="module")
def exceptions() -> set[type[BaseException]]:
    """All classes of exceptions and warnings that a module of fl_he defines."""
    names = [each.name for each in pkgutil.walk_packages(fl_he.__path__, "fl_he.")]
    assert {"fl_he.cli", "fl_he.crypto.errors", "fl_he.capc.node.querying"} <= set(names)
    return {
        kind
        for name in names
        for _, kind in inspect.getmembers(import_module(name), inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__.partition(".")[0] == "fl_he"
    }


def test_every_refusal_and_every_warning_derives_from_its_root(
    exceptions: set[type[BaseException]],
) -> None:
    public = {kind for kind in exceptions if not kind.__name__.startswith("_")}
    others = {kind for kind in public if not issubclass(kind, FlHeError | FlHeWarning)}
    assert others == set()
    assert len(public) > 12


def test_no_private_exception_but_that_which_passes_hydra(
    exceptions: set[type[BaseException]],
) -> None:
    private = {kind.__name__ for kind in exceptions if kind.__name__.startswith("_")}
    assert private <= {"_FolderError", "_ConvergedError"}


def test_users_who_catch_value_errors_catch_refusals() -> None:
    assert issubclass(FlHeError, ValueError)
    assert issubclass(FlHeWarning, UserWarning)


def test_the_page_shows_both_trees(exceptions: set[type[BaseException]]) -> None:
    roots: tuple[type[BaseException], ...] = (FlHeError, FlHeWarning)
    trees = "\n".join(line for root in roots for line in tree(root, exceptions))
    assert f"```text\n{trees}\n```\n" in PAGE.read_text(), f"expected in {PAGE.name}:\n{trees}"


def tree(
    root: type[BaseException], kinds: Iterable[type[BaseException]], indent: str = ""
) -> list[str]:
    """Return a line for a class and its room, and one for each class that derives from it."""
    children = sorted(
        (kind for kind in kinds if root in kind.__bases__), key=lambda kind: kind.__name__
    )
    room = ".".join(root.__module__.split(".")[:2])
    line = f"{indent + root.__name__:<26}{room}"
    return [line, *(below for child in children for below in tree(child, kinds, indent + "  "))]
