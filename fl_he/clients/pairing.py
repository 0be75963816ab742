"""Pairwise masks at a hospital: the exchange of seeds, as a part of a node's app.

With ``collusion="resistant"`` a hospital answers for a set of hospitals alone, and masks each of
its updates by streams that it shares with each other hospital of the set: see
`fl_he.crypto.tickets.pairs`. The coordinator carries the seeds, sealed from hospital to hospital. A
hospital never sends an update without its masks: no message of the coordinator changes that.

A simulated node has no manifest. It makes an identity for the study of masks, and believes the
manifest that the coordinator makes of all nodes' identities.
"""

from __future__ import annotations

from flwr.app import Message, RecordDict

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node, OwnKey
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.node.run_key_check import signed_key
from fl_he.clients.pair_memory import PairMemory
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
        return Message(_sealed_halves(asked, node).to_content(), reply_to=message)
    _keep(Halves.from_content(message.content), node)
    return Message(RecordDict(), reply_to=message)


def paired_memory(node: Node, session: str) -> PairMemory | None:
    """Return a hospital's seeds in a session; ``None`` where updates have no masks.

    Raises
    ------
    ProtocolError
        If the hospital has masked updates, and is not to do so any more: one update without masks
        shows what the others of the set have hidden behind it.
    """
    if not node.resistant:
        if not node.masked_sets().is_new():
            raise ProtocolError(
                "collusion='resistant' must stay in the node configuration of a hospital that has "
                "masked its updates: set it, or let its operator delete the file of the set "
                "(docs/deployment.md says whom that exposes)"
            )
        return None
    name = own_identity(node).public.name
    return PairMemory(node.masked_sets(), node.pairs(session), name)


def own_identity(node: Node) -> Identity:
    """Return a node's identity; a simulated one makes it."""
    if node.enrolment is not None:
        return node.enrolment.identity

    def make() -> Identity:
        return Identity.generate(node.name.replace(" ", "-"), node.role.value)

    def load(*_: object) -> Identity:
        raise ProtocolError("a node with pairwise masks must be given a manifest (federation)")

    return node.private_key(OwnKey("pair-identity", make, Identity.from_json, load))


def _enrolled(node: Node, manifest: str) -> Enrolment:
    """Return manifest and identity; those of a simulation are for study."""
    if node.enrolment is not None:
        return node.enrolment
    own = own_identity(node)
    shared = Manifest.from_json(manifest)
    shared.require(own.public)
    return Enrolment(shared, own)


def _sealed_halves(asked: SeedsRequest, node: Node) -> Halves:
    enrolment = _enrolled(node, asked.manifest)
    if node.enrolment is not None:
        signed_key(asked.run_key, asked.session, node, node.enrolment)
    digests = _digests(asked.hospitals, enrolment)
    least = max(FEWEST_MASKING, node.masked_set or len(enrolment.manifest.hospitals))
    if not least <= len(digests) <= MOST_MASKING or enrolment.name not in digests:
        raise ProtocolError(
            f"updates must be masked for a set of {least} to {MOST_MASKING} hospitals with this "
            f"one, got {len(digests)}: masked-set in the node configuration is the fewest, by "
            "default all of the manifest"
        )
    memory = PairMemory(node.masked_sets(), node.pairs(asked.session), enrolment.name)
    binding = _binding(asked.session, digests)
    sealed = {
        name: seal(half, enrolment.identity, enrolment.manifest.node(name), binding)
        for name, half in memory.begin(digests).items()
    }
    return Halves(asked.session, sealed)


def _keep(brought: Halves, node: Node) -> None:
    enrolment = _enrolled(node, brought.manifest)
    binding = _binding(brought.session, _digests((*brought.halves, enrolment.name), enrolment))
    halves = {
        name: unseal(envelope, enrolment.identity, enrolment.manifest.node(name), binding)
        for name, envelope in brought.halves.items()
    }
    PairMemory(node.masked_sets(), node.pairs(brought.session), enrolment.name).keep(halves)


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
