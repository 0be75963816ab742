"""Targets of votes in files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.target import Target

from fl_he.learning.errors import DataError
from fl_he.learning.voting.vote_files import count_votes

_VOTES: tuple[Any, ...] = (
    np.array([0, 2, 1]),
    np.array([0.0, 2.0, 1.0], dtype=np.float32),
    np.array([[0.5, -1.0, 2.0]] * 3),
    np.array([["a", "b"]] * 3),
    np.zeros((3, 2, 2)),
)
_TABLES = (b"vote\n0\n2\n1\n", b"a,b,c\n0.5,-1,2\n1,2,3\n1e3,0,0\n", b"a,b,c\n1,2\n", b"vote\nx\n")


def _reader(name: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        path = Path(name)
        path.write_bytes(data)
        return count_votes([path], 3)

    return read


def _arrays() -> list[bytes]:
    files = [io.BytesIO() for _ in _VOTES]
    for file, votes in zip(files, _VOTES, strict=True):
        np.save(file, votes)
    return [file.getvalue() for file in files]


TARGETS = (
    Target("votes-npy", _reader("votes.npy"), (DataError,), _arrays),
    Target("votes-csv", _reader("votes.csv"), (DataError,), lambda: [*_TABLES], 0.5),
)
