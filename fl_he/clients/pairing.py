"""Pairwise masks at a hospital: the exchange of seeds, as a part of a node's app.

With ``collusion="resistant"`` a hospital answers for a set of hospitals alone, and masks each of
its updates by streams that it shares with each other hospital of the set: see
`fl_he.crypto.tickets.pairs`. The coordinator carries the seeds, sealed from hospital to hospital. A
hospital never sends an update without its masks: no message of the coordinator changes that.

A simulated node has no manifest. It makes an identity for the study of masks, and believes the
manifest that the coordinator makes of all nodes' identities.
"""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Message, RecordDict

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node, OwnKey
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.node.run_key_check import signed_key
from fl_he.clients.pair_memory import PairMemory
from fl_he.clients.stores import Store
from fl_he.config.groups import FEWEST_MASKING, MOST_MASKING
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.sealing import Binding, seal, unseal
from fl_he.crypto.tickets.pairs import set_digest
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.pairing import PAIR, SEEDS, Halves, SeedsRequest
from fl_he.wire.records import ProtocolError

_PURPOSE = "pair-half"


def answer_pairing(message: Message, node: Node, answer: Answer) -> Message:
    """Answer the messages of the exchange; see `fl_he.clients.node.app.Part`."""
    action = message.metadata.message_type
    if action not in (SEEDS, PAIR):
        return answer(message, node)
    if node.role is not Role.HOSPITAL or not node.resistant:
        raise ProtocolError(
            f"{action!r} must go to hospitals with collusion='resistant' in their configuration"
        )
    if action == SEEDS:
        asked = SeedsRequest.from_content(message.content)
        own = enrolled(node, asked.manifest)
        until = 0
        if node.enrolment is not None:
            until = signed_key(asked.run_key, asked.session, node, own).expires
        memory = PairMemory(node.masked_sets(), node.pairs(asked.session), own.name)
        halves = sealed_halves(asked.session, asked.hospitals, node, own, memory, until=until)
        return Message(Halves(asked.session, halves).to_content(), reply_to=message)
    brought = Halves.from_content(message.content)
    own = enrolled(node, brought.manifest)
    memory = PairMemory(node.masked_sets(), node.pairs(brought.session), own.name)
    keep_halves(brought.session, brought.halves, own, memory)
    return Message(RecordDict(), reply_to=message)


def paired_memory(node: Node, session: str) -> PairMemory | None:
    """Return a hospital's seeds in a session; ``None`` where updates have no masks.

    Raises
    ------
    ProtocolError
        See `require_unmasked`.
    """
    if not node.resistant:
        require_unmasked(node.masked_sets())
        return None
    return PairMemory(node.masked_sets(), node.pairs(session), own_identity(node).public.name)


def require_unmasked(sets: Store) -> None:
    """Refuse updates without masks of a hospital that has masked updates.

    One update without masks shows what the others of the set have hidden behind it.

    Raises
    ------
    ProtocolError
        If the hospital has a set for which it masks.
    """
    if not sets.is_new():
        raise ProtocolError(
            "collusion='resistant' must stay in the node configuration of a hospital that has "
            "masked its updates: set it, or let its operator delete the file of the set "
            "(docs/deployment.md says whom that exposes)"
        )


def own_identity(node: Node) -> Identity:
    """Return a node's identity; a simulated one makes it."""
    if node.enrolment is not None:
        return node.enrolment.identity

    def make() -> Identity:
        return Identity.generate(node.name.replace(" ", "-"), node.role.value)

    def load(*_: object) -> Identity:
        raise ProtocolError("a node with pairwise masks must be given a manifest (federation)")

    return node.private_key(OwnKey("pair-identity", make, Identity.from_json, load))


def enrolled(node: Node, manifest: str) -> Enrolment:
    """Return manifest and identity; those of a simulation are for study.

    Parameters
    ----------
    node : Node
    manifest : str
        JSON of the manifest that simulated nodes share.
    """
    if node.enrolment is not None:
        return node.enrolment
    own = own_identity(node)
    shared = Manifest.from_json(manifest)
    shared.require(own.public)
    return Enrolment(shared, own)


def sealed_halves(
    session: str,
    hospitals: tuple[str, ...],
    node: Node,
    own: Enrolment,
    memory: PairMemory,
    *,
    until: int = 0,
) -> dict[str, bytes]:
    """Return a hospital's halves of seeds, each sealed to the other hospital of its pair.

    Parameters
    ----------
    session : str
        Checked by the caller.
    hospitals : tuple of str
        Names of the set, this hospital's too.
    node : Node
    own : Enrolment
        The node's.
    memory : PairMemory
        The node's, of the session.
    until : int
        See `PairMemory.begin`.

    Raises
    ------
    ProtocolError
        If it is a set for which the hospital does not mask.
    """
    digests = _digests(hospitals, own)
    least = max(FEWEST_MASKING, node.masked_set or len(own.manifest.hospitals))
    if not least <= len(digests) <= MOST_MASKING or own.name not in digests:
        raise ProtocolError(
            f"a hospital must mask for a set of {least} to {MOST_MASKING} hospitals with this "
            f"one, got {len(digests)}: masked-set in the node configuration is the fewest, by "
            "default all of the manifest"
        )
    binding = _binding(session, digests)
    return {
        name: seal(half, own.identity, own.manifest.node(name), binding)
        for name, half in memory.begin(digests, until).items()
    }


def keep_halves(
    session: str, halves: Mapping[str, bytes], own: Enrolment, memory: PairMemory
) -> None:
    """Keep the halves that the others of a set have sealed for this hospital; see `sealed_halves`.

    Raises
    ------
    ProtocolError, CryptoError
        If an envelope is another one, or as `PairMemory.keep` refuses.
    """
    binding = _binding(session, _digests((*halves, own.name), own))
    opened = {
        name: unseal(envelope, own.identity, own.manifest.node(name), binding)
        for name, envelope in halves.items()
    }
    memory.keep(opened)


def _digests(names: tuple[str, ...], enrolment: Enrolment) -> dict[str, bytes]:
    """Return the hospitals of a set, each with the digest of its identity.

    Raises
    ------
    ProtocolError
        If one is named twice or is no hospital of the manifest.
    """
    known = {hospital.name: hospital.digest for hospital in enrolment.manifest.hospitals}
    if len(set(names)) < len(names) or not known.keys() >= set(names):
        raise ProtocolError("a set to mask for must be of different hospitals of the manifest")
    return {name: known[name] for name in names}


def _binding(session: str, digests: dict[str, bytes]) -> Binding:
    return Binding(f"{session}:{set_digest(digests).hex()}", _PURPOSE, 0, 0, ())
