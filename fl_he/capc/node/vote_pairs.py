"""Pairwise masks of votes: an answering party's seeds, and the masks of one batch.

The parties that answer exchange seeds as hospitals do in training (`fl_he.clients.pairing`), once
for an agreement. In a batch each pair of answering parties shares a stream. The set is that of all
parties who answer at all, for good (`fl_he.clients.pair_memory`); a batch must be answered by all
of them but the querying party, so a coordinator cannot compare sums of two choices of parties.

**Use.** A stream is of the batch, whose name the querying party makes, of the agreement, of all
that every answering party was asked alike, the encrypted queries among it, and of who asks and who
answers. Parties that were asked differently do not cancel. A batch is answered once; a party whose
ledger was put back answers it again with the same vote alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from fl_he.capc.messages import MANIFEST, CapcReply, CapcRequest
from fl_he.capc.node.keys import PublicKeys
from fl_he.capc.terms import VOTE_PACKING
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.pair_memory import PairMemory
from fl_he.clients.pairing import (
    enrolled,
    keep_halves,
    own_identity,
    require_unmasked,
    sealed_halves,
)
from fl_he.clients.stores import Store
from fl_he.config.groups import FEWEST_MASKING
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.pairs import PairMasks
from fl_he.wire.records import ProtocolError

_LABEL, _PURPOSE = b"fl-he capc question 1", "capc"
_NUMBER_BYTES = 8
#: Of an agreement's fingerprint, as the name of its seeds: 128 bits.
PAIR_DIGITS = 32


def vote_occasion(
    request: CapcRequest, guardian: PublicKeys, agreement: str, features: bytes, length: int
) -> Occasion:
    """Return the occasion of a sum of votes, the same for all parties that are asked alike.

    Parameters
    ----------
    request : CapcRequest
    guardian : PublicKeys
    agreement : str
        Fingerprint of the agreement; empty in a simulation.
    features : bytes of length 32
        Digest of the encrypted queries, which are the same for all answering parties.
    length : int
        Of the vector of votes.
    """
    question = encode_fields(
        _LABEL,
        agreement.encode(),
        features,
        request.queries.to_bytes(_NUMBER_BYTES, "big"),
        request.querying.encode(),
        guardian.dgk.fingerprint.encode(),
        *(name.encode() for name in request.answering),
    )
    return Occasion(
        *(guardian.paillier.fingerprint, request.session, _PURPOSE, 0),
        sha256(question).digest(),
        *(VOTE_PACKING, length),
    )


@dataclass(frozen=True, slots=True, repr=False)
class VotePairs:
    """The seeds of one answering party.

    Attributes
    ----------
    node : Node
    agreement : str
        Fingerprint of the agreement; empty in a simulation.
    memory : PairMemory
    """

    node: Node
    agreement: str
    memory: PairMemory

    @classmethod
    def of(cls, node: Node, agreement: str, sets: Store, seeds: Store) -> VotePairs | None:
        """Return a node's seeds; ``None`` if it does not mask its votes.

        Parameters
        ----------
        node : Node
        agreement : str
        sets, seeds : Store
            Where the node keeps the set for which it masks, and its seeds.

        Raises
        ------
        ProtocolError
            If the node has masked votes, and is not to do so any more.
        """
        if not node.resistant:
            require_unmasked(sets)
            return None
        return cls(node, agreement, PairMemory(sets, seeds, own_identity(node).public.name))

    def seal(self, asked: CapcRequest) -> CapcReply:
        """Return the node's halves for the others of a set, each sealed to one of them."""
        own = self._enrolled(asked)
        halves = sealed_halves(self._session, asked.answering, self.node, own, self.memory)
        return CapcReply(halves)

    def keep(self, brought: CapcRequest) -> CapcReply:
        """Keep the halves of the others."""
        keep_halves(self._session, brought.parts, self._enrolled(brought), self.memory)
        return CapcReply()

    def masks(
        self, request: CapcRequest, guardian: PublicKeys, features: bytes, length: int, vote: bytes
    ) -> PairMasks:
        """Return the masks of a vote, after it is noted.

        Parameters
        ----------
        request : CapcRequest
        guardian, features, length
            See `vote_occasion`.
        vote : bytes
            All that decides about the vote.

        Raises
        ------
        ProtocolError
            If others answer than all of the set but the querying party, or too few.
        """
        occasion = vote_occasion(request, guardian, self.agreement, features, length)
        masks = self.memory.masks(occasion, vote, absent=request.querying)
        answering = {*masks.halves, masks.hospital}
        if answering != set(request.answering) or len(answering) < FEWEST_MASKING:
            raise ProtocolError(
                f"votes with pairwise masks must be of all parties of the set that answer but the "
                f"querying one, and of {FEWEST_MASKING} at least, got {len(request.answering)} for "
                f"{len(answering)}"
            )
        return masks

    @property
    def _session(self) -> str:
        return f"{_PURPOSE}:{self.agreement[:PAIR_DIGITS]}"

    def _enrolled(self, request: CapcRequest) -> Enrolment:
        return enrolled(self.node, request.keys.get(MANIFEST, ""))
