"""No command of a page escapes `make commands`, and no reason to skip one is empty."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
#: Commands, and blocks that are not commands.
LANGUAGES = {"sh", "python", "text", "toml", "json", "yaml", "diff"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    fences = re.findall(r"^ *```+(.*)$", page.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[0::2]) <= LANGUAGES, "commands are `sh`, which `make commands` runs"
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_does_not_run_says_why(page: Path) -> None:
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if "skip:" in line:
            reason = r'("[^"]{10,}"|if\(quick, reason="[^"]{8,}"\))'
            assert re.fullmatch(f"<!--- skip: next {reason} -->", line), line
            assert lines[number + 1] == ""
            assert re.fullmatch("```(sh|python)", lines[number + 2]), line
