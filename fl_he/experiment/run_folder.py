"""The folder of a run: refused if it holds another run, given back if nothing came of this one."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

from fl_he.config.constraints import ConfigError
from fl_he.run_files import checkpoint
from fl_he.run_files import metrics as metrics_file

#: What shows that a folder holds the results of a run, or what it takes to continue one.
_RESULTS = (
    metrics_file.NAME,
    "model.json",
    "comparison.png",
    "report.html",
    "hospitals",
    checkpoint.NAME,
)
#: Copies of the configuration, which alone are worth nothing.
_COPIES = (".hydra", "multirun.yaml", checkpoint.SCHEMA)

#: The folders that this process is in, by device and inode: the locked descriptor, and how often
#: each was entered.
_locked: dict[tuple[int, int], int] = {}
_entered: Counter[tuple[int, int]] = Counter()
_entering = Lock()


def refuse_used(folder: Path) -> None:
    """Refuse a folder whose results a new run would overwrite.

    Whoever continues a run on purpose does not call this.

    Parameters
    ----------
    folder : Path
        The folder of a run.

    Raises
    ------
    ConfigError
        If it holds the results of a run.
    """
    if any(is_there(folder / name) for name in _RESULTS):
        raise ConfigError(
            f"output_dir must not hold another run's results, got {str(folder.absolute())!r}, "
            "which does: choose another output_dir, or move or delete that folder (a run that was "
            "cut off continues with resume=)"
        )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes' runs out of a folder while the context is open.

    The lock is on the folder itself (``flock``), so it leaves no file behind and ends with its
    process, however that ends. The same process may enter again. A file system without locks keeps
    nobody out.

    Parameters
    ----------
    folder : Path
        Made if it is missing, and then removed again if it is empty at the end.

    Raises
    ------
    ConfigError
        If another process is in it.
    OSError
        If it is no folder, or cannot be made.
    """
    made = not is_there(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _entering:
        status = folder.stat()
        place = status.st_dev, status.st_ino
        if place not in _locked:
            _locked[place] = _lock(folder)
        _entered[place] += 1
    try:
        yield
    finally:
        with _entering:
            _entered[place] -= 1
            if not _entered[place]:
                os.close(_locked.pop(place))
        if made:
            with suppress(OSError):  # it holds what the run has written
                folder.rmdir()


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = os.path.samestat(os.fstat(descriptor), folder.stat())  # not given back meanwhile
    except (BlockingIOError, FileNotFoundError):
        free = False
    except OSError:  # a file system without locks, as on some network drives
        free = True
    if not free:
        os.close(descriptor)
        raise ConfigError(
            f"another run is at work in {str(folder.absolute())!r}: wait until it has ended, or "
            "choose another output_dir"
        )
    return descriptor


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Make a run's folder before the work is done, and give it back if the work fails.

    Parameters
    ----------
    folder : Path
        Where the run will write.

    Raises
    ------
    ConfigError
        If it holds the results of a run, another run is at work in it, or it cannot be made or
        written to.
    """
    with FolderClaim(folder) as claim:
        refuse_used(folder)
        try:
            with TemporaryFile(dir=folder):
                pass
        except OSError:
            raise unusable(folder) from None
        try:
            yield
        except BaseException:
            claim.give_back()
            raise


def unusable(folder: Path) -> ConfigError:
    """Return the error for a folder that cannot be made or written to."""
    return ConfigError(
        f"output_dir must be a folder that can be written to, got {str(folder.absolute())!r}"
    )


class FolderClaim:
    """A folder that is made and kept for one run or sweep; only its own traces are removed.

    A context manager: other runs are kept out until it is left.

    Parameters
    ----------
    folder : Path
        Where the run or the sweep will write; looked at before it is made.

    Raises
    ------
    ConfigError
        If another run is at work in it, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        children = list(inside(self.folder))
        below = chain.from_iterable(map(inside, children))
        places = (self.folder, *self.folder.parents, *children, *below)
        self._there = frozenset(place for place in places if is_there(place))
        self._alone = ExitStack()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._alone.enter_context(alone_in(self.folder))
        except OSError:
            raise unusable(folder) from None

    def __enter__(self) -> FolderClaim:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Let other runs in."""
        self._alone.close()

    def give_back(self, folder: Path | None = None) -> None:
        """Remove copies of the configuration and new, now empty folders; nothing else.

        Parameters
        ----------
        folder : Path or None
            The folder of one job of a sweep; None for all of it.
        """
        if folder is None:
            for job in list(inside(self.folder)):
                if job.is_dir() and job not in self._there:
                    self.give_back(job)
        folder = self.folder if folder is None else folder.resolve()
        new = [place for place in inside(folder) if place not in self._there]
        if any(place.name not in _COPIES for place in new):
            return
        with suppress(OSError):  # what cannot be removed stays
            for place in new:
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink()
            for place in (folder, *folder.parents):
                if place in self._there:
                    break
                place.rmdir()


def inside(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds; nothing if it is none, or one that may not be read."""
    with suppress(OSError):
        yield from folder.iterdir()


def is_there(place: Path) -> bool:
    """Return whether there is anything at a place, as far as it may be looked at."""
    try:
        return place.exists()
    except OSError:
        return False
