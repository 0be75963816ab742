"""Keys of company X's sessions, as they are on its disk."""

from __future__ import annotations

from pathlib import Path

from fl_he.crypto.paillier.private_key import PrivateKey


def key_files(folder: Path) -> list[Path]:
    """Return the files of all keys of sessions."""
    return sorted(folder.glob("*.key.*.json"))


def session_key(folder: Path) -> PrivateKey:
    """Return the key of the one session that has a key."""
    (path,) = key_files(folder)
    return PrivateKey.load(path)
