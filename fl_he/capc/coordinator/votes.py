"""Running sum of the encrypted votes in a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from flwr.app import Message

from fl_he.capc.coordinator.steps import Steps
from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.protocol import NOISE_IN, POSITIONS, SUM, CapcStep
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.strategies.exchange import error_reason
from fl_he.strategies.topologies import TOPOLOGIES, Order, RunningSum
from fl_he.wire.encrypted_sum import content_bytes
from fl_he.wire.records import ProtocolError


class VoteSum(RunningSum):
    """A running sum of the votes of answering parties.

    Parameters
    ----------
    public_key : PublicKey
        The guardian's.
    names : mapping of int to str
        Of the parties, by their node ids.

    Attributes
    ----------
    node_seconds : float
        CPU time of all parties.
    """

    def __init__(self, public_key: PublicKey, names: Mapping[int, str]) -> None:
        super().__init__(public_key)
        self.node_seconds = 0.0
        self._names = names

    def noisy_counts(
        self, steps: Steps, requests: Mapping[int, CapcRequest], topology: str, segments: int
    ) -> dict[str, bytes]:
        """Have the votes summed as gradients are, and return the counts with the guardian's noise.

        Parameters
        ----------
        steps : Steps
        requests : mapping of int to CapcRequest
            By node id; the noise is among the parts of the last answering party.
        topology : {"fold", "chain"}
        segments : int
            How many chains run side by side.
        """
        noise = dict(requests[list(requests)[-1]].parts)
        messages = [
            Message(
                replace(request, parts={POSITIONS.name: request.part(POSITIONS.name)}).to_content(),
                node,
                CapcStep.COLLECT.value,
            )
            for node, request in requests.items()
        ]
        with steps.counted(CapcStep.COLLECT) as cost:
            TOPOLOGIES[topology](steps.grid, Order(messages, steps.timeout, segments), self)
            cost.hops += 1 if topology == "fold" else ceil(len(messages) / segments)
            cost.node_seconds += self.node_seconds
            cost.bytes_sent += self.bytes_sent
        key, votes = self._public_key, self.vector
        if votes is None:
            raise ProtocolError("CaPC must have at least one answering party, got none")
        return {
            counts.name: votes.add(
                EncryptedVector.from_bytes(noise[part.name], key), key
            ).to_bytes()
            for counts, part in NOISE_IN.items()
            if part.name in noise
        }

    def ask(self, message: Message, handed: EncryptedVector | None) -> Message:
        """See RunningSum."""
        if handed is None:
            return message
        request = CapcRequest.from_content(message.content)
        request = replace(request, parts={**request.parts, SUM.name: handed.to_bytes()})
        return Message(
            request.to_content(), message.metadata.dst_node_id, message.metadata.message_type
        )

    def take(self, reply: Message) -> EncryptedVector:
        """Check a party's reply and note its cost.

        Raises
        ------
        ProtocolError
            For anything but votes: a batch has the votes of all parties or none.
        """
        name = self._names[reply.metadata.src_node_id]
        if reply.has_error():
            raise ProtocolError(f"{name}: {error_reason(reply)}")
        self.bytes_sent += content_bytes(reply)
        try:
            answer = CapcReply.from_content(reply.content)
            vector = EncryptedVector.from_bytes(answer.part(SUM.name), self._public_key)
        except (ProtocolError, CryptoError) as error:
            raise ProtocolError(f"{name} sent no usable votes: {error}") from error
        self.node_seconds += answer.seconds
        return vector
