"""The sum of hospitals' updates in the making."""

from __future__ import annotations

import logging

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.strategies.exchange import Skipped, error_reason
from fl_he.strategies.roster import Roster
from fl_he.strategies.topologies import RunningSum
from fl_he.wire.encrypted_sum import EncryptedReply, EncryptionRequest, content_bytes
from fl_he.wire.records import ProtocolError
from fl_he.wire.selection import Selection
from fl_he.wire.update import UpdateLayout

_logger = logging.getLogger(__name__)


class UpdateSum(RunningSum):
    """A running sum of updates.

    Parameters
    ----------
    request : EncryptionRequest
        What all messages carry besides.
    roster : Roster
    packing : Packing
        What the replies must be packed like.
    selection : Selection
        Which arrays must be encrypted.

    Attributes
    ----------
    layout : UpdateLayout or None
        What the slots hold; every contributor must have the same.
    contributors : int
    update_bytes : int
        Size of one encrypted update.
    plain : ndarray
        The sum of what was not encrypted; empty as a rule.
    encrypt_seconds : float
        Summed over the hospitals.
    skipped : list of Skipped
        The hospitals that were asked and are not in the sum.
    """

    def __init__(
        self, request: EncryptionRequest, roster: Roster, packing: Packing, selection: Selection
    ) -> None:
        super().__init__(roster.public_key)
        self.layout: UpdateLayout | None = None
        self.contributors = 0
        self.update_bytes = 0
        self.plain: NDArray[np.float64] = np.empty(0)
        self.encrypt_seconds = 0.0
        self.skipped: list[Skipped] = []
        self._request = request
        self._roster = roster
        self._packing = packing
        self._selection = selection

    def ask(self, message: Message, handed: EncryptedVector | None) -> Message:
        """See RunningSum."""
        request = self._request
        if handed is not None and self.layout is not None:
            request = request.continuing(handed.to_bytes(), self.layout.to_json())
        return addressed(message, request)

    def take(self, reply: Message) -> EncryptedVector | None:
        """Check one hospital's reply and note its cost.

        Returns
        -------
        EncryptedVector or None
            None for a hospital that is skipped, since it sent an error or nothing.

        Raises
        ------
        ProtocolError
            With the hospital's name, for any other reply than the one that was asked for: who
            sends that does not follow the protocol, and a round without it would not mend that.
        """
        name = self._roster.name(reply.metadata.src_node_id)
        if reply.has_error():
            self.skipped.append(Skipped(name, error_reason(reply)))
            _logger.warning("%s is skipped in this round: %s", name, self.skipped[-1].reason)
            return None
        self.bytes_sent += content_bytes(reply)
        try:
            answer = EncryptedReply.from_content(reply.content)
            layout = UpdateLayout.from_json(answer.layout)
        except (ProtocolError, CryptoError) as error:
            raise ProtocolError(f"{name}: {error}") from error
        if self.layout is not None and layout != self.layout:
            raise ProtocolError(
                f"hospitals must send the same arrays and metrics, {name} sent others than the rest"
            )
        in_plain = [slot.name for slot in layout.arrays if not slot.encrypted]
        if wrongly := list(filter(self._selection.encrypts, in_plain)):
            raise ProtocolError(f"{name} must encrypt the arrays {wrongly}, and it did not")
        if len(answer.plain) != layout.plain_length:
            raise ProtocolError(f"{name} must send the plain arrays of its layout and no others")
        try:
            vector = EncryptedVector.from_bytes(answer.encrypted_sum, self._roster.public_key)
        except CryptoError as error:
            raise ProtocolError(f"{name} sent no usable ciphertexts: {error}") from error
        if len(vector) != len(layout) or vector.packing != self._packing:
            raise ProtocolError(f"{name} must fill the slots of its own layout as asked")
        self.plain = answer.plain if self.layout is None else self.plain + answer.plain
        self.layout = layout
        self.contributors += 1
        self.update_bytes = len(answer.encrypted_sum)
        self.encrypt_seconds += answer.encrypt_seconds
        self.add_seconds += answer.add_seconds
        return vector


def addressed(message: Message, request: EncryptionRequest) -> Message:
    """Return the wrapped strategy's message with the encryption request in it.

    The strategy may have given the same content to all of its messages, so it is copied.
    """
    metadata = message.metadata
    return Message(
        request.add_to(message.content),
        metadata.dst_node_id,
        metadata.message_type,
        ttl=metadata.ttl,
        group_id=metadata.group_id,
    )
