"""Files and lines that are on the disk whole or not at all.

`write_new` never replaces a file, `replace_file` does. Where the system has files without a name
(Linux), the content stays in such a file until it is on the disk, so that a process that is killed
leaves nothing behind. `append` adds to a file and takes back what a full disk has cut off. An
OSError of these functions names the file that was asked for.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: In this many bytes a mark must stand.
_BEGINNING = 1 << 16


def write_new(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file that must not exist yet.

    Parameters
    ----------
    path : Path
        Where nothing is yet, not even a link.
    content : bytes
    mode : int or None
        Permissions of the file, independent of the umask; None for those that the umask leaves.

    Raises
    ------
    FileExistsError
        If something is there already.
    OSError
        If the file cannot be written.
    """
    with _named(path):
        if not _write_unnamed(path, content, mode):
            _write_and_link(path, content, mode)
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
    with _named(path):
        try:
            if not _write_unnamed(temporary, content, mode):
                _write_named(temporary, content, mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        synchronise(path.parent)


def require_own(path: Path, mark: bytes) -> None:
    """Refuse to replace what fl-he did not make: another program's file, a link, a device.

    Parameters
    ----------
    path : Path
    mark : bytes
        Stands near the beginning of all files of fl-he of this kind.

    Raises
    ------
    FileExistsError
        Unless there is nothing, or a regular file with the mark.
    OSError
        If the place cannot be looked at.
    """
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if regular:
        with path.open("rb") as file:
            regular = mark in file.read(_BEGINNING)
    if not regular:
        raise FileExistsError(
            errno.EEXIST,
            "already exists and is not a file of this kind that fl-he made; not overwriting it: "
            "name another file, or move that one",
            str(path),
        )


def append(path: Path, descriptor: int, content: bytes) -> None:
    """Add to the end of a file; the content is on the disk when this returns.

    Parameters
    ----------
    path : Path
        The file's name, for errors.
    descriptor : int
        The file, opened for writing at its end (``O_APPEND``) by nobody else at the same time.
    content : bytes

    Raises
    ------
    OSError
        If the content cannot be written; the file then ends where it ended before, unless the disk
        refuses even that.
    """
    end = os.fstat(descriptor).st_size
    with _named(path):
        try:
            rest = memoryview(content)
            while rest:  # a disk that fills up takes a part first
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(descriptor, end)
                os.fsync(descriptor)
            raise


def synchronise(folder: Path) -> None:
    """Return when the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have errors name the file that was asked for, and not one that stands for it meanwhile."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


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
