"""A disk that is full, for users without privileges and on any machine."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file of this process grow beyond `room` bytes: as on a full disk, a part is written.

    The error's number is EFBIG and not ENOSPC; nothing must be printed meanwhile.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class FullDisks:
    """Files that take only a part of an addition, as if each were on a separate full disk.

    Attributes
    ----------
    files : set of Path
        May change at any time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: set[Path] = set()
        self._write = os.write
        monkeypatch.setattr(os, "write", self._write_part)

    def _write_part(self, descriptor: int, data: bytes) -> int:
        status = os.fstat(descriptor)
        if any(path.exists() and os.path.samestat(status, path.stat()) for path in self.files):
            self._write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, data)
