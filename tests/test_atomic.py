from __future__ import annotations

import errno
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import full_disk

from fl_he.atomic import append, replace_file, require_own, write_new

Write = Callable[..., None]
BOTH = pytest.mark.parametrize("write", [write_new, replace_file])


@pytest.fixture(params=["without a name", "aside"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of writing: on Linux, and elsewhere."""
    if request.param == "aside":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


@BOTH
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_private_file_is_private_whatever_the_umask(
    write: Write, tmp_path: Path, umask: int
) -> None:
    path = tmp_path / "key.json"
    old = os.umask(umask)
    try:
        write(path, b"text", 0o600)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"text"
    assert list(tmp_path.iterdir()) == [path]


@BOTH
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_another_file_has_the_permissions_that_the_umask_leaves(
    write: Write, tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "page.html"
    old = os.umask(umask)
    try:
        write(path, b"text")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == mode


def test_a_new_file_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("mine")
    with pytest.raises(FileExistsError) as raised:
        write_new(path, b"other")
    assert raised.value.filename == str(path)
    assert path.read_text() == "mine"
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "absent")
    with pytest.raises(FileExistsError):
        write_new(dangling, b"other")
    assert sorted(tmp_path.iterdir()) == [path, dangling]


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as reader:
        replace_file(path, b"new", 0o600)
        assert reader.read() == "old", "a reader still reads the old file"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "page.html"
    other.write_text("kept")
    path.symlink_to(other)
    replace_file(path, b"new")
    assert (other.read_text(), path.read_text()) == ("kept", "new")
    assert not path.is_symlink()


@BOTH
def test_nothing_is_written_through_the_temporary_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A link that somebody puts where the temporary file will be."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    other, path = tmp_path / "other", tmp_path / "key.json"
    other.write_text("kept")
    (tmp_path / ".key.json.guessed").symlink_to(other)
    if write is write_new and "aside" not in request.node.callspec.id:
        write(path, b"text")
        assert path.read_text() == "text"
    else:
        with pytest.raises(FileExistsError):
            write(path, b"text")
        assert not path.exists()
    assert other.read_text() == "kept"


@BOTH
def test_a_failed_write_leaves_what_was_there(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    old = tmp_path / "old.json"
    old.write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    for path in (tmp_path / "new.json", *([old] if write is replace_file else [])):
        with pytest.raises(OSError, match="disk full"):
            write(path, b"text")
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


@BOTH
def test_file_and_folder_are_on_the_disk_in_this_order(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync = tmp_path / "key.json", os.fsync
    synchronised: list[tuple[bool, int, bool]] = []

    def spy(descriptor: int) -> None:
        status = os.fstat(descriptor)
        folder = status.st_ino == tmp_path.stat().st_ino
        synchronised.append((folder, 0 if folder else status.st_size, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write(path, b"text")
    assert synchronised == [(False, 4, False), (True, 0, True)]


@BOTH
@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
@pytest.mark.parametrize("way", ["without a name"], indirect=True)
@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR, errno.EACCES])
def test_a_file_system_may_have_no_files_without_a_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
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
            write(path, b"text")
        assert list(tmp_path.iterdir()) == []
    else:
        write(path, b"text")
        assert path.read_bytes() == b"text"
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", ["aside"], indirect=True)
@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_may_have_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "key.json"
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write_new(path, b"text", 0o600)
        assert list(tmp_path.iterdir()) == []
        return
    write_new(path, b"text", 0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"text", 0o600)
    with pytest.raises(FileExistsError):
        write_new(path, b"other")
    assert path.read_bytes() == b"text"
    assert list(tmp_path.iterdir()) == [path]


@BOTH
@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
@pytest.mark.parametrize("way", ["without a name"], indirect=True)
def test_a_process_that_is_killed_leaves_no_secret_behind(write: Write, tmp_path: Path) -> None:
    """Killed when all is written, before the file has its name."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        f"from fl_he.atomic import {write.__name__} as write\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(Path(sys.argv[1]), b'SECRET')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "key.json")], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_an_error_names_the_file_that_was_asked_for(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with full_disk(10), pytest.raises(OSError, match="File too large") as raised:
        write(path, bytes(11))
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def appended(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        append(path, descriptor, content)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("room", [1, 5, 11])
def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, room: int) -> None:
    path = tmp_path / "ledger"
    appended(path, b"first line\n")
    with full_disk(11 + room), pytest.raises(OSError, match="File too large") as raised:
        appended(path, b"second line\n")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"first line\n"
    with full_disk(23):
        appended(path, b"second line\n")
    assert path.read_bytes() == b"first line\nsecond line\n"


def test_a_line_that_may_not_be_on_the_disk_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    appended(path, b"first line\n")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        appended(path, b"second line\n")
    assert path.read_bytes() == b"first line\n"


@pytest.mark.parametrize("kind", ["link", "dangling", "device", "pipe", "folder", "other", "empty"])
def test_what_fl_he_did_not_make_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path, own = tmp_path / "page.html", tmp_path / "own.html"
    own.write_bytes(b"<html> a mark")
    for _ in range(2):
        require_own(path, b"mark")
        require_own(own, b"mark")
    match kind:
        case "link":
            path.symlink_to(own)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "device":
            path = Path("/dev/null")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "other":
            path.write_text("<html> mine")
        case "empty":
            path.touch()
    with pytest.raises(FileExistsError, match="not a file of this kind that fl-he made") as raised:
        require_own(path, b"mark")
    assert raised.value.filename == str(path)
