"""Files that only their owner may read."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TextIO

from fl_he.crypto.errors import KeyFileError


def write_key_file(path: Path, text: str) -> None:
    """Write a new file of mode 0600; it appears whole or not at all.

    Where the system has files without a name (Linux), the text is in none until it is on the disk,
    so that a process that is killed leaves nothing.

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
        if not _write_without_name(path, text):
            _write_aside(path, text)
    except FileExistsError:
        raise KeyFileError(f"a key file must not replace another file, got {path}") from None
    synchronise(path.parent)


def synchronise(folder: Path) -> None:
    """Have the names of a folder's files on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_without_name(path: Path, text: str) -> bool:
    """Write a file that gets its name last; False where that is not possible."""
    flag, names = getattr(os, "O_TMPFILE", None), Path("/proc/self/fd")
    if flag is None or not names.is_dir():
        return False
    try:
        descriptor = os.open(path.parent, os.O_WRONLY | flag, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):  # the file system has none
            return False
        raise
    with _private(descriptor) as file:
        _fill(file, text)
        # As in linkat's manual page; Python calls it, and not link, if a folder is given. Unlike a
        # rename it never replaces a file.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.link(names / str(descriptor), path, src_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
    return True


def _write_aside(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with _private(descriptor) as file:
            _fill(file, text)
        path.hardlink_to(temporary)
    finally:
        temporary.unlink()


def _private(descriptor: int) -> TextIO:
    file = os.fdopen(descriptor, "w", encoding="ascii")
    os.fchmod(descriptor, 0o600)  # whatever the umask took away
    return file


def _fill(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())


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
