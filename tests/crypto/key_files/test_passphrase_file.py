from __future__ import annotations

from pathlib import Path

import pytest

from fl_he.crypto.errors import KeyFileError
from fl_he.crypto.key_files import read_passphrase_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    return path


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        ("käse".encode(), "käse"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"\rtwo  words \n\nmore\n", "\rtwo  words "),
        (b"x" * 1023 + b"\n", "x" * 1023),
    ],
)
def test_the_first_line_is_the_passphrase(path: Path, content: bytes, passphrase: str) -> None:
    path.write_bytes(content)
    assert read_passphrase_file(path) == passphrase


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: it must be the passphrase"),
        (b"\nsecret", "is empty: it must be the passphrase"),
        (b"\r\nsecret", "is empty: it must be the passphrase"),
        (b"\xff", "must be UTF-8 text"),
        (b"x" * 1025, "1024 bytes"),
    ],
)
def test_other_files_are_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=message):
        read_passphrase_file(path)


def test_others_may_not_touch_it(path: Path) -> None:
    path.write_text("secret")
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="by its owner only"):
        read_passphrase_file(path)
    with pytest.raises(FileNotFoundError):
        read_passphrase_file(path.with_name("none"))
