"""Files of a deployed node: a ledger, which only grows, and others, which are replaced whole."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from fl_he.atomic import append, replace_file, synchronise
from fl_he.clients.stores import LONGEST_LINE, LedgerError
from fl_he.crypto.key_files import not_private
from fl_he.wire.records import ProtocolError

_logger = logging.getLogger(__name__)

#: Ends a line whose writing was cut off, put there before the next line. No whole line ends so.
_CUT_OFF = b"#cut off"
#: Opens a file to change it, and makes it if there is none.
_MAKE = os.O_RDWR | os.O_CREAT


class FileStore:
    """Keeps a ledger in a file of mode 0600, one line after another.

    A line is on the disk when `append` returns: the file is synchronised, and so is its folder
    when the file is new. Processes take turns by a lock on the file (``flock``), which ends with
    its process, however that ends. A full disk leaves no part of a line. A line that was cut off by
    a crash of the machine stays in the file and is read as None.

    Parameters
    ----------
    path : Path
        The file; made at first use, in a folder that exists.
    longest : int
        Longest line that is read, its end included.

    Raises
    ------
    LedgerError
        When it is used, if the file cannot be opened or is none, others than its owner may touch
        it, or a line is too long or no ASCII text.
    ProtocolError
        If a line cannot be written.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path, longest: int = LONGEST_LINE) -> None:
        self._path = path
        self._longest = longest

    def is_new(self) -> bool:
        """See Store."""
        return not os.path.lexists(self._path)

    @contextmanager
    def exclusively(self) -> Iterator[_FileLines]:
        """See Store; waits until no other process has the file."""
        with _locked(self._path, _MAKE | os.O_APPEND) as file:
            if os.fstat(file.fileno()).st_size == 0:
                synchronise(self._path.parent)
            yield _FileLines(file, self._path, self._longest)

    def read(self) -> list[str | None]:
        """Return the lines, none where nothing was ever noted; no file is made or changed."""
        if self.is_new():
            return []
        with _locked(self._path, os.O_RDONLY, fcntl.LOCK_SH) as file:
            return list(_FileLines(file, self._path, self._longest))


class FileBytes:
    """Keeps bytes in a file of mode 0600, which is replaced as a whole.

    Processes take turns as with `FileStore`. No file stays where nothing was written.

    Parameters
    ----------
    path : Path
        The file; made at first use, in a folder that exists.

    Raises
    ------
    LedgerError, ProtocolError, OSError
        As `FileStore`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def exclusively(self) -> Iterator[Self]:
        """Lock the file and give access to it; waits until no other process has it."""
        with _locked(self.path) as file:
            try:
                yield self
            finally:
                if os.fstat(file.fileno()).st_size == 0 and self.read_bytes() is None:
                    self.path.unlink(missing_ok=True)

    def read_bytes(self) -> bytes | None:
        """Return the bytes, ``None`` where there are none yet."""
        try:
            return self.path.read_bytes() or None
        except FileNotFoundError:
            return None

    def write_bytes(self, content: bytes) -> None:
        """Replace the content; the last access under a lock, which is on the replaced file."""
        with room(self.path):
            replace_file(self.path, content, 0o600)


class FileText(FileBytes):
    """Keeps a text as `FileBytes` does; see TextStore."""

    def read(self) -> str | None:
        """See Text."""
        content = self.read_bytes()
        try:
            return None if content is None else content.decode("ascii")
        except UnicodeDecodeError:
            raise LedgerError(f"a node's own file must be ASCII text, got {self.path}") from None

    def write(self, text: str) -> None:
        """See Text."""
        self.write_bytes(text.encode("ascii"))


@contextmanager
def _locked(path: Path, flags: int = _MAKE, lock: int = fcntl.LOCK_EX) -> Iterator[BinaryIO]:
    """Open a file that is its owner's alone, and lock it; by default nobody else has it meanwhile.

    A file that was replaced while this process waited is opened anew.
    """
    # O_NONBLOCK: opening a named pipe must not wait for somebody to read.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    verb = "write" if flags & os.O_CREAT else "read"
    while True:
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise LedgerError(
                f"a ledger must be a file that this node can {verb}, got {path}: {error.strerror}"
            ) from error
        with os.fdopen(descriptor, "rb" if verb == "read" else "r+b", buffering=0) as file:
            fcntl.flock(file, lock)
            status = os.fstat(file.fileno())
            if (problem := not_private(status)) is not None:
                raise LedgerError(f"a ledger must be {problem} of {path}")
            same = False
            with suppress(FileNotFoundError):
                same = os.path.samestat(status, path.lstat())
            if same:
                yield file
                return


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Refuse to continue where the disk takes no more of a node's own file."""
    try:
        yield
    except OSError as error:
        _logger.error("cannot write to the ledger %s: %s", path, error.strerror)
        # Public, since it tells of the machine alone: a hospital stays in the run.
        raise ProtocolError(
            "this node cannot write to its ledger, so nothing was noted or answered: this "
            "node's log names the file; make room on its disk, then resume the run"
        ) from error


class _FileLines:
    def __init__(self, file: BinaryIO, path: Path, longest: int) -> None:
        self._file = file
        self._path = path
        self._longest = longest

    def __iter__(self) -> Iterator[str | None]:
        """See Lines; reads line by line, so that a long file needs no memory."""
        with os.fdopen(os.dup(self._file.fileno()), "rb") as reader:
            reader.seek(0)
            while line := reader.readline(self._longest):
                whole = line.endswith(b"\n")
                if not whole and len(line) == self._longest:
                    raise LedgerError(f"a ledger's line must be shorter, got {self._path}")
                if not whole or line.endswith(_CUT_OFF + b"\n"):
                    yield None
                elif not line.isascii():
                    raise LedgerError(f"a ledger must be ASCII text, got {self._path}")
                else:
                    yield line[:-1].decode("ascii")

    def append(self, line: str) -> None:
        """See Lines."""
        end = os.fstat(self._file.fileno()).st_size
        cut_off = end > 0 and os.pread(self._file.fileno(), 1, end - 1) != b"\n"
        data = (_CUT_OFF + b"\n" if cut_off else b"") + line.encode("ascii") + b"\n"
        with room(self._path):
            append(self._path, self._file.fileno(), data)
