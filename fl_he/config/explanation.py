"""Translation of Hydra's and OmegaConf's errors into one line: the key, its type, a near key."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import zip_longest
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from omegaconf.errors import ValidationError as OmegaConfTypeError

from fl_he.config.command_line import is_cut_off, override, texts
from fl_he.config.constraints import ConfigError
from fl_he.config.run import schema_keys
from fl_he.errors import written

_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    Any: "text, or a list such as [a,b]",
    NoneType: "null",
}
#: How Hydra begins where a value has several parts, and no sweep was asked for.
_SEVERAL = re.compile("Ambiguous value for argument '(.*)'\n")
#: How Hydra begins where a value has another shape than its key.
_MERGING = "Error merging override "
#: Words of Python in Hydra's errors, and the same as users write them.
_AS_WRITTEN = {str(value): written(value) for value in (None, True, False)}
#: Groups of ``fl_he/conf`` of which a run has one choice.
ONE_CHOICE = ("data", "partition", "optimizer", "privacy")
_GROUPS = (*ONE_CHOICE, "experiment")
#: How many keys share a last part.
_SHARED = Counter(key.rpartition(".")[2] for key in schema_keys())
#: Keys by their last part, where no other key has the same.
_LAST_PARTS = {part: key for key in schema_keys() if _SHARED[part := key.rpartition(".")[2]] == 1}
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


def refuse_flags(arguments: Sequence[str]) -> None:
    """Refuse keys of a command line that look like flags, which Hydra would call unrecognized.

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
    key = _key_of(cause)
    if key and isinstance(cause, ConfigKeyError | ConfigAttributeError):
        near = _near(key)
        hint = f"did you mean {near}?" if near else "fl-he run --help lists all"
        return f"{key} is not a key of the configuration; {hint}"
    if key and isinstance(cause, OmegaConfTypeError):
        return f"{key} must be {expected(key)}, got {written(cause.value)}{_as_text(key)}"
    key, equals, value = str(error).removeprefix(_MERGING).partition("=")
    if str(error).startswith(_MERGING) and equals and key in schema_keys():
        return f"{key} must be {expected(key)}, got {_AS_WRITTEN.get(value, value)}"
    key = _key_of(cause)
    return f"{key}: {_first_line(cause)}" if key else _without_key(str(error))


def _key_of(error: Exception) -> str | None:
    """Return the key that an error of OmegaConf names; some name a place in a list alone."""
    key = getattr(error, "full_key", None)
    return key if isinstance(key, str) else None


def _without_key(words: str) -> str:
    several = _SEVERAL.match(words)
    if several is None:
        return " ".join(words.split())
    return (
        f"an override must have one value, got {several[1]!r}{_quoted(several[1])}; for a sweep "
        "over several values, add -m"
    )


def _quoted(word: str | None) -> str:
    """Say how a value is written that Hydra cannot read as it is; or that it is cut off."""
    key, equals, value = (word or "").partition("=")
    depth = _depth(key) if key in schema_keys() else int(value.startswith("["))
    if not equals or not key[:1].isalpha():
        return ""
    if is_cut_off(value, depth):
        return "; a bracket or a quote of the value is not closed"
    if key == "ranges":
        return "; ranges=FILE names a CSV or JSON file: save the list in one"
    what = "quote the texts of a list" if depth else "if the value is text, quote it"
    return f"; {what}: {override(key, texts(value, depth))}"


def _lists(kind: Any) -> Iterator[Any]:
    """Yield the type of a setting and, if that is a list, those inside."""
    yield kind
    if get_origin(kind) is list:
        yield from _lists(get_args(kind)[0])


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if not line.startswith("Error parsing")]
    return lines[0] if lines else type(error).__name__


def _depth(key: str) -> int:
    return len(list(_lists(schema_keys()[key]))) - 1


def expected(key: str) -> str:
    """Say what a setting must be, or what must be in its list at a place: ``data.drop[0]``."""
    kind = _kind(key)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_word, get_args(kind)))
    return _word(kind)


def _kind(key: str) -> Any:
    name, *places = key.split("[")
    kinds = list(_lists(schema_keys().get(name)))
    return kinds[min(len(places), len(kinds) - 1)]


def _as_text(key: str) -> str:
    """Say how texts in a list of texts are written that look like something else."""
    name, inside, _ = key.partition("[")
    if not inside or [*_lists(schema_keys()[name])][-1] is not str:
        return ""
    depth = _depth(name)
    example = override(name, texts("[" * depth + "5,null" + "]" * depth, depth))
    return f"; texts that look like numbers, truth values or null are quoted: {example}"


def _word(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    if get_origin(kind) is list:
        if get_origin(get_args(kind)[0]) is list:
            return "a list of lists such as [[a,b],[c,d]]"
        return "a list such as [a,b]"
    return _WORDS.get(kind, "a group of keys")
