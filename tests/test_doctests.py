"""Examples in docstrings, run as they stand there."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import fl_he

_PACKAGE = Path(fl_he.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts)
    for path in _PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(fl_he.__all__) - {"__version__", "encryption_mod"}))
def test_public_names_have_an_example(name: str) -> None:
    public = getattr(fl_he, name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert any(found.examples for found in finder.find(public))
