"""The ``fl-he`` command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def fl_he(folder: Path, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Run ``fl-he`` in a folder; return its exit code, output and errors."""
    return run_python(folder, "-m", "fl_he.cli", *arguments, typed=typed)


def run_python(folder: Path, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Run Python in a folder, without a terminal, with what is typed on its standard input."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        input=typed,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr
