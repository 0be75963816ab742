"""The value key, sealed by company X to each hospital; see `fl_he.crypto.tickets.tags`."""

from __future__ import annotations

from fl_he.clients.node.enrolment import Enrolment
from fl_he.crypto.encoding.streams import KEY_BYTES
from fl_he.crypto.envelopes.sealing import Binding, seal, unseal
from fl_he.wire.records import ProtocolError


def seal_value_key(value_key: bytes, fingerprint: str, enrolment: Enrolment) -> dict[str, bytes]:
    """Return company X's envelopes by the names of the manifest's hospitals.

    Parameters
    ----------
    value_key : bytes
    fingerprint : str
        Of the public key that the value key goes with.
    enrolment : Enrolment
        Company X's.
    """
    return {
        hospital.name: seal(value_key, enrolment.identity, hospital, _binding(fingerprint))
        for hospital in enrolment.manifest.hospitals
    }


def unseal_value_key(envelope: bytes | None, fingerprint: str, enrolment: Enrolment) -> bytes:
    """Return the value key that company X has sealed for this hospital.

    Raises
    ------
    ProtocolError
        If the message brings none.
    CryptoError
        If company X has not sealed it for this hospital and this public key.
    """
    if envelope is None:
        raise ProtocolError("a hospital with a manifest must be given company X's value key")
    company_x = enrolment.manifest.key_holder
    value_key = unseal(envelope, enrolment.identity, company_x, _binding(fingerprint))
    if len(value_key) != KEY_BYTES:
        raise ProtocolError(f"a value key must have {KEY_BYTES} bytes, got {len(value_key)}")
    return value_key


def _binding(fingerprint: str) -> Binding:
    return Binding(fingerprint, "value-key", 0, 0, ())
