"""Company X: publishes its public key and opens totals, and nothing but totals.

The policy is the key holder's own, never the coordinator's. A sum is opened if it belongs to the
session of this run, is packed as the policy says, comes after all rounds opened for that purpose,
is not one that was opened before, and if the contributor count inside is the claimed one and at
least ``min_contributors``. A sum that fails the last test has used up its round, and the answer
says no more than that it failed: what a decryption shows must not depend on what is asked next.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he import __version__
from fl_he.clients.node import node_setting, read_node
from fl_he.clients.refusal import refusal_mod
from fl_he.crypto.encrypted_vector import EncryptedVector
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.packing import Packing
from fl_he.crypto.private_key import PrivateKey
from fl_he.messages import DecryptReply, DecryptRequest, Description, ProtocolError, Role
from fl_he.update import CONTRIBUTORS, EXAMPLES

_STATE = "fl-he.key-holder"
_SESSION = "session"
_FINGERPRINT = "fingerprint"
_SIMULATED_KEY = "private-key"
_ROUNDS = "opened-rounds"
_SUMS = "opened-sums"


@dataclass(frozen=True, slots=True)
class KeyHolderPolicy:
    """What the key holder insists on.

    Attributes
    ----------
    min_contributors : int
        A sum of fewer updates is not opened. A deployed node's ``min-contributors`` goes first.
    packing : Packing
        The only packing in which sums are opened. A coordinator that could choose it could move
        the borders of the slots.
    key_bits : int
        Modulus of the key that a simulated key holder makes for the run. A deployed one loads the
        file that ``private-key`` names in its node configuration.
    """

    min_contributors: int = 3
    packing: Packing = field(default_factory=Packing)
    key_bits: int = 2048


def with_key_holder(
    app: ClientApp,
    policy: Callable[[Context], KeyHolderPolicy] = lambda _: KeyHolderPolicy(),
    features: Callable[[Context], Sequence[str]] = lambda _: (),
) -> ClientApp:
    """Make the app play company X as well, on the node whose role says so.

    It encrypts nothing: that is ``encryption_mod``'s part, on the hospitals.

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
            chosen = policy(context)
            key, record = _start(context, chosen)
            description = Description(
                role=node.role,
                name=node.name,
                version=__version__,
                public_key=key.public_key.to_json(),
                session=str(record[_SESSION]),
                packing=chosen.packing.to_json(),
                simulated=node.simulated,
            )
        else:
            description = Description(
                role=node.role,
                name=node.name,
                version=__version__,
                features=tuple(features(context)),
                simulated=node.simulated,
            )
        return Message(description.to_content(), reply_to=message)

    @app.query("decrypt", mods=[refusal_mod])
    def decrypt(message: Message, context: Context) -> Message:
        if read_node(context).role is not Role.KEY_HOLDER:
            raise ProtocolError("only the key holder can open a sum, and this node is a hospital")
        request = DecryptRequest.from_content(message.content)
        start = perf_counter()
        total = _open(request, context, policy(context))
        reply = DecryptReply(total, decrypt_seconds=perf_counter() - start)
        return Message(reply.to_content(), reply_to=message)

    return app


def key_holder_app(policy: Callable[[Context], KeyHolderPolicy] | None = None) -> ClientApp:
    """Return an app for a node that is company X and nothing else.

    Parameters
    ----------
    policy : callable
        Returns the key holder's policy; the default one if it is not given.
    """
    return with_key_holder(ClientApp(), *(() if policy is None else (policy,)))


def _start(context: Context, policy: KeyHolderPolicy) -> tuple[PrivateKey, ConfigRecord]:
    """Return the key and what the key holder remembers of this run; the first call makes it."""
    records = context.state.config_records
    if _STATE in records:
        return _key(context, records[_STATE]), records[_STATE]
    record = ConfigRecord({_SESSION: secrets.token_hex(16), _ROUNDS: [], _SUMS: []})
    path = node_setting(context, "private-key")
    if path is not None:
        key = PrivateKey.load(Path(path))
    elif read_node(context).simulated:
        # A simulated node has no disk of its own, and its state never leaves the simulation.
        key = PrivateKey.generate(policy.key_bits)
        record[_SIMULATED_KEY] = key.to_json()
    else:
        raise ProtocolError(
            "a deployed key holder must be given private-key in its node configuration: the "
            "path of its key file"
        )
    record[_FINGERPRINT] = key.public_key.fingerprint
    records[_STATE] = record
    return key, record


def _key(context: Context, record: ConfigRecord) -> PrivateKey:
    path = node_setting(context, "private-key")
    if path is None:
        return PrivateKey.from_json(str(record[_SIMULATED_KEY]))
    key = PrivateKey.load(Path(path))
    if key.public_key.fingerprint != record[_FINGERPRINT]:
        raise ProtocolError("the key file must hold the key with which the run began")
    return key


def _open(
    request: DecryptRequest, context: Context, policy: KeyHolderPolicy
) -> NDArray[np.float64]:
    """Decrypt a sum if the policy allows; raises ProtocolError or CryptoError if not."""
    record = context.state.config_records.get(_STATE)
    if record is None or request.session != record[_SESSION]:
        raise ProtocolError(
            f"the session must be one that this key holder opened, got {request.session!r:.40}"
        )
    minimum = _min_contributors(context, policy)
    if not minimum <= request.contributors <= policy.packing.max_contributors:
        raise ProtocolError(
            f"a sum must have at least {minimum} and at most {policy.packing.max_contributors} "
            f"contributors, got {request.contributors}"
        )
    key = _key(context, record)
    vector = EncryptedVector.from_bytes(request.encrypted_sum, key.public_key)
    if vector.packing != policy.packing:
        raise ProtocolError(f"the packing must be {policy.packing}, got {vector.packing}")
    if len(vector) <= EXAMPLES:
        raise ProtocolError("a sum must hold a contributor count and a number of examples")
    _use_up(request, record)
    try:
        total = key.decrypt_vector(vector)
    except CryptoError:  # it may say which slot is wrong
        total = None
    if total is None or total[CONTRIBUTORS] != request.contributors:
        raise ProtocolError(
            f"the sum must hold the {request.contributors} contributors claimed, and it does not"
        )
    return total


def _use_up(request: DecryptRequest, record: ConfigRecord) -> None:
    """Note that a round and a sum are opened; raises ProtocolError if they cannot be."""
    rounds = cast(list[str], record[_ROUNDS])
    latest = max(
        (int(name.split()[1]) for name in rounds if name.split()[0] == request.purpose), default=0
    )
    if request.round <= latest:
        raise ProtocolError(
            f"a round is opened once, in order: {request.purpose} {latest} is open already, "
            f"got {request.purpose} {request.round}"
        )
    digest = sha256(request.encrypted_sum).hexdigest()
    sums = cast(list[str], record[_SUMS])
    if digest in sums:
        raise ProtocolError("this very sum is open already, for another round")
    record[_ROUNDS] = [*rounds, f"{request.purpose} {request.round}"]
    record[_SUMS] = [*sums, digest]


def _min_contributors(context: Context, policy: KeyHolderPolicy) -> int:
    value = context.node_config.get("min-contributors", policy.min_contributors)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ProtocolError("min-contributors in the node configuration must be at least 1")
    return value
