"""Company X: publishes its public key and opens totals, and nothing but totals.

The policy is the key holder's own, never the coordinator's: a sum is opened if it belongs to the
session of this run, if its round has not been opened for that purpose, and if the contributor
count inside the sum is the claimed one and at least ``min_contributors``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he import __version__
from fl_he.clients.node import Role, node_setting, read_node
from fl_he.clients.refusal import refusal_mod
from fl_he.crypto.encrypted_vector import EncryptedVector
from fl_he.crypto.private_key import PrivateKey
from fl_he.messages import DecryptReply, DecryptRequest, Description, ProtocolError
from fl_he.update import CONTRIBUTORS, EXAMPLES

_STATE = "fl-he.key-holder"
_KEY = "private-key"
_SESSION = "session"
_OPENED = "opened"


@dataclass(frozen=True, slots=True)
class KeyHolderPolicy:
    """What the key holder insists on.

    Attributes
    ----------
    min_contributors : int
        A sum of fewer updates is not opened. A deployed node's ``min-contributors`` goes first.
    key_bits : int
        Modulus of the key that a simulated key holder makes for the run. A deployed one loads the
        file that ``private-key`` names in its node configuration.
    """

    min_contributors: int = 3
    key_bits: int = 2048


def with_key_holder(
    app: ClientApp,
    policy: Callable[[Context], KeyHolderPolicy] = lambda _: KeyHolderPolicy(),
    features: Callable[[Context], Sequence[str]] = lambda _: (),
) -> ClientApp:
    """Make the app play company X as well, on the node whose role says so.

    Parameters
    ----------
    app : ClientApp
        The hospitals' app. It is changed and returned.
    policy : callable
        Returns the key holder's policy on the key holder's node.
    features : callable
        Returns the feature names on a hospital's node; hospitals must agree on them.
    """

    @app.query("describe", mods=[refusal_mod])
    def describe(message: Message, context: Context) -> Message:
        node = read_node(context)
        if node.role is Role.KEY_HOLDER:
            record = _record(context, policy(context))
            key = PrivateKey.from_json(str(record[_KEY]))
            description = Description(
                role=node.role.value,
                name=node.name,
                version=__version__,
                public_key=key.public_key.to_json(),
                session=str(record[_SESSION]),
            )
        else:
            names = tuple(features(context))
            description = Description(node.role.value, node.name, __version__, features=names)
        return Message(description.to_content(), reply_to=message)

    @app.query("decrypt", mods=[refusal_mod])
    def decrypt(message: Message, context: Context) -> Message:
        if read_node(context).role is not Role.KEY_HOLDER:
            raise ProtocolError("only the key holder can open a sum, and this node is a hospital")
        request = DecryptRequest.from_content(message.content)
        start = perf_counter()
        vector = _open(request, context, policy(context))
        reply = DecryptReply(vector, decrypt_seconds=perf_counter() - start)
        return Message(reply.to_content(), reply_to=message)

    return app


def _record(context: Context, policy: KeyHolderPolicy) -> ConfigRecord:
    """Return what the key holder remembers of this run; the first call makes it."""
    records = context.state.config_records
    if _STATE not in records:
        records[_STATE] = ConfigRecord(
            {
                _KEY: _load_or_generate(context, policy).to_json(),
                _SESSION: secrets.token_hex(16),
                _OPENED: [],
            }
        )
    return records[_STATE]


def _load_or_generate(context: Context, policy: KeyHolderPolicy) -> PrivateKey:
    path = node_setting(context, "private-key")
    if path is not None:
        return PrivateKey.load(Path(path))
    if not read_node(context).simulated:
        raise ProtocolError(
            "a deployed key holder must be given private-key in its node configuration: the "
            "path of its key file"
        )
    return PrivateKey.generate(policy.key_bits)


def _open(
    request: DecryptRequest, context: Context, policy: KeyHolderPolicy
) -> NDArray[np.float64]:
    """Decrypt a sum if the policy allows; raises ProtocolError or CryptoError if not."""
    record = context.state.config_records.get(_STATE)
    if record is None or request.session != record[_SESSION]:
        raise ProtocolError(
            f"the session must be one that this key holder opened, got {request.session!r:.40}"
        )
    opened = [str(name) for name in cast(list[str], record[_OPENED])]
    name = f"{request.purpose} {request.round}"
    if name in opened:
        raise ProtocolError(f"the sum of {name} is open already: a round is opened once")
    minimum = _min_contributors(context, policy)
    if request.contributors < minimum:
        raise ProtocolError(
            f"a sum must have at least {minimum} contributors, got {request.contributors}"
        )
    key = PrivateKey.from_json(str(record[_KEY]))
    vector = EncryptedVector.from_bytes(request.encrypted_sum, key.public_key)
    if len(vector) <= EXAMPLES:
        raise ProtocolError("a sum must hold a contributor count and a number of examples")
    if request.contributors > vector.packing.max_contributors:
        raise ProtocolError(
            f"a sum must have at most {vector.packing.max_contributors} contributors, "
            f"got {request.contributors}"
        )
    total = key.decrypt_vector(vector)
    if total[CONTRIBUTORS] != request.contributors:
        raise ProtocolError(
            f"the sum must hold as many contributors as claimed, and it does not hold "
            f"{request.contributors}"
        )
    record[_OPENED] = [*opened, name]
    return total


def _min_contributors(context: Context, policy: KeyHolderPolicy) -> int:
    value = context.node_config.get("min-contributors", policy.min_contributors)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ProtocolError("min-contributors in the node configuration must be at least 1")
    return value
