"""One setting of a node's own configuration."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context

from fl_he.wire.encrypted_sum import ProtocolError


def node_setting(context: Context, key: str) -> str | None:
    """Return a text from the node configuration, ``None`` where it is absent."""
    value = context.node_config.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ProtocolError(f"{key} in the node configuration must be a text")
    if value is not None and "\0" in value:  # no path may have one
        raise ProtocolError(f"{key} in the node configuration must be a text without NUL")
    return value


def node_path(context: Context, key: str) -> Path | None:
    """Return a path from the node configuration, ``None`` where it is absent."""
    value = node_setting(context, key)
    return None if value is None else Path(value).expanduser()


def least_contributors(context: Context, default: int) -> int:
    """Return ``min-contributors`` of the node configuration, at least 1, or the default."""
    value = context.node_config.get("min-contributors", default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ProtocolError("min-contributors in the node configuration must be at least 1")
    return value


def is_sealed_only(context: Context) -> bool:
    """Return ``sealed`` of the node configuration: whether to refuse any open federation."""
    value = context.node_config.get("sealed", False)
    if not isinstance(value, bool):
        raise ProtocolError("sealed in the node configuration must be true or false")
    return value
