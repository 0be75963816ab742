"""The terms of differential privacy in a train config, where hospitals hold them against theirs."""

from __future__ import annotations

from dataclasses import fields

from flwr.app import ConfigRecord

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.wire.records import ProtocolError, take

#: Keys of the terms in a train config, by their field.
KEYS = {field.name: f"privacy-{field.name}" for field in fields(GaussianPrivacy)}


def privacy_members(terms: GaussianPrivacy | None) -> dict[str, float | int]:
    """Return the members of a train config that say the terms; none where there are none."""
    if terms is None:
        return {}
    return {key: getattr(terms, name) for name, key in KEYS.items()}


def read_privacy(config: ConfigRecord | None) -> GaussianPrivacy | None:
    """Return the terms that a train config says, ``None`` where it says none.

    Raises
    ------
    ProtocolError
        If it says a part of them, or a value is out of range.
    """
    if config is None or not any(key in config for key in KEYS.values()):
        return None
    try:
        return GaussianPrivacy(
            epsilon=take(config, KEYS["epsilon"], float),
            delta=take(config, KEYS["delta"], float),
            clip=take(config, KEYS["clip"], float),
            rounds=take(config, KEYS["rounds"], int),
            contributors=take(config, KEYS["contributors"], int),
            scaling=take(config, KEYS["scaling"], float),
        )
    except PrivacyError as error:
        raise ProtocolError(f"the train config's privacy: {error}") from None


def described(terms: GaussianPrivacy | None) -> str:
    """Return the terms in words for a message."""
    if terms is None:
        return "no privacy"
    return (
        f"epsilon {terms.epsilon:g}, delta {terms.delta:g}, clip {terms.clip:g}, "
        f"{terms.rounds} rounds, the noise of {terms.contributors} hospitals and "
        f"{terms.scaling:g} of the budget for scaling"
    )
