"""CaPC's parts in sealed envelopes: what one node sends another, the coordinator only carries.

Each part is sealed for the node that needs it, and signed. An envelope is bound to the batch, to
the agreement, to the names of all who take part and in which order, to the size of the batch, and
to its number among those from the same sender. So a coordinator can neither read a part, nor make
one up, nor use one twice or elsewhere, nor tell two nodes different stories about who takes part:
what it changes, the next node refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from fl_he.capc.agreement import Agreement
from fl_he.capc.messages import NOISE, SUM, TEST_NOISE, CapcReply, CapcRequest, CapcStep
from fl_he.capc.node.party import Memory
from fl_he.clients.node.enrolment import Enrolment
from fl_he.crypto.envelopes.binding import Binding
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.envelopes.sealing import seal, unseal
from fl_he.wire.records import ProtocolError

_Change = Callable[[bytes, Identity, PublicIdentity, Binding], bytes]

#: The querying party's steps whose parts are named after answering parties: what they receive and
#: what they send.
_BY_PARTY = {
    CapcStep.ASK: ("", "features"),
    CapcStep.UNIT_BITS: ("units", "bits"),
    CapcStep.PRODUCTS: ("compared", "products"),
    CapcStep.LOGIT_BITS: ("blinded", "bits"),
    CapcStep.VOTE: ("compared", "positions"),
}


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
        self._guardian = enrolment.manifest.key_holder.name
        self._querying = request.querying
        self._answering = request.answering
        self._memory = memory
        self._run = f"capc:{request.session}:{agreement.fingerprint}"
        self._queries = request.queries
        self._tested = agreement.threshold is not None
        parties = (request.querying, *request.answering)
        self._parties = parties
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
        if enrolment.name not in (*parties, self._guardian):
            raise ProtocolError(f"{enrolment.name} must be among those who take part, and is not")

    def open(self, step: CapcStep, request: CapcRequest) -> CapcRequest:
        """Return a request with what its parts' senders have sealed for this node.

        Raises
        ------
        ProtocolError, CryptoError
            If a part is not from where it must be from, for this node, and next in its row, or
            one of those that make up the votes is not there.
        """
        if step is CapcStep.COLLECT:
            self._require_all_votes(request.parts)
        return replace(request, parts=self._through(unseal, step, request.parts, incoming=True))

    def seal(self, step: CapcStep, reply: CapcReply) -> CapcReply:
        """Return a reply with each part sealed for the node that needs it."""
        return replace(reply, parts=self._through(seal, step, reply.parts, incoming=False))

    def _require_all_votes(self, parts: Mapping[str, bytes]) -> None:
        """Refuse to go on without the votes before this party's, or to end without the noise.

        Parts cannot be forged, but whoever carries them can leave one out.
        """
        own = self._enrolment.name
        if own not in self._answering:
            raise ProtocolError(f"{own} must be an answering party to collect votes, and is not")
        wanted = [] if own == self._answering[0] else [SUM]
        if own == self._answering[-1]:
            wanted += [NOISE, TEST_NOISE] if self._tested else [NOISE]
        if missing := [part for part in wanted if part not in parts]:
            raise ProtocolError(
                f"{own} must be handed the votes of all before it, and the last party the "
                f"guardian's noise, got none of {', '.join(missing)}"
            )

    def _through(
        self, change: _Change, step: CapcStep, parts: Mapping[str, bytes], *, incoming: bool
    ) -> dict[str, bytes]:
        """Seal or unseal each part, bound to its number among those of the same two nodes."""
        changed = {}
        for part, peer, kind in self._peers(step, parts, incoming=incoming):
            number = self._memory.count(f"{'from' if incoming else 'to'} {peer}")
            changed[part] = change(
                parts[part],
                self._enrolment.identity,
                self._enrolment.manifest.node(peer),
                Binding(self._run, f"capc-{kind}", number, self._queries, self._parties),
            )
        return changed

    def _peers(
        self, step: CapcStep, parts: Mapping[str, bytes], *, incoming: bool
    ) -> Iterator[tuple[str, str, str]]:
        """Yield each part, the node at its other end, and what it is, in one order for both."""
        for part in sorted(parts):
            if step in _BY_PARTY:
                if part not in self._answering:
                    raise ProtocolError(f"{part!r:.80} must be an answering party, and is not")
                yield part, part, _BY_PARTY[step][0 if incoming else 1]
            else:
                yield part, self._peer(step, part, incoming=incoming), part

    def _peer(self, step: CapcStep, part: str, *, incoming: bool) -> str:
        own = self._enrolment.name
        if part == SUM:
            place = self._answering.index(own) + (-1 if incoming else 1)
            if not 0 <= place < len(self._answering):
                raise ProtocolError(
                    "the first answering party is handed no sum, and the last one's must have the "
                    "guardian's noise added"
                )
            return self._answering[place]
        if part in (NOISE, TEST_NOISE):
            return self._guardian if incoming else self._answering[-1]
        if step is CapcStep.COUNT and incoming:
            return self._answering[-1]
        return self._guardian if own == self._querying else self._querying
