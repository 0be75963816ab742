"""Hydra jobs of a command line: one, or each of a sweep.

With :mod:`fl_he.config` the only one that imports Hydra.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from fl_he.config.composition import REFUSALS, to_config
from fl_he.config.constraints import ConfigError
from fl_he.config.explanation import explain, refuse_flags
from fl_he.config.help import CONF
from fl_he.config.run import Config
from fl_he.experiment.run_folder import (
    FolderClaim,
    alone_in,
    inside,
    is_there,
    refuse_used,
    unusable,
)
from fl_he.run_files import checkpoint

_HYDRA_VERSION = "1.3"
_TRUTH = re.compile("=(True|False)$")
#: Flags of Hydra without a value that may stand between overrides.
_MODES = ("-m", "--multirun", "-r", "--run")

#: The folder of the run or sweep that Hydra has begun, once it has; for all threads, since Ctrl-C
#: may be seen by any.
_claims: list[FolderClaim] = []


@dataclass(frozen=True, slots=True)
class Job:
    """Result of one job.

    Attributes
    ----------
    overrides : tuple of str
        What its command line set.
    folder : Path
        Its output folder; gone if the job left nothing in it.
    succeeded : bool
    """

    overrides: tuple[str, ...]
    folder: Path
    succeeded: bool


class _FolderError(BaseException):
    """Carries a refusal past Hydra, which makes warnings of a callback's other exceptions."""

    def __init__(self, refusal: ConfigError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class ClaimFolder(Callback):
    """Looks at the output folder before Hydra makes it: ``conf/config.yaml`` names this class."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Claim the folder of a single run; one that is resumed has a checkpoint."""
        folder = Path(config.hydra.run.dir)
        if config.resume is None:
            _claim_folder(folder, [folder])
            return
        if folder.is_dir():
            _claim_folder(folder, [])
        try:
            checkpoint.load_checkpoint(folder.resolve())
        except checkpoint.CheckpointError as refusal:
            raise _FolderError(ConfigError(str(refusal))) from None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Claim the folder that holds the runs of a sweep."""
        folder = Path(config.hydra.sweep.dir)
        _claim_folder(folder, inside(folder))


def _claim_folder(folder: Path, of_runs: Iterable[Path]) -> None:
    try:
        _claims.append(FolderClaim(folder))
        for place in of_runs:
            refuse_used(place)
    except ConfigError as refusal:
        raise _FolderError(refusal) from None


def abandon() -> Path | None:
    """Remove the run's folder if only copies of the configuration are in it.

    Returns
    -------
    Path or None
        The folder of a single run if ``resume=`` can continue from what is in it.
    """
    for claim in _claims:
        claim.give_back()
        if is_there(claim.folder / checkpoint.NAME):
            return claim.folder
    return None


def run_jobs(
    task: Callable[[Config, Path], None],
    arguments: Sequence[str],
    is_explained: Callable[[Exception], bool],
) -> list[Job]:
    """Run a task as Hydra's command line does: once, or for each job of a sweep.

    A job that fails leaves no folder, unless it, or somebody before it, wrote results there.

    Parameters
    ----------
    task : callable
        Gets the checked configuration and the job's output folder, which exists.
    arguments : sequence of str
        What follows ``fl-he run``: overrides and Hydra's own flags.
    is_explained : callable
        Is shown each exception of a job. True means that the user has been told: a sweep continues
        with its next job. False hands the exception to Hydra, which raises it when all is done.

    Returns
    -------
    list of Job
        In the order in which they ran.

    Raises
    ------
    ConfigError
        If the arguments compose to no configuration at all, or the folder cannot be used.
    SystemExit
        After ``--help`` and the like, and for an unknown flag.
    """
    jobs: list[Job] = []
    failures: list[Exception] = []

    def job(node: DictConfig) -> None:
        settings = HydraConfig.get()
        folder, overrides = Path(settings.runtime.output_dir), tuple(settings.overrides.task)
        if settings.mode is RunMode.MULTIRUN:  # Hydra writes the values of a sweep as Python does
            overrides = tuple(_TRUTH.sub(lambda found: found[0].lower(), one) for one in overrides)
        try:
            config = to_config(node, overrides)
            if config.resume is not None:
                folder = Path(str(config.output_dir))
            with alone_in(folder):  # also the folder of one run of a sweep
                task(config, folder)
        except Exception as error:
            failures.append(error)
            jobs.append(Job(overrides, folder, succeeded=False))
            for claim in _claims:
                claim.give_back(folder)
            if not is_explained(error):
                raise
        else:
            jobs.append(Job(overrides, folder, succeeded=True))

    refuse_flags(arguments)
    main = hydra.main(version_base=_HYDRA_VERSION, config_path=str(CONF), config_name="config")
    try:
        with _command_line(arguments):
            main(job)()
    except _FolderError as error:
        raise error.refusal from None
    except REFUSALS as error:
        if any(error is failure for failure in failures):
            raise
        if isinstance(error, OSError) and _claims:
            raise unusable(_claims[0].folder) from error
        raise ConfigError(explain(error)) from error
    finally:
        if not any(job.succeeded for job in jobs):
            abandon()
        while _claims:
            _claims.pop().leave()
    return jobs


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra read these arguments, and raise what it would print as a traceback."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra reads overrides on one side of its flags alone.
    flags = [word for word in arguments if word in _MODES]
    others = [word for word in arguments if word not in _MODES]
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["fl-he run", *flags, *others], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full
