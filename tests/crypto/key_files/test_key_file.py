from __future__ import annotations

import os
from pathlib import Path

import pytest

from fl_he.crypto.errors import KeyFileError
from fl_he.crypto.key_files import DEFAULT_COST, load_secret, read_key_bytes, save_secret


def write(path: Path, text: str) -> None:
    save_secret(path, text, "test", None, DEFAULT_COST)


def test_a_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write(path, "text")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_bytes(path, 100) == b"text\n"


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("mine")
    with pytest.raises(KeyFileError, match=r"must not replace another file, got .*key\.json"):
        write(path, "other")
    assert path.read_text() == "mine"
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "absent")
    with pytest.raises(KeyFileError, match="must not replace"):
        write(dangling, "other")
    assert sorted(tmp_path.iterdir()) == [path, dangling]


def test_what_is_not_ascii_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "key.json", "caf\u00e9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    write(path, "text")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"owner only .chmod 600., got mode {mode:o} of "):
        read_key_bytes(path, 100)


def test_only_short_regular_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write(path, "1234")
    assert read_key_bytes(path, 5) == b"1234\n"
    with pytest.raises(KeyFileError, match="at most 4 bytes, got 5"):
        read_key_bytes(path, 4)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for other in (pipe, tmp_path, Path(os.devnull)):
        with pytest.raises(KeyFileError, match=f"must be a regular file, got .* of {other}"):
            read_key_bytes(other, 100)
    with pytest.raises(FileNotFoundError):
        read_key_bytes(tmp_path / "absent", 100)


def test_other_bytes_than_ascii_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(b"a\xff")
    path.chmod(0o600)
    assert load_secret(path, "test", None, 100) == "a\N{REPLACEMENT CHARACTER}"
