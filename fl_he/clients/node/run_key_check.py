"""The check of company X's key of a session, on a hospital with a manifest."""

from __future__ import annotations

from time import time

from flwr.app import Message

from fl_he.clients.node.counters import Counters
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.wire.encrypted_sum import EncryptionRequest
from fl_he.wire.planned_messages import TO_COMPANY_X
from fl_he.wire.records import RECORD, ProtocolError
from fl_he.wire.run_key import LONGEST, MOST_DAYS, RunKey
from fl_he.wire.sealed_messages import Hop, is_sealed


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
        If it is another key, or as `signed_key` refuses.
    """
    key = signed_key(signed, session, node, enrolment)
    if key.fingerprint != fingerprint:
        raise ProtocolError(
            f"the public key must be the one that {enrolment.manifest.key_holder.name} signed, "
            f"{key.fingerprint}, got {fingerprint}"
        )
    node.begun = True


def require_session(message: Message, node: Node) -> None:
    """Refuse a sum of a session that company X has not begun, before anything of it is noted.

    Without a manifest nobody signs sessions: a session has begun if a sum is asked for.

    Raises
    ------
    ProtocolError, CryptoError
        On a hospital as `signed_key` refuses; on company X as :meth:`RunKeys.find` does.
    """
    content, action = message.content, message.metadata.message_type
    if node.run_keys is not None:
        if action in TO_COMPANY_X:
            node.run_keys.find(node.session)
    elif RECORD in content:
        if node.enrolment is not None:
            kind = Hop if is_sealed(action, content) else EncryptionRequest
            signed_key(kind.from_content(content).run_key, node.session, node, node.enrolment)
        node.begun = True


def signed_key(signed: bytes | None, session: str, node: Node, enrolment: Enrolment) -> RunKey:
    """Return a session's key as company X has signed it.

    Raises
    ------
    ProtocolError, CryptoError
        If the statement is of another session, altered, over by this node's clock or not within a
        year, or older than other statements of company X; see `Counters`.
    """
    company_x = enrolment.manifest.key_holder
    if signed is None:
        raise ProtocolError(
            "a hospital with a manifest must be given company X's signed statement of its key: "
            "company X and the coordinator must run this release, and company X the manifest"
        )
    key = RunKey.from_bytes(signed)
    if not company_x.verifies(key.signature, key.statement):
        raise ProtocolError(f"the key of the run is not as {company_x.name} signed it")
    if key.session != session:
        raise ProtocolError("the key of the run is not of the message's session")
    if key.expires <= time():
        raise ProtocolError(
            "the key of a run must not be over, and this one is (key-days of company X, by this "
            "node's clock): begin a new run"
        )
    if key.expires > time() + LONGEST:
        raise ProtocolError(
            f"the key of a run must be over within {MOST_DAYS} days, and this one is not, by this "
            "node's clock: company X must set key-days lower"
        )
    Counters.of(node, enrolment).hear_key(key)
    return key
