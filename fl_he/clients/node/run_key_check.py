"""The check of company X's key of a session, on a hospital with a manifest."""

from __future__ import annotations

from time import time

from fl_he.clients.node.counters import Counters
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey


def require_run_key(
    signed: bytes | None, fingerprint: str, session: str, node: Node, enrolment: Enrolment
) -> None:
    """Refuse a key unless company X's identity has signed it for the session, and it holds.

    Parameters
    ----------
    signed : bytes or None
        Of the message; see `RunKey.to_bytes`.
    fingerprint : str
        Of the public key that came with it.
    session : str
        As the message names it.
    node : Node
    enrolment : Enrolment
        The node's.

    Raises
    ------
    ProtocolError, CryptoError
        If it is another key, of another session, altered, over by this node's clock, or older than
        what company X has signed before; see `Counters`.
    """
    company_x = enrolment.manifest.key_holder
    if signed is None:
        raise ProtocolError(
            "a hospital with a manifest must be given company X's signed statement of its key: "
            "company X and the coordinator must run this release, and company X the manifest"
        )
    key = RunKey.from_bytes(signed)
    if not company_x.verifies(key.signature, key.statement):
        raise ProtocolError(
            f"the key of a run must be as {company_x.name} signed it, got an altered one"
        )
    if key.session != session:
        raise ProtocolError("the key of a run must be of the message's session, got another's")
    if key.fingerprint != fingerprint:
        raise ProtocolError(
            f"the public key must be the one that {company_x.name} signed, {key.fingerprint}, "
            f"got {fingerprint}"
        )
    if key.expires <= time():
        raise ProtocolError(
            "the key of a run must not be over, and this one is (key-days of company X, by this "
            "node's clock): begin a new run"
        )
    Counters.of(node, enrolment).hear_key(key)
