from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fl_he.config.constraints import ConfigError
from fl_he.experiment.run_folder import FolderClaim, alone_in, opened, refuse_used

AT_WORK = "another run is at work in .*: wait until it has ended, or choose another output_dir"


@contextmanager
def another_run_in(folder: Path) -> Iterator[None]:
    """A lock belongs to an open file, so another process would be refused in the same way."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    with another_run_in(tmp_path):
        for enter in (alone_in, opened, FolderClaim):
            with pytest.raises(ConfigError, match=AT_WORK), enter(tmp_path):
                pytest.fail("it is another run's")
    for enter in (alone_in, opened, FolderClaim):
        with enter(tmp_path), pytest.raises(BlockingIOError), another_run_in(tmp_path):
            pass
    with another_run_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_process_may_enter_again(tmp_path: Path) -> None:
    inner = alone_in(tmp_path)
    with alone_in(tmp_path):
        inner.__enter__()
    with pytest.raises(BlockingIOError), another_run_in(tmp_path):
        pass
    inner.__exit__(None, None, None)
    with another_run_in(tmp_path):
        pass


def test_a_folder_that_its_run_gives_back_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()

    def lock(*_: int) -> None:
        folder.rmdir()

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.raises(ConfigError, match=AT_WORK), alone_in(folder):
        pytest.fail("it is gone")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone_in(tmp_path), alone_in(tmp_path):
        pass


def test_a_folder_is_made_for_the_run_and_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "metrics.json").touch()
    with pytest.raises(ConfigError, match=r"must not hold another run's results, got '/.*/a/run'"):
        refuse_used(tmp_path / "a" / "run")
    refuse_used(tmp_path / "a")
    refuse_used(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name",
    ["metrics.json", "model.json", "comparison.png", "report.html", "hospitals", "checkpoint.json"],
)
def test_the_folder_of_another_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="must not hold another run's results"):
        refuse_used(tmp_path)


def test_a_failed_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "a" / "run"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_folder_that_was_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), opened(tmp_path):
        raise ValueError("refused")
    assert tmp_path.is_dir()


def test_the_work_is_not_begun_without_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "run"
    with pytest.raises(ConfigError, match=rf"can be written to, got '{below}'$"), opened(below):
        pytest.fail("there is no folder")
    (tmp_path / "metrics.json").touch()
    with pytest.raises(ConfigError, match="another run's results"), opened(tmp_path):
        pytest.fail("it is another run's")


def test_only_own_copies_of_the_configuration_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "old" / ".hydra").mkdir(parents=True)
    claim = FolderClaim(tmp_path / "sweep" / ".." / "sweep")
    for name in ("old/.hydra", "0/.hydra", "1/.hydra", "2"):
        (tmp_path / "sweep" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sweep" / name / "config.yaml").touch()
    (tmp_path / "sweep" / "1" / "checkpoint").touch()
    claim.give_back()
    left = {str(path.relative_to(tmp_path / "sweep")) for path in tmp_path.glob("sweep/*/*")}
    assert left == {"old/.hydra", "1/.hydra", "1/checkpoint", "2/config.yaml"}
    assert not (tmp_path / "sweep" / "0").exists()
