"""Files that hold the passphrase of a node's key files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fl_he.crypto.errors import KeyFileError
from fl_he.crypto.key_file import read_key_bytes

_LIMIT = 1024  # bytes


def read_passphrase_file(path: Path) -> str:
    """Return the first line of a file that only its owner may touch, without its line end.

    Raises
    ------
    KeyFileError
        If others may touch it, it is too long or empty, or it is not UTF-8.
    OSError
        If it cannot be read.
    """
    data = read_key_bytes(path, _LIMIT)
    text: str | None = None
    with suppress(UnicodeDecodeError):  # it holds what was read, so nothing is raised from it
        text = data.decode("utf-8")
    if text is None:
        raise KeyFileError(f"a passphrase file must be UTF-8 text, got another: {path}")
    passphrase = text.partition("\n")[0].removesuffix("\r")
    if not passphrase:
        raise KeyFileError(f"a passphrase must not be empty, got an empty first line in {path}")
    return passphrase
