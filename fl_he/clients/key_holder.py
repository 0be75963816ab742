"""Company X: publishes its public key and opens totals, and nothing but totals.

The policy is the key holder's own, never the coordinator's. A sum is opened if it belongs to the
session that it began, is packed as the policy says, comes after all rounds opened for that purpose,
is not one that was opened before, and if the contributor count inside is the claimed one and at
least ``min_contributors``. A sum that fails the last test has used up its round, and the answer
says no more than that it failed: what a decryption shows must not depend on what is asked next.

What was opened is in the ledger, on the disk of a deployed key holder, and outlives its process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he.clients.guard import GuardedApp
from fl_he.clients.ledger import Ledger, StateStore
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node.private_key_file import load_private_key
from fl_he.clients.node.role import read_node
from fl_he.clients.node.setting import least_contributors, node_path
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.version import __version__
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    DecryptReply,
    DecryptRequest,
    Description,
    ProtocolError,
    Role,
)
from fl_he.wire.update_layout import CONTRIBUTORS, EXAMPLES

_STATE = "fl-he.key-holder"
_FINGERPRINT = "fingerprint"
_SIMULATED_KEY = "private-key"


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
    classes: Callable[[Context], Sequence[str]] = lambda _: (),
) -> ClientApp:
    """Return an app that plays company X as well, on the node whose role says so.

    It encrypts nothing: that is ``encryption_mod``'s part, on the hospitals. But it refuses to let
    a reply leave that nobody has encrypted.

    Parameters
    ----------
    app : ClientApp
        The hospitals' app, with ``encryption_mod`` as its first mod.
    policy : callable
        Returns the key holder's policy on the key holder's node.
    features : callable
        Returns the feature names on a hospital's node; hospitals must agree on them.
    classes : callable
        Returns the names of more than two classes there; likewise.

    Raises
    ------
    ProtocolError
        If the app is a legacy one with a ``client_fn``.
    """

    def describe(message: Message, context: Context) -> Message:
        node = read_node(context)
        if node.role is Role.KEY_HOLDER:
            chosen = policy(context)
            key, ledger = key_and_ledger(context, chosen)
            description = Description(
                role=node.role,
                name=node.name,
                version=__version__,
                public_key=key.public_key.to_json(),
                session=ledger.session(context.run_id, key.public_key.fingerprint),
                packing=chosen.packing.to_json(),
                simulated=node.simulated,
            )
        else:
            description = Description(
                role=node.role,
                name=node.name,
                version=__version__,
                features=tuple(features(context)),
                classes=tuple(classes(context)),
                simulated=node.simulated,
            )
        return Message(description.to_content(), reply_to=message)

    def decrypt(message: Message, context: Context) -> Message:
        if read_node(context).role is not Role.KEY_HOLDER:
            raise ProtocolError("only the key holder can open a sum, and this node is a hospital")
        request = DecryptRequest.from_content(message.content)
        start = perf_counter()
        chosen = own_policy(context, policy(context))
        total = open_sum(request, chosen, *key_and_ledger(context, chosen))
        reply = DecryptReply(total, decrypt_seconds=perf_counter() - start)
        return Message(reply.to_content(), reply_to=message)

    return GuardedApp(app, {DESCRIBE: describe, DECRYPT: decrypt})


def key_holder_app(policy: Callable[[Context], KeyHolderPolicy] | None = None) -> ClientApp:
    """Return an app for a node that is company X and nothing else.

    Parameters
    ----------
    policy : callable
        Returns the key holder's policy; the default one if it is not given.
    """
    return with_key_holder(ClientApp(), *(() if policy is None else (policy,)))


def own_policy(context: Context, policy: KeyHolderPolicy) -> KeyHolderPolicy:
    """Return the policy with the node's own ``min-contributors`` where it has one."""
    return replace(policy, min_contributors=least_contributors(context, policy.min_contributors))


def key_and_ledger(context: Context, policy: KeyHolderPolicy) -> tuple[PrivateKey, Ledger]:
    """Return the key and what the key holder remembers; the first call of a simulation makes it."""
    record = context.state.config_records.setdefault(_STATE, ConfigRecord())
    known = str(record[_FINGERPRINT]) if _FINGERPRINT in record else None
    if read_node(context).simulated:
        # A simulated node has no disk of its own, and its state never leaves the simulation.
        if _SIMULATED_KEY not in record:
            record[_SIMULATED_KEY] = PrivateKey.generate(policy.key_bits).to_json()
        key = PrivateKey.from_json(str(record[_SIMULATED_KEY]), known=known)
        ledger = Ledger(StateStore(record))
    else:
        key = load_private_key(context, known)
        ledger = Ledger(FileStore(_ledger_path(context)))
    record[_FINGERPRINT] = key.public_key.fingerprint
    return key, ledger


def _ledger_path(context: Context) -> Path:
    if (path := node_path(context, "state")) is not None:
        return path
    key_file = node_path(context, "private-key") or Path()  # it has just been read
    return key_file.with_name(f"{key_file.name}.opened.jsonl")


def open_sum(
    request: DecryptRequest,
    policy: KeyHolderPolicy,
    key: PrivateKey,
    ledger: Ledger,
    follows: int | None = None,
) -> NDArray[np.float64]:
    """Decrypt a sum if the policy allows.

    Parameters
    ----------
    request : DecryptRequest
    policy : KeyHolderPolicy
        With the node's own ``min_contributors``; see :func:`own_policy`.
    key : PrivateKey
    ledger : Ledger
    follows : int or None
        See :meth:`Ledger.note`.

    Returns
    -------
    ndarray
        The total, as long as the encrypted vector.

    Raises
    ------
    ProtocolError, CryptoError
        If the policy does not allow it. The module's docstring says when.
    """
    minimum = policy.min_contributors
    if not minimum <= request.contributors <= policy.packing.max_contributors:
        raise ProtocolError(
            f"a sum must have at least {minimum} and at most {policy.packing.max_contributors} "
            f"contributors, got {request.contributors} (the least is this key holder's own: where "
            "it is deployed, min-contributors in its node configuration)"
        )
    vector = EncryptedVector.from_bytes(request.encrypted_sum, key.public_key)
    if vector.packing != policy.packing:
        raise ProtocolError(f"the packing must be {policy.packing}, got {vector.packing}")
    if len(vector) <= EXAMPLES:
        raise ProtocolError("a sum must hold a contributor count and a number of examples")
    ledger.note(request, key.public_key.fingerprint, follows)
    try:
        total = key.decrypt_vector(vector)
    except CryptoError:  # it may say which slot is wrong
        total = None
    if total is None or total[CONTRIBUTORS] != request.contributors:
        raise ProtocolError(
            f"the sum must hold the {request.contributors} contributors claimed, and it does not"
        )
    return total
