"""Files that anybody may read: public keys, public entries, study plans, manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fl_he.atomic import write_new
from fl_he.errors import FlHeError

Parsed = TypeVar("Parsed")

_LIMIT = 2**21  # characters: a manifest of a thousand nodes


def write_public_file(path: Path, text: str) -> None:
    """Write a new file; what is there already may be in use and is never replaced.

    Raises
    ------
    FileExistsError
        If there is one.
    OSError
        If it cannot be written.
    """
    require_absent(path)
    write_new(path, f"{text}\n".encode("ascii"))


def require_absent(*paths: Path) -> None:
    """Raise FileExistsError if one of the files is there."""
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} already exists; not overwriting it")


def parse_public_file(path: Path, parse: Callable[[str], Parsed]) -> Parsed:
    """Return what a file holds, by the function that reads its text.

    Raises
    ------
    FlHeError
        If that refuses it, with the file's name.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        text = file.read(_LIMIT + 1).decode("ascii", errors="replace")  # cut off: it is refused
    try:
        return parse(text)
    except FlHeError as error:
        raise type(error)(f"{path}: {error}") from None
