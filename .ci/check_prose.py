"""Reject docstrings and sentences that are hard to read: run by `make check`.

Docstrings open with a noun or a verb, and phrases that read as if translated are refused in every
text file of the repository. Single words are in rejected_words.txt, which codespell reads.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OPENERS = re.compile(r"(What|Which|How|Who|Whose|Whom|Where)\b")
PHRASES = {
    r"got (an)?others?\b": "name the value, or say what happened",
    r", got (one|another|none|more|fewer|neither|both|two|it)\b": "show the value, or say what "
    "happened",
    r"and it (does|is) not\b": "say what is missing",
    r"\bso (many|much)\b": "name the number",
    r"\b(goes|go|went) on\b": "continue",
    r"\bonce more\b": "again",
    r"\bnothing but\b": "only",
    r"\bbrings? along\b": "has",
    r"\bbe it\b": "if",
}
_TEXTS = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".cfg", ".service", ".ipynb", ""}
_OWN = {".ci/check_prose.py", "LICENSE"}


def main() -> int:
    """Print each finding as FILE:LINE, and return 1 if there is one."""
    git = shutil.which("git") or "git"
    listed = subprocess.run([git, "ls-files", "-z"], capture_output=True, check=True)
    names = listed.stdout.decode().rstrip("\0").split("\0")
    found = 0
    for path in map(Path, sorted(set(names) - _OWN)):
        if path.suffix in _TEXTS and path.is_file():
            for line, fault in _faults(path, path.read_text(encoding="utf-8")):
                print(f"{path}:{line}: {fault}")
                found += 1
    return int(found > 0)


def _faults(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each finding in a file."""
    if path.suffix == ".py":
        yield from _openers(ast.parse(text))
    for phrase, advice in PHRASES.items():
        # A phrase may be broken between two lines, of comments and of strings, too.
        gap = r"""(?:\s|[#>] |"\s+r?f?")+"""
        for match in re.finditer(phrase.replace(" ", gap), text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            yield line, f"{' '.join(match[0].split())!r}: {advice}"


def _openers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each docstring that opens with a question word."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented):
            opener = OPENERS.match(ast.get_docstring(node) or "")
            if opener:
                yield node.body[0].lineno, f"{opener[0]!r} opens a docstring: use a noun or a verb"


if __name__ == "__main__":
    sys.exit(main())
