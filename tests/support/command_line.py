"""The ``fl-he`` command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fresh_processes import run_forked

ROOT = Path(__file__).parents[2]


def fl_he(
    folder: Path, *arguments: str, typed: str = "", started: bool = False
) -> tuple[int, str, str]:
    """Run ``fl-he`` in a folder; return its exit code, output and errors."""
    return run_python(folder, "-m", "fl_he.cli", *arguments, typed=typed, started=started)


def run_python(
    folder: Path, *arguments: str, typed: str = "", started: bool = False
) -> tuple[int, str, str]:
    """Run Python in a folder, without a terminal, with given text on its standard input.

    Parameters
    ----------
    folder : Path
    *arguments : str
        Of ``python``: ``-c`` and code, or ``-m`` and a module, and what these are given.
    typed : str, default ""
    started : bool, default False
        Whether Python is started for this, as a user does it. Else a process is forked, which
        has done all imports: much quicker, and as real.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    if started:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            input=typed,
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )
    else:
        result = run_forked(arguments, folder, environment, typed)
    return result.returncode, result.stdout, result.stderr
