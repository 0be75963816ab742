"""Contents and bindings of a sealed chain's envelopes, and the totals that a node believes.

Only hospitals and company X see the bytes in envelopes. They come from a node of the manifest, and
are checked all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from fl_he.clients.node.enrolment import Enrolment
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.envelopes.sealing import Binding, unseal
from fl_he.crypto.errors import CryptoError
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import SealedTotal
from fl_he.wire.totals import SignedTotal, Total, labelled_fields, text_of

_RUNNING_SUM = b"fl-he running sum 1"
_NUMBER_BYTES = 8
_DIGEST_BYTES = 32


def session_binding(session: str) -> Binding:
    """Return what company X's statement of a session is bound to."""
    return Binding(session, "session", 0, 0, ())


def running_sum_binding(session: str, round_: int, contributors: Sequence[str]) -> Binding:
    """Return what a running sum is bound to; its place in the chain is how many are in it."""
    return Binding(session, "running-sum", round_, len(contributors), tuple(contributors))


def total_binding(session: str, round_: int, contributors: Sequence[str]) -> Binding:
    """Return what a sealed total is bound to."""
    return Binding(session, "total", round_, len(contributors), tuple(contributors))


@dataclass(frozen=True, slots=True)
class RunningSum:
    """Running sum that hospitals hand on, and that company X gets at the end.

    Attributes
    ----------
    after : int
        The round whose total the contributors' model includes last, 0 for the initial model.
    terms : bytes of length 32
        Digest of the initial model and the train config, which all contributors must share.
    layout : str
        JSON of what the slots hold.
    vector : bytes
        The encrypted vector with the contributors' tickets; see `TicketedSum`.
    """

    after: int
    terms: bytes
    layout: str
    vector: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the payload."""
        return encode_fields(
            _RUNNING_SUM,
            self.after.to_bytes(_NUMBER_BYTES, "big"),
            self.terms,
            self.layout.encode(),
            self.vector,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> RunningSum:
        """Read a payload; raises CryptoError if it is none."""
        after, terms, layout, vector = labelled_fields(data, _RUNNING_SUM, 4, "a running sum")
        if len(after) != _NUMBER_BYTES or len(terms) != _DIGEST_BYTES:
            raise CryptoError("a running sum must have a round and terms of their lengths")
        return cls(int.from_bytes(after, "big"), terms, text_of(layout), vector)


def unseal_sum(
    envelope: bytes, session: str, round_: int, contributors: Sequence[str], enrolment: Enrolment
) -> RunningSum:
    """Open a running sum of hospitals, the last of whom must have sealed it for this node."""
    hospitals = {node.name for node in enrolment.manifest.hospitals}
    if strangers := sorted(set(contributors) - hospitals):
        raise ProtocolError(f"contributors must be hospitals of the manifest, got {strangers}")
    sender = enrolment.manifest.node(contributors[-1])
    binding = running_sum_binding(session, round_, contributors)
    return RunningSum.from_bytes(unseal(envelope, enrolment.identity, sender, binding))


@dataclass(frozen=True, slots=True)
class Link:
    """A total of which a node knows that company X has told it.

    Attributes
    ----------
    number : int
        The total's round in a sealed chain; in the open its place among all totals.
    contributors : tuple of str
        Empty in the open, where nobody signs who they are.
    purpose : Purpose or None
        What the total is of; ``None``: of what was due.
    terms : bytes or None
        Digest of the terms that all totals have in common, where the total says it.
    digest : bytes of length 32
        By which the next total names this one.
    total : Total
    """

    number: int
    contributors: tuple[str, ...]
    purpose: Purpose | None
    terms: bytes | None
    digest: bytes
    total: Total


def unseal_total(total: SealedTotal, session: str, enrolment: Enrolment) -> Link:
    """Open a total that company X has sealed for this node."""
    binding = total_binding(session, total.round, total.contributors)
    payload = unseal(total.envelope, enrolment.identity, enrolment.manifest.key_holder, binding)
    opened, digest = Total.from_bytes(payload), sha256(payload).digest()
    return Link(total.round, total.contributors, None, None, digest, opened)


def verified_total(data: bytes, session: str, enrolment: Enrolment | None) -> SignedTotal:
    """Read a total in the open; a node with a manifest has company X's signature checked.

    Raises
    ------
    CryptoError
        If it is none, or is not signed by company X, or for another session.
    """
    signed = SignedTotal.from_bytes(data)
    if enrolment is None:
        return signed
    company_x = enrolment.manifest.key_holder
    if not company_x.verifies(signed.signature, signed.statement):
        raise CryptoError(f"the total is not as {company_x.name} signed it")
    if signed.opening.session != session:
        raise CryptoError("the total belongs to another session")
    return signed


def link_of(signed: SignedTotal) -> Link:
    """Return a total in the open as a node applies it."""
    opening = signed.opening
    return Link(opening.number, (), opening.purpose, opening.terms, signed.digest, signed.total)
