"""How Hydra composes the configuration, and how what it refuses is said.

With :mod:`fl_he.jobs`, which runs it from the command line, the only file that imports Hydra and
OmegaConf: everything else gets the plain dataclasses of :mod:`fl_he.config_schema`. The folder
``fl_he/conf`` holds the groups of which a run picks one choice each.
"""

from __future__ import annotations

import difflib
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin

import hydra
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from omegaconf.errors import ValidationError as OmegaConfTypeError

from fl_he.checkpoint import (
    FREE_KEYS,
    CheckpointError,
    first_difference,
    load_checkpoint,
    plain_config,
)
from fl_he.config_schema import (
    Backend,
    CapcConfig,
    ClassWeight,
    Config,
    ConfigError,
    CryptoConfig,
    DataConfig,
    OptimizerConfig,
    PartitionConfig,
    PartitionScheme,
    PrivacyConfig,
    Scaling,
    Topology,
    check,
    schema_keys,
)

__all__ = [
    "Backend",
    "CapcConfig",
    "ClassWeight",
    "Config",
    "ConfigError",
    "CryptoConfig",
    "DataConfig",
    "OptimizerConfig",
    "PartitionConfig",
    "PartitionScheme",
    "PrivacyConfig",
    "Scaling",
    "Topology",
    "check",
    "compose",
    "schema_keys",
]

CONF = str(Path(__file__).resolve().parent / "conf")
_NAME = "fl-he"
_HYDRA_VERSION = "1.3"


def _by_last_part() -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for key in schema_keys():
        keys.setdefault(key.rpartition(".")[2], []).append(key)
    return keys


#: What Hydra and OmegaConf raise for a configuration that they cannot compose.
REFUSALS = (HydraException, OmegaConfBaseException, ValueError, OSError)
_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}

_GROUPS = ("data", "partition", "optimizer", "privacy", "experiment")
#: Keys by their last part, where no two keys share it.
_LAST_PARTS = {part: keys[0] for part, keys in _by_last_part().items() if len(keys) == 1}
#: What others call a key, the script from which this project grew among them.
_ALSO_CALLED = {
    **dict.fromkeys(("dataset", "data_set"), "data"),
    **dict.fromkeys(("clients", "n_clients", "num_clients"), "hospitals"),
    **dict.fromkeys(("n_iter", "epochs", "iterations", "num_rounds"), "rounds"),
    **dict.fromkeys(("key_length", "key_size", "n_length"), "crypto.key_bits"),
    **dict.fromkeys(("learning_rate", "eta"), "optimizer.lr"),
    **dict.fromkeys(("output", "out", "folder"), "output_dir"),
    **dict.fromkeys(("tol", "eps"), "tolerance"),
}

#: Hydra keeps its state in a singleton.
_COMPOSING = threading.Lock()

ConfigStore.instance().store(name="fl_he_schema", node=Config)


def _folder(chosen: str | None, default: str | None = None) -> str | None:
    """Return a folder; shells leave the ~ of ``--run-config`` and quoted values to us."""
    try:
        return default if chosen is None else str(Path(chosen).expanduser())
    except RuntimeError:  # nobody's home
        return chosen


OmegaConf.register_new_resolver("fl_he.folder", _folder, replace=True)
OmegaConf.register_new_resolver(
    "fl_he.hydra_records",
    lambda resume: ".hydra" if resume is None else ".hydra/resumed",
    replace=True,
)


def compose(config_name: str, overrides: Sequence[str] | str) -> Config:
    """Compose and check a configuration without a command line.

    May be called from any thread, also while :mod:`fl_he.jobs` runs, and leaves Hydra's state as
    it was.

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
    except REFUSALS as error:
        raise ConfigError(explain(error)) from error
    return to_config(node, words)


def to_config(node: DictConfig, overrides: Sequence[str]) -> Config:
    """Turn what Hydra composed into checked dataclasses.

    Parameters
    ----------
    node : DictConfig
    overrides : sequence of str
        What was asked for by name; with ``resume`` it must not contradict the folder's run.

    Raises
    ------
    ConfigError
        If a key is unknown, or a value has the wrong type or is out of range.
    """
    # Merged anew: Hydra lets "+key=value" add keys that the schema does not have.
    config = _typed(_plain(node))
    if config.resume is not None:
        config = _resumed(config, Path(str(_folder(config.resume))).resolve(), overrides)
    check(config)
    config.output_dir = _folder(config.output_dir)
    return config


def _plain(node: DictConfig) -> Any:
    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def _typed(values: Any) -> Config:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), values)
        return cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def _resumed(given: Config, folder: Path, overrides: Sequence[str]) -> Config:
    """Return the configuration of the run that is resumed; overrides must not contradict it."""
    try:
        stored = load_checkpoint(folder).config
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    values = plain_config(given)
    keys = [o.key_or_group for o in OverridesParser.create().parse_overrides(list(overrides))]
    if "experiment" in keys:
        raise ConfigError(
            "experiment must be left out with resume, got one: the settings are those of the "
            "folder's run"
        )
    for key in keys:
        if (difference := first_difference(stored, values, key)) is not None:
            raise ConfigError(difference)
    changed = {key: values[key] for key in FREE_KEYS & set(keys) & values.keys()}
    config = _typed({**stored, **changed})
    return replace(config, resume=str(folder), output_dir=str(folder))


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialise Hydra for one composition; put back what was there before."""
    base, name = version.getbase(), JobRuntime.instance().get("name")
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(CONF, job_name=_NAME, version_base=_HYDRA_VERSION):
            yield
    finally:
        GlobalHydra.instance().hydra = running
        JobRuntime.instance().set("name", name)
        version.VersionBase.instance().version_base = base


def refuse_flags(arguments: Sequence[str]) -> None:
    """Refuse keys that are written like flags, which Hydra would call unrecognized.

    Parameters
    ----------
    arguments : sequence of str
        Of a command line.

    Raises
    ------
    ConfigError
        For the first of them, with how it is written.
    """
    for flag, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = flag.partition("=")
        key = _meant(name[2:].replace("-", "_")) if name.startswith("--") else None
        if key is not None:
            if not equals:
                value = "..." if following.startswith("-") or not following else following
            raise ConfigError(f"a key must be written without dashes, got {name}: {key}={value}")


def _near(key: str) -> str | None:
    """Return the key that somebody may have meant who wrote another."""
    meant = _meant(key) or _meant(key.rpartition(".")[2])
    names = (*schema_keys(), *_GROUPS, *_LAST_PARTS)
    near = difflib.get_close_matches(key, names, n=1)
    return meant or (_LAST_PARTS.get(near[0], near[0]) if near else None)


def _meant(name: str) -> str | None:
    """Return the key of exactly this name, or of which it is the last part or another name."""
    if name in schema_keys() or name in _GROUPS:
        return name
    return _LAST_PARTS.get(name) or _ALSO_CALLED.get(name)


def explain(error: Exception) -> str:
    """Say in one line, with the key, what Hydra or OmegaConf refused."""
    if isinstance(error, OverrideParseException):
        return f"an override must be KEY=VALUE, got {error.override!r}{_quoted(error.override)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        choices = f"one of {', '.join(error.options)}" if error.options else "the name of a file"
        return f"{group or 'config-name'} must be {choices}, got {choice!r}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    if key and isinstance(cause, ConfigKeyError | ConfigAttributeError):
        near = _near(key)
        hint = f"did you mean {near}?" if near else "fl-he run --help lists all"
        return f"{key} must be a key of the configuration, got an unknown one; {hint}"
    if key and isinstance(cause, OmegaConfTypeError):
        return f"{key} must be {_expected(key)}, got {cause.value!r}"
    return f"{key}: {_first_line(cause)}" if key else " ".join(str(error).split())


def _quoted(override: str | None) -> str:
    """Say how a value is written that Hydra cannot read as it is."""
    key, equals, value = (override or "").partition("=")
    if not equals:
        return ""
    if value.startswith("["):
        return '; quote the texts of a list: ["a","b"]'
    text = value.strip("\"'").replace('"', '\\"')
    quoted = shlex.quote(key + '="' + text + '"')
    return f"; if the value is text, quote it: {quoted}"


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
