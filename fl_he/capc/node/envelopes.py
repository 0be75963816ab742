"""CaPC's parts in sealed envelopes: what one node sends another, the coordinator only carries.

Each part is sealed for the node that needs it, and signed. An envelope is bound to the batch, to
the agreement, to the names of all who take part and in which order, to the size of the batch, and
to its number among those from the same sender. So a coordinator can neither read a part, nor make
one up, nor use one twice or elsewhere, nor tell two nodes different stories about who takes part:
what it changes, the next node refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fl_he.capc.agreement import Agreement
from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node.party import Memory
from fl_he.capc.protocol import STEPS, CapcStep, Places
from fl_he.clients.node.enrolment import Enrolment
from fl_he.crypto.envelopes.sealing import Binding, seal, unseal
from fl_he.wire.records import ProtocolError


class Envelopes:
    """One node's envelopes of one batch.

    Parameters
    ----------
    enrolment : Enrolment
    agreement : Agreement
    request : CapcRequest
        Says who takes part. The others say it as well, or their envelopes do not open.
    memory : Memory
        Of the batch.

    Raises
    ------
    ProtocolError
        If those who take part are not what the agreement and the manifest allow.
    """

    def __init__(
        self, enrolment: Enrolment, agreement: Agreement, request: CapcRequest, memory: Memory
    ) -> None:
        self._enrolment = enrolment
        guardian = enrolment.manifest.key_holder.name
        self._places = Places(request.querying, request.answering, guardian)
        self._memory = memory
        self._run = f"capc:{request.session}:{agreement.fingerprint}"
        self._queries = request.queries
        self._tested = agreement.threshold is not None
        self._parties = parties = (request.querying, *request.answering)
        hospitals = {node.name for node in enrolment.manifest.hospitals}
        if len(set(parties)) != len(parties) or not set(parties) <= hospitals:
            raise ProtocolError("parties must be hospitals of the manifest, each of them once")
        if request.querying not in agreement.keys:
            raise ProtocolError(
                f"the querying party must have its keys in the agreement, got {request.querying!r}"
            )
        if len(request.answering) < agreement.min_contributors:
            raise ProtocolError(
                f"answering parties must be at least {agreement.min_contributors}, as many as the "
                f"agreement's min_contributors, got {len(request.answering)}"
            )
        if self._places.role(enrolment.name) is None:
            raise ProtocolError(f"{enrolment.name} takes no part in this batch")

    def open(self, step: CapcStep, request: CapcRequest) -> CapcRequest:
        """Return a request with what its parts' senders have sealed for this node.

        Raises
        ------
        ProtocolError, CryptoError
            If a part is not from where it must be from, for this node, and next in its row, or
            one of those that make up the votes is not there.
        """
        # Parts cannot be forged, but whoever carries them can leave one out.
        own, row = self._enrolment.name, STEPS[step]
        if missing := self._places.missing(row, request.parts, own, tested=self._tested):
            raise ProtocolError(
                f"{own} did not get all parts of {step}, among them all votes before its own and "
                f"the guardian's noise; missing: {', '.join(missing)}"
            )
        return replace(request, parts=self._through(unseal, step, request.parts))

    def seal(self, step: CapcStep, reply: CapcReply) -> CapcReply:
        """Return a reply with each part sealed for the node that needs it."""
        return replace(reply, parts=self._through(seal, step, reply.parts))

    def _through(
        self, change: Callable[..., bytes], step: CapcStep, parts: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """Seal or unseal each part, bound to its number among those of the same two nodes."""
        changed, incoming = {}, change is unseal
        own, row = self._enrolment, STEPS[step]
        for name, part, peer in self._places.handed(row, parts, own.name, incoming=incoming):
            number = self._memory.count(f"{'from' if incoming else 'to'} {peer}")
            changed[name] = change(
                parts[name],
                own.identity,
                own.manifest.node(peer),
                Binding(self._run, f"capc-{part.name}", number, self._queries, self._parties),
            )
        return changed
