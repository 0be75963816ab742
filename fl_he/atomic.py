"""Files that appear on the disk whole or not at all.

`write_new` never replaces a file, `replace_file` does. Where the system has files without a name
(Linux), the content stays in such a file until it is on the disk, so that a process that is killed
leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import BinaryIO


def write_new(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file that must not exist yet.

    Parameters
    ----------
    path : Path
        Where nothing is yet, not even a link.
    content : bytes
    mode : int or None
        Permissions of the file, whatever the umask; None for those that the umask leaves.

    Raises
    ------
    FileExistsError
        If something is there already.
    OSError
        If the file cannot be written.
    """
    try:
        if not _write_unnamed(path, content, mode):
            _write_and_link(path, content, mode)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    synchronise(path.parent)


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file in place of an older one, if there is one.

    A reader sees the old content or the new content, never a part.

    Parameters
    ----------
    path : Path
        In a folder that exists. A link is replaced, not followed.
    content : bytes
    mode : int or None
        As in `write_new`.

    Raises
    ------
    OSError
        If the file cannot be written; the older file is then still whole.
    """
    temporary = _beside(path)  # in the same folder: a rename across file systems is not atomic
    try:
        if not _write_unnamed(temporary, content, mode):
            _write_named(temporary, content, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    synchronise(path.parent)


def synchronise(folder: Path) -> None:
    """Return when the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _write_unnamed(path: Path, content: bytes, mode: int | None) -> bool:
    """Write a file that gets its name last; False where that is not possible."""
    flag, names = getattr(os, "O_TMPFILE", None), Path("/proc/self/fd")
    if flag is None or not names.is_dir():
        return False
    try:
        file = _opened(path.parent, flag, mode)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):  # the file system has none
            return False
        raise
    with file:
        _fill(file, content, mode)
        # As in linkat's manual page; Python calls linkat, and not link, if a folder is given.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.link(names / str(file.fileno()), path, src_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
    return True


def _write_and_link(path: Path, content: bytes, mode: int | None) -> None:
    """Write a file under another name first: a link, unlike a rename, never replaces a file."""
    temporary = _beside(path)
    try:
        _write_named(temporary, content, mode)
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        _write_named(path, content, mode)  # the file system has no links, as on a memory stick
    finally:
        temporary.unlink(missing_ok=True)


def _write_named(path: Path, content: bytes, mode: int | None) -> None:
    with _opened(path, os.O_CREAT | os.O_EXCL, mode) as file:
        try:
            _fill(file, content, mode)
        except BaseException:
            path.unlink()
            raise


def _opened(path: Path, flags: int, mode: int | None) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | flags, 0o666 if mode is None else mode), "wb")


def _fill(file: BinaryIO, content: bytes, mode: int | None) -> None:
    if mode is not None:
        os.fchmod(file.fileno(), mode)  # gives back what the umask took away
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
