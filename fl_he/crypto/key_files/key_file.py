"""Files that only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fl_he.atomic import write_new
from fl_he.crypto.errors import KeyFileError


def write_key_file(path: Path, text: str) -> None:
    """Write a new file of mode 0600; the file appears whole or not at all (see `write_new`).

    Parameters
    ----------
    path : Path
        Where no file is yet, on a file system with hard links.
    text : str
        ASCII text.

    Raises
    ------
    KeyFileError
        If the file exists already.
    OSError
        If it cannot be written.
    """
    try:
        write_new(path, text.encode("ascii"), 0o600)
    except FileExistsError:
        raise KeyFileError(f"a key file must not replace another file, got {path}") from None


def read_key_file(path: Path, limit: int) -> str:
    """Return what `read_key_bytes` reads as text; what is not ASCII is replaced."""
    return read_key_bytes(path, limit).decode("ascii", errors="replace")


def not_private(status: os.stat_result) -> str | None:
    """Return what a file that only its owner may touch must be, and what this one is instead."""
    if not stat.S_ISREG(status.st_mode):
        return f"a regular file, got one of type {stat.filemode(status.st_mode)[0]!r}"
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        return f"accessible by its owner only (chmod 600), got mode {mode:o}"
    return None


def read_key_bytes(path: Path, limit: int) -> bytes:
    """Read a file that only its owner may touch.

    Parameters
    ----------
    path : Path
        The file.
    limit : int
        Largest accepted number of bytes.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    KeyFileError
        If it is not a regular file, is too long, or others than its owner may touch it.
    OSError
        If it cannot be read.
    """
    # O_NONBLOCK: opening a named pipe must not wait for somebody to write.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if (problem := not_private(status)) is not None:
            raise KeyFileError(f"a key file must be {problem} of {path}")
        if status.st_size > limit:
            raise KeyFileError(
                f"a key file must have at most {limit} bytes, got {status.st_size} of {path}"
            )
        return file.read(limit)
