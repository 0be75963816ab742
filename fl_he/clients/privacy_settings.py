"""The privacy that a deployed hospital owes its patients, from its own node configuration."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context

from fl_he.clients.key_holder import KeyHolderPolicy
from fl_he.clients.ledger import StateStore
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node import is_simulated
from fl_he.clients.privacy_ledger import LONGEST_LINE, PrivacyLedger
from fl_he.clients.setting import least_contributors, node_path
from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy import GaussianPrivacy
from fl_he.messages import ProtocolError

_STATE = "fl-he.privacy"
_SCALING = "privacy-scaling"
_SETTINGS = ("privacy-epsilon", "privacy-delta", "privacy-clip", "privacy-rounds", "privacy-ledger")


def deployed_privacy(
    context: Context, contributors: int = KeyHolderPolicy().min_contributors
) -> GaussianPrivacy | None:
    """Return the node's own terms, ``None`` where it has no privacy settings at all.

    Parameters
    ----------
    context : Context
    contributors : int
        How many hospitals' noise is counted where ``min-contributors`` does not say it.

    Raises
    ------
    ProtocolError
        If it has some of the settings and not all, or a value is out of range.
    """
    config = context.node_config
    missing = [setting for setting in _SETTINGS if setting not in config]
    if len(missing) == len(_SETTINGS) and _SCALING not in config:
        return None
    if missing:
        raise ProtocolError(
            f"a hospital with privacy must be given {', '.join(_SETTINGS)} in its node "
            f"configuration, got none of {', '.join(missing)}"
        )
    epsilon, delta, clip = (_number(config[name], name) for name in _SETTINGS[:3])
    rounds = config["privacy-rounds"]
    if not isinstance(rounds, int) or isinstance(rounds, bool):
        raise ProtocolError("privacy-rounds in the node configuration must be a whole number")
    scaling = _number(config.get(_SCALING, 0.0), _SCALING)
    try:
        return GaussianPrivacy(
            epsilon, delta, clip, rounds, least_contributors(context, contributors), scaling
        )
    except PrivacyError as error:
        raise ProtocolError(f"privacy in the node configuration: {error}") from None


def privacy_ledger(context: Context) -> PrivacyLedger:
    """Return where the node notes its private releases: a file, or a simulated node's state."""
    if is_simulated(context):
        record = context.state.config_records.setdefault(_STATE, ConfigRecord())
        return PrivacyLedger(StateStore(record))
    path = node_path(context, "privacy-ledger")
    if path is None:
        raise ProtocolError(
            "a hospital with privacy must be given privacy-ledger in its node configuration"
        )
    return PrivacyLedger(FileStore(path, LONGEST_LINE))


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ProtocolError(f"{name} in the node configuration must be a number")
    return float(value)
