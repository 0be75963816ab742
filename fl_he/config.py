"""How Hydra composes the configuration and runs it from the command line.

The only file that imports Hydra and OmegaConf: everything else gets the plain dataclasses of
:mod:`fl_he.config_schema`. The folder ``fl_he/conf`` holds the groups of which a run picks one
choice each.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin

import hydra
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from omegaconf.errors import ValidationError as OmegaConfTypeError

from fl_he.config_schema import (
    Config,
    ConfigError,
    CryptoConfig,
    DataConfig,
    OptimizerConfig,
    PartitionConfig,
    PartitionScheme,
    Topology,
    check,
    schema_keys,
)

__all__ = [
    "Config",
    "ConfigError",
    "CryptoConfig",
    "DataConfig",
    "OptimizerConfig",
    "PartitionConfig",
    "PartitionScheme",
    "Topology",
    "check",
    "compose",
    "run_jobs",
    "schema_keys",
]

_CONF = str(Path(__file__).resolve().parent / "conf")
_NAME = "fl-he"
_HYDRA_VERSION = "1.3"
#: What Hydra and OmegaConf raise for a configuration that they cannot compose.
_REFUSALS = (HydraException, OmegaConfBaseException, ValueError, OSError)
_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}

#: Hydra keeps its state in a singleton.
_COMPOSING = threading.Lock()

ConfigStore.instance().store(name="fl_he_schema", node=Config)
OmegaConf.register_new_resolver(
    "fl_he.or", lambda value, other: other if value is None else value, replace=True
)


def compose(config_name: str, overrides: Sequence[str] | str) -> Config:
    """Compose and check a configuration without a command line.

    May be called from any thread, also while `run_jobs` runs, and leaves Hydra's state as it was.

    Parameters
    ----------
    config_name : str
        Name of the primary configuration in ``fl_he/conf``, without ``.yaml``.
    overrides : sequence of str, or str
        Hydra overrides such as ``hospitals=5``; a string is split as a shell would.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        If a key is unknown, or a value has the wrong type or is out of range.
    """
    try:
        words = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
        with _COMPOSING, _own_hydra():
            node = hydra.compose(config_name, words)
    except _REFUSALS as error:
        raise ConfigError(_explain(error)) from error
    return _to_config(node)


def run_jobs(
    task: Callable[[Config, Path], None],
    arguments: Sequence[str],
    is_explained: Callable[[Exception], bool],
) -> bool:
    """Run a task as Hydra's command line does: once, or for each job of a sweep.

    Parameters
    ----------
    task : callable
        Gets the checked configuration and the job's output folder, which exists.
    arguments : sequence of str
        What follows ``fl-he run``: overrides and Hydra's own flags.
    is_explained : callable
        Is shown each exception of a job. True means that the user has been told: a sweep goes on
        with its next job. False hands the exception to Hydra, which raises it when all is done.

    Returns
    -------
    bool
        Whether all jobs succeeded.

    Raises
    ------
    ConfigError
        If the arguments compose to no configuration at all.
    SystemExit
        After ``--help`` and the like, and for an unknown flag.
    """
    failures: list[Exception] = []

    def job(node: DictConfig) -> None:
        try:
            task(_to_config(node), Path(HydraConfig.get().runtime.output_dir))
        except Exception as error:
            failures.append(error)
            if not is_explained(error):
                raise

    main = hydra.main(version_base=_HYDRA_VERSION, config_path=_CONF, config_name="config")
    try:
        with _command_line(arguments):
            main(job)()
    except _REFUSALS as error:
        if any(error is failure for failure in failures):
            raise
        raise ConfigError(_explain(error)) from error
    return not failures


def _to_config(node: DictConfig) -> Config:
    # Merged anew: Hydra lets "+key=value" add keys that the schema does not have.
    try:
        values = OmegaConf.to_container(node, resolve=True)
        merged = OmegaConf.merge(OmegaConf.structured(Config), values)
        config = cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error)) from error
    check(config)
    return config


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialise Hydra for one composition; put back what was there before."""
    base, name = version.getbase(), JobRuntime.instance().get("name")
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(_CONF, job_name=_NAME, version_base=_HYDRA_VERSION):
            yield
    finally:
        GlobalHydra.instance().hydra = running
        JobRuntime.instance().set("name", name)
        version.VersionBase.instance().version_base = base


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra read these arguments, and raise what it would print as a traceback."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [f"{_NAME} run", *arguments], "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def _explain(error: Exception) -> str:
    """Say in one line, with the key, what Hydra or OmegaConf refused."""
    if isinstance(error, OverrideParseException):
        return f"an override must be KEY=VALUE, got {error.override!r}: {_first_line(error)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        choices = f"one of {', '.join(error.options)}" if error.options else "the name of a file"
        return f"{group or 'config-name'} must be {choices}, got {choice!r}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    if key and isinstance(cause, ConfigKeyError | ConfigAttributeError):
        near = difflib.get_close_matches(key, schema_keys(), n=1)
        hint = f"did you mean {near[0]}?" if near else "fl-he run --help lists all"
        return f"{key} must be a key of the configuration, got an unknown one; {hint}"
    if key and isinstance(cause, OmegaConfTypeError):
        return f"{key} must be {_expected(key)}, got {cause.value!r}"
    return f"{key}: {_first_line(cause)}" if key else " ".join(str(error).split())


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if not line.startswith("Error parsing")]
    return lines[0] if lines else type(error).__name__


def _expected(key: str) -> str:
    kind = schema_keys().get(key.partition("[")[0])
    if isinstance(kind, UnionType):
        return " or ".join(map(_word, get_args(kind)))
    return _word(kind)


def _word(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    if get_origin(kind) is list:
        return "a list such as [a,b]"
    return _WORDS.get(kind, "a group of keys")
