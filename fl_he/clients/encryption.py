"""The client's half of the encrypted sum: a Flower mod that lets nothing leave in plain."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fl_he.clients.node import Node, Role, read_node
from fl_he.clients.refusal import refusal_mod
from fl_he.crypto.encrypted_vector import EncryptedVector
from fl_he.crypto.errors import RangeError
from fl_he.crypto.packing import Packing
from fl_he.crypto.public_key import PublicKey
from fl_he.messages import OPEN_ACTIONS, EncryptedReply, EncryptionRequest, ProtocolError
from fl_he.update import UpdateLayout, flatten

_STATE = "fl-he.pinned-key"
_FINGERPRINT = "fingerprint"


def encryption_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower mod that encrypts whatever the app replies to ``train`` and ``evaluate``.

    The app computes its ordinary reply: arrays, metrics and ``num-examples``. The mod weights it,
    encrypts it under company X's public key, adds the running sum if the message brought one, and
    replaces the whole reply. It answers with an error, and nothing else, if the message carries no
    usable key, another key than the one this node pinned, or if a value does not fit its slot.
    There is no plaintext fallback.

    A deployed hospital pins the fingerprint in its node configuration. In a simulation, where
    there is nobody to tell it another way, a node pins the first key of the run.

    Put it first in ``ClientApp(mods=[encryption_mod, ...])``: Flower calls the first mod first and
    hands it the reply last, so mods behind it work on the plain reply.
    """
    return refusal_mod(message, context, lambda msg, ctx: _encrypt_reply(msg, ctx, call_next))


def _encrypt_reply(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    action = message.metadata.message_type
    if action in OPEN_ACTIONS:
        return call_next(message, context)
    if action.split(".")[0] not in (MessageType.TRAIN, MessageType.EVALUATE):
        raise ProtocolError(
            f"a reply to {action!r} would leave this node in plain: only train and evaluate "
            "replies can be encrypted"
        )
    node = read_node(context)
    if node.role is not Role.HOSPITAL:
        raise ProtocolError(f"{action!r} must go to a hospital, got {node.role.value!r}")
    request = EncryptionRequest.from_content(message.content)
    public_key = PublicKey.from_json(request.public_key)
    packing = Packing.from_json(request.packing)
    _check_pin(public_key, node, context)
    message.content = EncryptionRequest.remove_from(message.content)

    reply = call_next(message, context)
    if reply.has_error():
        return reply
    values, layout = flatten(reply.content, request.weighted_by)
    return Message(_encrypted(values, layout, request, public_key, packing), reply_to=message)


def _encrypted(
    values: NDArray[np.float64],
    layout: UpdateLayout,
    request: EncryptionRequest,
    public_key: PublicKey,
    packing: Packing,
) -> RecordDict:
    start = perf_counter()
    try:
        vector = EncryptedVector.encrypt(public_key, packing, values)
    except RangeError as error:
        raise ProtocolError(
            f"{layout.locate(error.index)} does not fit its slot once weighted by "
            f"{layout.weighted_by!r}: raise {error.setting}"
        ) from None
    encrypted = perf_counter()
    if request.running_sum is not None:
        if request.layout != layout.to_json():
            raise ProtocolError("the running sum must have the layout of this hospital's update")
        running = EncryptedVector.from_bytes(request.running_sum, public_key)
        vector = running.add(vector, public_key)
    added = perf_counter()
    return EncryptedReply(
        encrypted_sum=vector.to_bytes(),
        layout=layout.to_json(),
        encrypt_seconds=encrypted - start,
        add_seconds=added - encrypted,
    ).to_content()


def _check_pin(public_key: PublicKey, node: Node, context: Context) -> None:
    pinned = node.key_fingerprint
    if pinned is None:
        first = ConfigRecord({_FINGERPRINT: public_key.fingerprint})
        pinned = context.state.config_records.setdefault(_STATE, first)[_FINGERPRINT]  # type: ignore[assignment]
    if public_key.fingerprint != pinned:
        raise ProtocolError(
            f"the public key must be the pinned one, {pinned}, got {public_key.fingerprint}"
        )
