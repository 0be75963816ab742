"""The settings of a deployed node in its node configuration: which there are, and of what kind."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from flwr.app.user_config import UserConfig, UserConfigValue

from fl_he.wire.encrypted_sum import ProtocolError, Role

_TEXT, _NUMBER, _COUNT = "a text in quotes", "a number", "a whole number from 1 on"
_FLAG = "true or false"

_BOTH = {
    "role": _TEXT,
    "name": _TEXT,
    "federation": _TEXT,
    "identity": _TEXT,
    "passphrase-file": _TEXT,
    "min-contributors": _COUNT,
    "sealed": _FLAG,
    "capc": _TEXT,
    "capc-private-key": _TEXT,
    "capc-dgk-key": _TEXT,
}
_KINDS: Mapping[Role, Mapping[str, str]] = {
    Role.HOSPITAL: {
        **_BOTH,
        "key-fingerprint": _TEXT,
        "data": _TEXT,
        "test-data": _TEXT,
        "target": _TEXT,
        "positive": _TEXT,
        "threshold": _NUMBER,
        "classes": _TEXT,
        "drop": _TEXT,
        "model-path": _TEXT,
        "privacy-epsilon": _NUMBER,
        "privacy-scaling": _NUMBER,
        "privacy-delta": _NUMBER,
        "privacy-clip": _NUMBER,
        "privacy-rounds": _COUNT,
        "privacy-ledger": _TEXT,
        "capc-model": _TEXT,
        "capc-ledger": _TEXT,
        "capc-cases": _TEXT,
        "capc-labels": _TEXT,
    },
    Role.KEY_HOLDER: {
        **_BOTH,
        "private-key": _TEXT,
        "state": _TEXT,
    },
}
#: Settings that only a deployed node has, beside its role.
DEPLOYED_ONLY = frozenset(key for kinds in _KINDS.values() for key in kinds) - {"role"}
_NEEDED = {Role.HOSPITAL: ("data", "target"), Role.KEY_HOLDER: ("private-key",)}


def check_settings(node_config: UserConfig, role: Role) -> None:
    """Refuse settings of a deployed node that are unknown, of a wrong kind, or not there.

    Raises
    ------
    ProtocolError
        With the setting's name, never with the value of one: it may be a path.
    """
    check_kinds(node_config, role)
    for key in _NEEDED[role]:
        if key not in node_config:
            raise ProtocolError(f"a {role} must be given {key} in its node configuration")
    meanings = {"positive", "threshold", "classes"} & node_config.keys()
    if role is Role.HOSPITAL and len(meanings) != 1:
        raise ProtocolError(
            "a hospital must be given one of positive (the label that counts as 1) and threshold "
            "(the number from which on the target counts as 1), or classes (more than two labels), "
            f"in its node configuration, got {('neither', 'one', 'both', 'all')[len(meanings)]}"
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
        if not _is(value, kinds[key]):
            raise ProtocolError(
                f"{key} in the node configuration must be {kinds[key]}, got {_shown(value)}"
            )


def _is(value: UserConfigValue, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str) and bool(value.strip())
    if isinstance(value, bool) or kind == _FLAG:
        return isinstance(value, bool) and kind == _FLAG
    if kind == _COUNT:
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float)


def _shown(value: UserConfigValue) -> str:
    """Return what may be shown: a number in the place of a text is that of a label."""
    return "an empty one" if value == "" else f"one of type {type(value).__name__}"
