"""Settings of a node in its own configuration: names, kinds, values and the files they name."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from flwr.app import Context
from flwr.app.user_config import UserConfig, UserConfigValue

from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.schemes import SCHEMES, Scheme
from fl_he.errors import kind_in_words
from fl_he.learning.regression.registry import NUMERIC
from fl_he.learning.tables.labels import TIES
from fl_he.run_files.metrics_contract import BRESLOW, COX, EXPOSED
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.records import ProtocolError

_logger = logging.getLogger(__name__)

_Loaded = TypeVar("_Loaded")

_TEXT, _NUMBER, _COUNT = "a text in quotes", "a number", "a whole number from 1 on"
_FLAG, _SECONDS = "true or false", "a number of seconds, from 0 on"

_RUN_KEYS = ("key-bits", "key-days", "max-unused-keys")
_KEY_KIND = "key-kind"
_BOTH = {
    **dict.fromkeys(("role", "name", "federation", "identity", "plan"), _TEXT),
    **dict.fromkeys(("passphrase-file", "scheme"), _TEXT),
    **dict.fromkeys(("min-contributors", "min-cell"), _COUNT),
    "sealed": _FLAG,
    **dict.fromkeys(("capc", "capc-private-key", "capc-dgk-key"), _TEXT),
}
_KINDS: Mapping[Role, Mapping[str, str]] = {
    Role.HOSPITAL: {
        **_BOTH,
        **dict.fromkeys(("key-fingerprint", "data", "test-data", "target", "positive"), _TEXT),
        "threshold": _NUMBER,
        **dict.fromkeys(("app-seconds", "reply-seconds"), _SECONDS),
        **dict.fromkeys(("schema", "reading", "family", "event", "ties", "exposure"), _TEXT),
        **dict.fromkeys(("classes", "drop", "model-path", "state", "alone", "collusion"), _TEXT),
        **dict.fromkeys(("masked-set", "capc-queries"), _COUNT),
        **dict.fromkeys(("privacy-epsilon", "privacy-scaling", "privacy-delta"), _NUMBER),
        "capc-epsilon": _NUMBER,
        "privacy-clip": _NUMBER,
        "privacy-rounds": _COUNT,
        **dict.fromkeys(("privacy-ledger", "capc-model", "capc-ledger"), _TEXT),
        **dict.fromkeys(("capc-cases", "capc-labels"), _TEXT),
    },
    Role.KEY_HOLDER: {
        **_BOTH,
        **dict.fromkeys(("max-rounds", "max-sessions"), _COUNT),
        **dict.fromkeys(_RUN_KEYS, _COUNT),
        _KEY_KIND: _TEXT,
        **dict.fromkeys(("private-key", "state"), _TEXT),
    },
}
_KIND = {key: kind for kinds in _KINDS.values() for key, kind in kinds.items()}
#: Settings that only a deployed node has, without its role.
DEPLOYED_ONLY = frozenset(_KIND) - {"role"}
_HOSPITALS_NEED = ("data", "target")
#: Settings that a schema takes the place of.
_DESCRIBED = (
    *("target", "positive", "threshold", "classes", "family", "event", "ties"),
    *("exposure", "drop"),
)


def check_settings(node_config: UserConfig, role: Role) -> None:
    """Refuse settings of a deployed node that are unknown, of a wrong kind, or not there.

    Raises
    ------
    ProtocolError
        With the setting's name, never with the value of one: it may be a path.
    """
    check_kinds(node_config, role)
    if role is Role.KEY_HOLDER:
        check_key_settings(node_config)
    by_schema = "schema" in node_config
    if by_schema and (given := [key for key in _DESCRIBED if key in node_config]):
        raise ProtocolError(
            f"{', '.join(given)} must be left out of the node configuration of a {role} with "
            "schema, which describes outcome and columns"
        )
    for key in _HOSPITALS_NEED if role is Role.HOSPITAL else ():
        if key not in node_config and not (by_schema and key == "target"):
            raise ProtocolError(f"a {role} must be given {key} in its node configuration")
    meanings = {"positive", "threshold", "classes", "family"} & node_config.keys()
    choices = {"family": [name for name in NUMERIC if name != BRESLOW], "ties": TIES}
    for key, known in choices.items():
        if node_config.get(key, known[0]) not in known:
            raise ProtocolError(
                f"{key} in the node configuration must be one of {', '.join(known)}"
            )
    is_cox = node_config.get("family") == COX
    if (is_cox is not ("event" in node_config) and not by_schema) or (
        "ties" in node_config and not is_cox
    ):
        raise ProtocolError(
            "event must be in the node configuration with family cox, and event and ties with no "
            "other"
        )
    if "exposure" in node_config and node_config.get("family") not in EXPOSED:
        raise ProtocolError(
            "exposure must be left out of the node configuration unless family is "
            f"{' or '.join(EXPOSED)}"
        )
    if role is Role.HOSPITAL and len(meanings) > 1:
        raise ProtocolError(
            "a hospital must be given at most one of positive (the label that counts as 1) and "
            "threshold (the number from which on the target counts as 1), or classes (more than "
            "two labels), or family (of a target that is a number), in its node configuration, "
            f"got {len(meanings)}"
        )


def check_key_settings(node_config: UserConfig) -> None:
    """Refuse a key file of a company X with a manifest, and settings of run keys without one."""
    if "federation" in node_config:
        if "private-key" in node_config:
            raise ProtocolError(
                "private-key must be left out of company X's node configuration with a manifest: "
                "it makes a key for each run by itself (key-bits, key-days). Delete the setting, "
                "and the key file with its copies"
            )
        return
    if given := [key for key in (*_RUN_KEYS, _KEY_KIND) if key in node_config]:
        raise ProtocolError(
            f"{given[0]} in the node configuration must come with a manifest (federation): without "
            "one company X has the key file that private-key names"
        )
    if "private-key" not in node_config:
        raise ProtocolError(
            "a key-holder without a manifest (federation) must be given private-key in its node "
            "configuration"
        )


def check_kinds(node_config: UserConfig, role: Role) -> None:
    """Refuse settings that are unknown or of a wrong kind, as `check_settings` does."""
    kinds = _KINDS[role]
    for key, value in node_config.items():
        if key not in kinds:
            close = get_close_matches(key, kinds, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ProtocolError(
                f"a {role} must have no settings but {', '.join(kinds)} in its node "
                f"configuration, got {key!r:.80}{hint}"
            )
        _require_kind(key, value)


def _require_kind(key: str, value: UserConfigValue) -> None:
    if not _is(value, _KIND[key]):
        # The value may be a path or, as a number in the place of a text, a label.
        shown = "an empty text" if value == "" else kind_in_words(value)
        if _KIND[key] == _COUNT and type(value) is int:
            shown = str(value)
        raise ProtocolError(f"{key} in the node configuration must be {_KIND[key]}, got {shown}")


def _is(value: UserConfigValue, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str) and bool(value.strip())
    if isinstance(value, bool) or kind == _FLAG:
        return isinstance(value, bool) and kind == _FLAG
    if kind == _COUNT:
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and (kind != _SECONDS or 0 <= value < math.inf)


def own_seconds(context: Context, key: str, default: float) -> float | None:
    """Return a time of a node's own configuration, ``None`` for 0; the default if it is absent.

    A reply waits for the times of a node whose configuration is refused, too, so a value of a wrong
    kind counts as absent.
    """
    value = context.node_config.get(key, default)
    return (float(value) if _is(value, _SECONDS) else default) or None


def without_role(node_config: UserConfig, *, deployed: bool) -> ProtocolError:
    """Return the error that says why a node's configuration without a role is not enough."""
    # Without a role these settings would be ignored, pins included.
    if lost := sorted(DEPLOYED_ONLY & set(node_config)):
        return ProtocolError(f"a node whose configuration holds {lost} must say its role as well")
    if deployed and "partition-id" in node_config:
        return ProtocolError(
            "a deployed node must say its role as well, partition-id alone is for simulations: "
            "a deployed node with it would take any key, and its errors would be told in full"
        )
    return ProtocolError(
        "a node must say its role: start it with --node-config 'role=\"hospital\" ...' or "
        "'role=\"key-holder\" ...'"
    )


def checked_setting(context: Context, key: str) -> UserConfigValue | None:
    """Return a setting, ``None`` where it is absent; ProtocolError if it is of a wrong kind."""
    value = context.node_config.get(key)
    if value is not None:
        _require_kind(key, value)
    return value


def node_setting(context: Context, key: str) -> str | None:
    """Return a text from the node configuration, ``None`` where it is absent."""
    value = checked_setting(context, key)
    if value is not None and "\0" in str(value):  # no path may have one
        raise ProtocolError(f"{key} in the node configuration must be a text without NUL")
    return None if value is None else str(value)


def node_path(context: Context, key: str) -> Path | None:
    """Return a path from the node configuration, ``None`` where it is absent."""
    value = node_setting(context, key)
    return None if value is None else Path(value).expanduser()


@contextmanager
def named_file(setting: str, verb: str = "read") -> Iterator[None]:
    """Turn the failure to use a file into a refusal that names the setting, not the path."""
    try:
        yield
    except OSError as error:
        _logger.error("%s: %s", setting, error)
        raise ProtocolError(
            f"cannot {verb} the file named by {setting} in the node configuration "
            f"({type(error).__name__})"
        ) from None


def read_named_file(setting: str, path: str, load: Callable[[Path], _Loaded]) -> _Loaded:
    """Read the file that a setting names; see `named_file`."""
    with named_file(setting):
        return load(Path(path).expanduser())


def require_readable(context: Context, setting: str) -> None:
    """Open the file that a setting names, if it names one."""
    if (file := node_path(context, setting)) is not None:
        with named_file(setting):
            file.open("rb").close()


def require_writable(context: Context, setting: str, default: Path | None = None) -> None:
    """Write a file without a name where the one of the setting would go, or its first folder."""
    if (file := node_path(context, setting) or default) is None:
        return
    with named_file(setting, "write"):
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder")
        with TemporaryFile(dir=next(path for path in file.absolute().parents if path.exists())):
            pass


def whole_setting(context: Context, key: str) -> int | None:
    """Return a whole number from the node configuration, ``None`` where it is absent."""
    value = checked_setting(context, key)
    return None if value is None else int(value)


def number_setting(context: Context, key: str) -> float | None:
    """Return a number from the node configuration, ``None`` where it is absent."""
    value = checked_setting(context, key)
    return None if value is None else float(value)


def accepted_schemes(context: Context) -> tuple[Scheme, ...]:
    """Return the schemes of sums that a node accepts: ``scheme`` of its configuration, or all.

    Raises
    ------
    ProtocolError
        If the setting names no scheme.
    """
    value = node_setting(context, "scheme")
    accepted = tuple(scheme for scheme in SCHEMES if value in (None, scheme))
    if not accepted:
        raise ProtocolError(
            f"scheme in the node configuration must be one of {', '.join(SCHEMES)}, or left out: "
            "then the node accepts all"
        )
    return accepted


def own_key_kind(context: Context, default: KeyKind) -> KeyKind:
    """Return ``key-kind`` of the node configuration, or the default.

    Raises
    ------
    ProtocolError
        If the setting names no kind.
    """
    value = node_setting(context, _KEY_KIND)
    if value not in (None, *KeyKind):
        raise ProtocolError(
            f"{_KEY_KIND} in the node configuration must be one of {', '.join(KeyKind)}"
        )
    return default if value is None else KeyKind(value)


def least_contributors(context: Context, default: int) -> int:
    """Return ``min-contributors`` of the node configuration, or the default."""
    value = whole_setting(context, "min-contributors")
    return default if value is None else value


def least_cell(context: Context, least: int) -> int:
    """Return ``min-cell`` of the node configuration, or the least that it may be.

    Raises
    ------
    ProtocolError
        If it is less: the node may be stricter than the default, not laxer.
    """
    value = whole_setting(context, "min-cell")
    if value is not None and value < least:
        raise ProtocolError(
            f"min-cell in the node configuration must be at least {least}, got {value}"
        )
    return least if value is None else value
