"""A text of a node's own in a file: replaced whole, by one process at a time."""

from __future__ import annotations

import stat
from multiprocessing import get_context
from pathlib import Path

import pytest
from full_disk import full_disk

from fl_he.clients.ledger_file import FileText
from fl_he.clients.stores import LedgerError
from fl_he.wire.records import ProtocolError


def read(path: Path) -> str | None:
    with FileText(path).exclusively() as text:
        return text.read()


def write(path: Path, words: str) -> None:
    with FileText(path).exclusively() as text:
        text.write(words)


def test_a_text_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    assert read(path) is None
    assert list(tmp_path.iterdir()) == [], "no file stays where nothing was written"
    for words in ("first", "second"):
        write(path, words)
        assert read(path) == words
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write(path, "words")
    path.chmod(0o640)
    with pytest.raises(LedgerError, match="accessible by its owner only"):
        read(path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for other in (tmp_path / "link", tmp_path):
        with pytest.raises(LedgerError, match="must be a file that this node can write"):
            read(other)
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    with pytest.raises(LedgerError, match="must be ASCII text"):
        read(path)


def test_a_full_disk_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write(path, "old")
    with (
        full_disk(1 << 16),
        pytest.raises(ProtocolError, match="this node cannot write to its ledger"),
    ):
        write(path, "new" * (1 << 16))
    assert read(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def count(path: Path, times: int) -> None:
    for _ in range(times):
        with FileText(path).exclusively() as text:
            number = int(text.read() or 0)
            text.write(str(number + 1))


def test_processes_take_turns(tmp_path: Path) -> None:
    """Wait for the first process, too, which makes the file."""
    path, times = tmp_path / "kept", 40
    processes = [get_context("fork").Process(target=count, args=(path, times)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert read(path) == str(3 * times)
