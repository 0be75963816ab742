"""The folder of a run: refused if it holds another run, given back if nothing came of this one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile

from fl_he.config.constraints import ConfigError
from fl_he.run_files import checkpoint
from fl_he.run_files import metrics as metrics_file

#: What shows that a folder holds the results of a run, or what it takes to go on with one.
_RESULTS = (
    metrics_file.NAME,
    "model.json",
    "comparison.png",
    "report.html",
    "hospitals",
    checkpoint.NAME,
)
#: Copies of the configuration, which alone are worth nothing.
_COPIES = (".hydra", "multirun.yaml")


def refuse_used(folder: Path) -> None:
    """Refuse a folder whose results a new run would overwrite.

    Whoever goes on with a run on purpose does not call this.

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
            "cut off goes on with resume=)"
        )


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
        If it holds the results of a run, or cannot be made or written to.
    """
    refuse_used(folder)
    claim = FolderClaim(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
    """What was at a place before a run or a sweep, so that only its own traces are removed.

    Parameters
    ----------
    folder : Path
        Where the run or the sweep will write; looked at now, before anything is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        children = list(inside(self.folder))
        below = chain.from_iterable(map(inside, children))
        places = (self.folder, *self.folder.parents, *children, *below)
        self._there = frozenset(place for place in places if is_there(place))

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
