"""Composition of a configuration by Hydra, and its typed and checked dataclasses."""

from __future__ import annotations

import shlex
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import hydra
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fl_he.config.constraints import ConfigError
from fl_he.config.explanation import ONE_CHOICE, expected, explain
from fl_he.config.groups import CHOSEN
from fl_he.config.help import CONF, keys_help
from fl_he.config.rules import check
from fl_he.config.run import Config, schema_keys
from fl_he.errors import FlHeWarning, written
from fl_he.run_files.checkpoint import (
    FREE_KEYS,
    CheckpointError,
    first_difference,
    load_checkpoint,
    plain_config,
)

#: Keys of Flower's run configuration, and what they stand for; "" leaves it to `overrides`.
RUN_KEYS = {"num-server-rounds": "rounds", "hospitals": "hospitals", "topology": "topology"}

_NAME = "fl-he"
_HYDRA_VERSION = "1.3"
#: What Hydra and OmegaConf raise for a configuration that they cannot compose.
REFUSALS = (HydraException, OmegaConfBaseException, ValueError, OSError)
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
OmegaConf.register_new_resolver("fl_he.keys", keys_help, replace=True)
# A value that a file of fl-he gives and that a simulation may replace: see `PrivacyConfig`.
OmegaConf.register_new_resolver("fl_he.unless_chosen", lambda value: value, replace=True)


def compose(config_name: str, overrides: Sequence[str] | str) -> Config:
    """Compose and check a configuration without a command line.

    May be called from any thread, also while :mod:`fl_he.experiment.jobs` runs, and leaves
    Hydra's state as it was.

    Parameters
    ----------
    config_name : str
        Name of the primary configuration in ``fl_he/conf``, without ``.yaml``.
    overrides : sequence of str, or str
        Hydra overrides such as ``hospitals=5``; a string is split as a shell would.

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


def compose_run(run_config: Mapping[str, bool | float | int | str]) -> Config:
    """Compose and check the configuration of `flwr run`.

    Parameters
    ----------
    run_config : mapping of str
        Flower's: ``config-name``, ``overrides`` and the keys of `RUN_KEYS`.

    Raises
    ------
    ConfigError
        See `compose`; and if a key and ``overrides`` disagree.
    """
    try:
        words = shlex.split(str(run_config["overrides"]))
        overrides = {o.key_or_group: o for o in OverridesParser.create().parse_overrides(words)}
    except REFUSALS as error:
        raise ConfigError(explain(error)) from error
    for name, key in RUN_KEYS.items():
        value = run_config.get(name, "")
        if value == "":
            continue
        if key not in overrides:
            words.append(f"{key}={value}")
        elif str(overrides[key].value()) != str(value):
            raise ConfigError(
                f"{name}={value} and {overrides[key].input_line} in overrides disagree: give one "
                "of the two"
            )
    return compose(str(run_config["config-name"]), words)


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
    _warn_of_repeated(overrides)
    _require_one_choice(overrides)
    _restore_texts(node, overrides)
    config = _typed(node)
    if config.privacy.chosen:
        raise ConfigError("privacy.chosen must be left out: fl-he fills it in")
    config.privacy.chosen = [key for key in CHOSEN if _is_left_open(node, key)]
    if config.partition.sites:
        raise ConfigError("partition.sites must be left out: fl-he fills it in")
    if config.names_sites and "hospitals" in _keys(overrides):
        raise ConfigError(
            f"hospitals must be left out, got {config.hospitals}: each "
            f"{'file' if len(config.data.files) > 1 else f'value of {config.partition.column!r}'} "
            "is a hospital"
        )
    if config.resume is not None:
        config = _resumed(config, Path(str(_folder(config.resume))).resolve(), overrides)
    check(config)
    config.output_dir = _folder(config.output_dir)
    return config


def _restore_texts(node: DictConfig, overrides: Sequence[str]) -> None:
    """Put texts that look like a number or a truth value back as they were written.

    Hydra reads ``data.positive=true`` as ``True``, and 1.50 as ``1.5``.
    """
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, kind = override.key_or_group, schema_keys().get(override.key_or_group)
        written_as = str(override.input_line).partition("=")[2]
        is_text = kind in (str, str | None, Any)
        if is_text and isinstance(override.value(), bool | int | float):
            OmegaConf.update(node, key, written_as.strip())


def _keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys and groups that overrides are of."""
    return [one.key_or_group for one in OverridesParser.create().parse_overrides(list(overrides))]


def _is_left_open(node: DictConfig, key: str) -> bool:
    """Return whether nobody gave a value in the place of ``${fl_he.unless_chosen:...}``."""
    group, _, last = key.rpartition(".")
    parent = OmegaConf.select(node, group) if group else node
    return isinstance(parent, DictConfig) and OmegaConf.is_interpolation(parent, last)


def _typed(values: DictConfig | dict[str, Any]) -> Config:
    """Merge values into the schema anew: Hydra lets "+key=value" add keys that it does not have."""
    try:
        plain = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
        merged = OmegaConf.merge(_schema(), plain)
        config = cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    for key, kind in schema_keys().items():
        value = attrgetter(key)(config)
        if get_origin(kind) is list and not _is_such_a_list(value, kind):
            raise ConfigError(f"{key} must be {expected(key)}, got {written(value)}")
    return config


def _is_such_a_list(value: Any, kind: Any) -> bool:
    """Return whether a value has no more lists in lists than its type: OmegaConf does not look."""
    if get_origin(kind) is not list:
        return not isinstance(value, list)
    return isinstance(value, list) and all(
        _is_such_a_list(part, get_args(kind)[0]) for part in value
    )


def _warn_of_repeated(overrides: Sequence[str]) -> None:
    given = dict[str, list[str]]()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        given.setdefault(override.key_or_group, []).append(str(override.input_line))
    for key, lines in given.items():
        if len(set(lines)) > 1:
            warnings.warn(
                f"{key} is given {len(lines)} times, and the last counts: {lines[-1]}",
                FlHeWarning,
                stacklevel=3,
            )


def _require_one_choice(overrides: Sequence[str]) -> None:
    """Refuse several choices of a group, of which Hydra would take settings of all."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group in ONE_CHOICE and isinstance(override.value(), list):
            raise ConfigError(
                f"{override.key_or_group} must be one choice, got {override.input_line}; for a "
                "sweep over several, leave out the brackets and add -m"
            )


@cache
def _schema() -> DictConfig:
    return cast(DictConfig, OmegaConf.structured(Config))


def _resumed(given: Config, folder: Path, overrides: Sequence[str]) -> Config:
    """Return the configuration of the run that is resumed; overrides must not contradict it."""
    try:
        stored = load_checkpoint(folder).config
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    values = plain_config(given)
    keys = _keys(overrides)
    if "experiment" in keys:
        raise ConfigError(
            "experiment must be left out with resume: the settings are those of the folder's run"
        )
    for key in keys:
        if (difference := first_difference(stored, values, key)) is not None:
            raise ConfigError(difference)
    chosen = {key.partition(".")[0] for key in keys}
    changed = {key: values[key] for key in FREE_KEYS & chosen & values.keys()}
    config = _typed({**stored, **changed})
    return replace(config, resume=str(folder), output_dir=str(folder))


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialise Hydra for one composition; put back what was there before."""
    base, name = version.getbase(), JobRuntime.instance().get("name")
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), job_name=_NAME, version_base=_HYDRA_VERSION):
            yield
    finally:
        GlobalHydra.instance().hydra = running
        JobRuntime.instance().set("name", name)
        version.VersionBase.instance().version_base = base
