"""bench.json: what a benchmark measured, on what, and how it was called.

``version`` of this format, ``fl_he``, ``command``, ``quick`` (fewer runs and cases: for a look,
not for comparison), ``machine`` (see `machine`), ``seconds`` of the whole benchmark, and
``sections`` with one member for each that was run: ``kernel``, ``federation``, ``hospitals``,
``capc``.
Names that end in ``_seconds`` are seconds, others with ``bytes`` are bytes. There is no host name,
no user and no path in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_he import __version__
from fl_he.bench.fresh import BenchError
from fl_he.metrics_file import replace_file

VERSION = 1


def check_out(path: Path) -> None:
    """Raise BenchError unless a file can be written there: before an hour's work, not after."""
    if path.is_dir() or not path.parent.is_dir():
        raise BenchError(f"out must be a file in a folder that exists, got {path}")


def write_bench(path: Path, bench: Mapping[str, Any]) -> None:
    """Write bench.json, at once or not at all.

    Parameters
    ----------
    path : Path
        Where; replaced if it exists.
    bench : mapping
        ``command``, ``quick``, ``machine``, ``seconds`` and ``sections``.
    """
    document = {"version": VERSION, "fl_he": __version__, **bench}
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    replace_file(path, f"{text}\n".encode())
