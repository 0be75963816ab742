from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fl_he.crypto.errors import KeyFileError
from fl_he.crypto.key_files.key_file import read_key_file, write_key_file


@pytest.fixture(params=["without a name", "aside"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of writing: on Linux, and elsewhere."""
    if request.param == "aside":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "key.json"
    old = os.umask(umask)
    try:
        write_key_file(path, "text")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path, 100) == "text"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("mine")
    with pytest.raises(KeyFileError, match=r"must not replace another file, got .*key\.json"):
        write_key_file(path, "other")
    assert path.read_text() == "mine"
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "absent")
    with pytest.raises(KeyFileError, match="must not replace"):
        write_key_file(dangling, "other")
    assert sorted(tmp_path.iterdir()) == [path, dangling]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_key_file(tmp_path / "key.json", "text")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ascii_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_key_file(tmp_path / "key.json", "caf\u00e9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
@pytest.mark.parametrize("way", ["without a name"], indirect=True)
@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR, errno.EACCES])
def test_a_file_system_may_have_no_files_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    flag, opened = os.O_TMPFILE, os.open

    def without(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & flag == flag:
            raise OSError(code, os.strerror(code))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", without)
    path = tmp_path / "key.json"
    if code == errno.EACCES:
        with pytest.raises(PermissionError):
            write_key_file(path, "text")
        assert list(tmp_path.iterdir()) == []
    else:
        write_key_file(path, "text")
        assert read_key_file(path, 100) == "text"


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
def test_a_process_that_is_killed_leaves_no_secret_behind(tmp_path: Path) -> None:
    """Killed when all is written, before the file has its name."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from fl_he.crypto.key_files.key_file import write_key_file\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_key_file(Path(sys.argv[1]), 'SECRET')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "key.json")], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    write_key_file(path, "text")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"owner only .chmod 600., got mode {mode:o} of "):
        read_key_file(path, 100)


def test_only_short_regular_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_key_file(path, "12345")
    assert read_key_file(path, 5) == "12345"
    with pytest.raises(KeyFileError, match="at most 4 bytes, got 5"):
        read_key_file(path, 4)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for other in (pipe, tmp_path, Path(os.devnull)):
        with pytest.raises((KeyFileError, IsADirectoryError)):
            read_key_file(other, 100)
    with pytest.raises(FileNotFoundError):
        read_key_file(tmp_path / "absent", 100)


def test_other_bytes_than_ascii_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(b"a\xff")
    path.chmod(0o600)
    assert read_key_file(path, 100) == "a\N{REPLACEMENT CHARACTER}"
