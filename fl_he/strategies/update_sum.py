"""Running sum of the hospitals' encrypted updates: by fold in the strategy, or chain by chain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from time import perf_counter

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.strategies.encrypted_sum import Cost, UnopenedSum
from fl_he.strategies.exchange import exchange
from fl_he.strategies.roster import Roster
from fl_he.strategies.skipping import Skipped, skip
from fl_he.wire.encrypted_sum import (
    DecryptRequest,
    EncryptedReply,
    EncryptionRequest,
    Purpose,
    content_bytes,
)
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.selection import Selection
from fl_he.wire.update import UpdateLayout

FOLD = "fold"
TOPOLOGIES = (FOLD, "chain")
AUTO = "auto"


@dataclass
class _Segment:
    """One chain: who is still to come, and the last sum that a contributor of it has returned."""

    rest: list[Message]
    vector: EncryptedVector | None = None


class UpdateSum:
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
    vector : EncryptedVector or None
    layout : UpdateLayout or None
        What the slots hold; every contributor must have the same.
    contributors : int
    update_bytes : int
        Size of one encrypted update.
    plain : ndarray
        The sum of what was not encrypted; empty as a rule.
    cost : Cost
    skipped : list of Skipped
        The hospitals that were asked and are not in the sum.
    """

    def __init__(
        self, request: EncryptionRequest, roster: Roster, packing: Packing, selection: Selection
    ) -> None:
        self.vector: EncryptedVector | None = None
        self.layout: UpdateLayout | None = None
        self.contributors = self.update_bytes = 0
        self.plain: NDArray[np.float64] = np.empty(0)
        self.cost = Cost()
        self.skipped: list[Skipped] = []
        self._request, self._roster = request, roster
        self._packing, self._selection = packing, selection

    def collect(self, messages: list[Message], segments: int) -> None:
        """Hand sums from hospital to hospital; each adds its ciphertexts to what it is handed.

        Chains run side by side, each over its share of the hospitals, and their sums are added in
        place as they arrive: the last reply comes after hospitals / segments hops. If one sends an
        error or nothing, the next one is handed the sum that it was handed. A fold is a chain for
        each hospital: all are asked at once, and one running sum is held, whatever their number.

        Parameters
        ----------
        messages : list of Message
            The wrapped strategy's, one for each hospital.
        segments : int
            How many chains there are, at least 1.

        Raises
        ------
        ProtocolError
            On the first reply that is not what was asked.
        """
        at_work: dict[int, _Segment] = {}

        def ask_next(segment: _Segment) -> Message | None:
            if not segment.rest:
                if segment.vector is not None:
                    self._add(segment.vector)
                return None
            request = self._request
            if segment.vector is not None and self.layout is not None:
                handed = segment.vector.to_bytes()
                request = replace(request, running_sum=handed, layout=self.layout.to_json())
            hop = addressed(segment.rest.pop(0), request)
            at_work[hop.metadata.dst_node_id] = segment
            self.cost.bytes_sent += content_bytes(hop)
            return hop

        def hand_on(reply: Message) -> Message | None:
            segment = at_work.pop(reply.metadata.src_node_id)
            if (vector := self._take(reply)) is not None:
                segment.vector = vector
            return ask_next(segment)

        chains = [_Segment(messages[at::segments]) for at in range(segments)]
        firsts = [hop for segment in chains if (hop := ask_next(segment)) is not None]
        for _ in exchange(self._roster.grid, firsts, self._roster.waiting.hop_timeout, hand_on):
            pass

    def finished(self, purpose: Purpose, start: float) -> UnopenedSum:
        """Return the sum for company X; `start` is when it was begun, by ``perf_counter``.

        Raises
        ------
        ProtocolError
            If there are fewer contributors than ``min_contributors``.
        """
        waiting, request = self._roster.waiting, self._request
        too_few = self.contributors < waiting.min_contributors
        if self.vector is None or self.layout is None or too_few:
            reasons = "; ".join(f"{one.name}: {one.reason}" for one in self.skipped)
            raise waiting.too_few(self.contributors, f". {reasons}")
        vector = self.vector.to_bytes()
        self.cost.seconds = perf_counter() - start
        return UnopenedSum(
            DecryptRequest(request.session, purpose, request.round, self.contributors, vector),
            self.cost,
            self.layout,
            self.plain,
            skipped=tuple(self.skipped),
            ciphertexts=self.vector.ciphertexts,
            update_bytes=self.update_bytes,
        )

    def _take(self, reply: Message) -> EncryptedVector | None:
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
            self.skipped.append(skip(name, reply, "is skipped in this round"))
            return None
        self.cost.bytes_sent += content_bytes(reply)
        with refused_as(f"{name}:"):
            answer = EncryptedReply.from_content(reply.content)
            layout = UpdateLayout.from_json(answer.layout)
        if self.layout is not None and layout != self.layout:
            raise ProtocolError(
                f"hospitals must send the same arrays and metrics, {name} sent others than the rest"
            )
        in_plain = [slot.name for slot in layout.arrays if not slot.encrypted]
        if wrongly := list(filter(self._selection.encrypts, in_plain)):
            raise ProtocolError(f"{name} must encrypt the arrays {wrongly}, and it did not")
        if len(answer.plain) != layout.plain_length:
            raise ProtocolError(f"{name} must send the plain arrays of its layout and no others")
        with refused_as(f"{name} sent no usable ciphertexts:"):
            vector = EncryptedVector.from_bytes(answer.encrypted_sum, self._roster.public_key)
        if len(vector) != len(layout) or vector.packing != self._packing:
            raise ProtocolError(f"{name} must fill the slots of its own layout as asked")
        self.plain = answer.plain if self.layout is None else self.plain + answer.plain
        self.layout = layout
        self.contributors += 1
        self.update_bytes = len(answer.encrypted_sum)
        self.cost.encrypt_seconds += answer.encrypt_seconds
        self.cost.add_seconds += answer.add_seconds
        return vector

    def _add(self, vector: EncryptedVector) -> None:
        start = perf_counter()
        if self.vector is None:
            self.vector = vector
        else:
            self.vector.add_in_place(vector, self._roster.public_key)
        self.cost.add_seconds += perf_counter() - start


def segments_of(segments: int | str, contributors: int) -> int:
    """Return how many chains are meant: ``"auto"`` is about the square root of the contributors."""
    return isqrt(contributors) if segments == AUTO else int(segments)


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
