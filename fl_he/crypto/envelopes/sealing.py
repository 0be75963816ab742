"""Sealed envelopes from one node to another, through a coordinator that must not read them.

An envelope is, in this order:

=================  ==============================================================================
``b"FLSE"``        magic bytes
1 byte             version, 1
4 bytes            length of the context, big-endian
8 bytes            length of the payload, big-endian
context            `encode_fields` of ``b"fl-he envelope 1"``, the digests of the sender's and the
                   recipient's public identities, and the binding's bytes
payload + 1136     HPKE's encapsulated key and ciphertext, with the context as ``info``
64 bytes           the sender's Ed25519 signature over `encode_fields` of
                   ``b"fl-he envelope signature 1"``, the context, and SHA-512 of the HPKE part
=================  ==============================================================================

HPKE's base mode says nothing about who encrypted, and does not stop a replay (RFC 9180, sections
5.1.1, 9.1 and 9.7.3). The signature says who, and the context says for what. The recipient
compares the context with what it expects at this point of the run, so an envelope of another run,
round, position, purpose, sender or recipient is refused. What is left to the caller is the very
same envelope twice: a node must not act twice on one binding.

The order is encrypt, then sign. Both parties' digests are in both layers, and that is what counts:

- under the signature, the recipient cannot pass a sender's words on as meant for somebody else
  ("surreptitious forwarding", Davis, draft-ietf-smime-sender-auth-00), nor can an envelope be
  addressed anew;
- in the encryption, nobody can take the signature off, put the own one on and pass for the author
  of what they cannot read.

Both orders are then secure (An, Dodis and Rabin, "On the Security of Joint Signature and
Encryption", EUROCRYPT 2002). This one refuses a forged envelope before the private sealing key
touches it, and tells it from one that cannot be opened. The context travels in clear for the sake
of the messages: the coordinator, who routes, knows it anyway. It is compared, never believed.

Recorded envelopes stay closed to a later quantum computer, but not to who steals the recipient's
sealing key (RFC 9180, section 9.7.4). Ed25519 has to hold only until the envelope is opened. The
length of the payload shows (section 9.7.6).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, fields
from typing import Annotated

from cryptography.utils import Buffer

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.encoding.fields import between, check_fields, matching
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.public_identity import PublicIdentity, check_name
from fl_he.crypto.envelopes.sealing_key import HPKE_OVERHEAD, encrypt_to
from fl_he.crypto.errors import CryptoError

_HEADER = struct.Struct(">4sBIQ")  # magic, version, bytes of the context, bytes of the payload
_MAGIC = b"FLSE"
_VERSION = 1
_SIGNATURE_BYTES = 64
_CONTEXT_LABEL = b"fl-he envelope 1"
_SIGNATURE_LABEL = b"fl-he envelope signature 1"
_CONTEXT_LIMIT = 2**19  # bytes; the largest binding has less
_CONTEXT_FIELDS = 4

_NUMBER_BYTES = 8
_MAXIMUM_CONTRIBUTORS = 4096
_LEADING_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Binding:
    """Place of an envelope in a run; the sender signs it.

    Parameters
    ----------
    run : str
        The run's identifier, unlike that of any other run: 1 to 128 visible ASCII characters.
    purpose : str
        What is inside, such as ``"running-sum"``: lower-case letters, digits and hyphens.
    round : int
        In ``[0, 2**64)``.
    position : int
        Position in the chain, in ``[0, 2**64)``.
    contributors : tuple of str
        Names of the hospitals whose updates are inside, in their order, each once.

    Raises
    ------
    CryptoError
        If one of them is refused.
    """

    run: Annotated[
        str, matching("[!-~]{1,128}", "be 1 to 128 visible ASCII characters", shown=True)
    ]
    purpose: Annotated[
        str,
        matching("[a-z][a-z0-9-]{0,63}", "be lower-case letters, digits and hyphens", shown=True),
    ]
    round: Annotated[int, between(0, 2 ** (8 * _NUMBER_BYTES) - 1)]
    position: Annotated[int, between(0, 2 ** (8 * _NUMBER_BYTES) - 1)]
    contributors: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        count = len(self.contributors)
        if count > _MAXIMUM_CONTRIBUTORS:
            raise CryptoError(
                f"contributors must be at most {_MAXIMUM_CONTRIBUTORS} names, got {count}"
            )
        for contributor in self.contributors:
            check_name(contributor)
        if len(set(self.contributors)) != count:
            raise CryptoError(f"contributors must be different, got {list(self.contributors)}")

    def to_bytes(self) -> bytes:
        """Return the fields with their lengths in front; see `encode_fields`.

        In this order: run, purpose, round and position as big-endian numbers of 8 bytes, then
        every contributor.
        """
        numbers = (number.to_bytes(_NUMBER_BYTES, "big") for number in (self.round, self.position))
        names = (name.encode() for name in self.contributors)
        return encode_fields(self.run.encode(), self.purpose.encode(), *numbers, *names)

    @classmethod
    def from_bytes(cls, data: bytes) -> Binding:
        """Read what `to_bytes` wrote.

        Raises
        ------
        CryptoError
            If the data are no binding.
        """
        found = decode_fields(data, "a binding", _LEADING_FIELDS + _MAXIMUM_CONTRIBUTORS)
        if len(found) < _LEADING_FIELDS or any(len(f) != _NUMBER_BYTES for f in found[2:4]):
            raise CryptoError("a binding must have a run, a purpose, a round and a position")
        run, purpose, *names = (
            field.decode("ascii", "replace") for field in (*found[:2], *found[_LEADING_FIELDS:])
        )
        number, position = (int.from_bytes(field, "big") for field in found[2:4])
        return cls(run, purpose, number, position, tuple(names))

    def require(self, found: Binding) -> None:
        """Raise CryptoError unless the found binding is this one; it names the difference."""
        for field in fields(self):
            expected, got = getattr(self, field.name), getattr(found, field.name)
            if got != expected:
                raise CryptoError(f"the envelope's {field.name} must be {expected!r}, got {got!r}")


def seal(payload: bytes, sender: Identity, recipient: PublicIdentity, binding: Binding) -> bytes:
    """Seal a payload for one recipient.

    Parameters
    ----------
    payload : bytes
        What only the recipient may read. Its length shows.
    sender : Identity
        This node.
    recipient : PublicIdentity
        Whom it is for, from the federation manifest.
    binding : Binding
        What it is for.

    Returns
    -------
    bytes
        The envelope.
    """
    context = _context(sender.public, recipient, binding)
    ciphertext = encrypt_to(recipient.sealing_key, payload, context)
    signature = sender.sign(_statement(context, ciphertext))
    header = _HEADER.pack(_MAGIC, _VERSION, len(context), len(payload))
    return b"".join((header, context, ciphertext, signature))


def unseal(envelope: bytes, recipient: Identity, sender: PublicIdentity, binding: Binding) -> bytes:
    """Open an envelope.

    Parameters
    ----------
    envelope : bytes
        What `seal` returned, or what the coordinator made of it.
    recipient : Identity
        This node.
    sender : PublicIdentity
        Who must have sealed it, from the federation manifest.
    binding : Binding
        What it must be for.

    Returns
    -------
    bytes
        The payload.

    Raises
    ------
    CryptoError
        If it is no envelope, its length is not the one that it says, it is from another sender, it
        is altered, it is for another recipient or another purpose, or it cannot be opened. The
        checks come in this order.
    """
    context, ciphertext, signature = _parts(envelope)
    found = decode_fields(context, "the envelope's context", _CONTEXT_FIELDS)
    if len(found) != _CONTEXT_FIELDS or found[0] != _CONTEXT_LABEL:
        raise CryptoError(
            f"the envelope's context must be {_CONTEXT_FIELDS} fields, the first of them "
            f"{_CONTEXT_LABEL!r}"
        )
    _, claimed_sender, claimed_recipient, claimed_binding = found
    if claimed_sender != sender.digest:
        raise CryptoError(
            f"the envelope must be from {sender.name} ({sender.fingerprint[:16]}), "
            f"not from {claimed_sender[:8].hex()}"
        )
    if not sender.verifies(signature, _statement(context, ciphertext)):
        raise CryptoError(f"the envelope is not as {sender.name} signed it: altered or forged")
    public = recipient.public
    if claimed_recipient != public.digest:
        raise CryptoError(
            f"the envelope must be for {public.name} ({public.fingerprint[:16]}), "
            f"not for {claimed_recipient[:8].hex()}"
        )
    binding.require(Binding.from_bytes(claimed_binding))
    # By now this is the context that was sent; HPKE gets the one that was expected all the same.
    return recipient.open(ciphertext, _context(sender, public, binding))


def _parts(envelope: bytes) -> tuple[bytes, memoryview, bytes]:
    """Cut an envelope into context, HPKE part and signature; the HPKE part is not copied."""
    if len(envelope) < _HEADER.size:
        raise CryptoError(
            f"an envelope must have at least {_HEADER.size} bytes, got {len(envelope)}"
        )
    magic, version, context_bytes, payload_bytes = _HEADER.unpack_from(envelope)
    if magic != _MAGIC:
        raise CryptoError(f"an envelope must start with {_MAGIC!r}, got {magic!r}")
    if version != _VERSION:
        raise CryptoError(f"the envelope's version must be {_VERSION}, got {version}")
    if context_bytes > _CONTEXT_LIMIT:
        raise CryptoError(
            f"the envelope's context must have at most {_CONTEXT_LIMIT} bytes, got {context_bytes}"
        )
    start = _HEADER.size + context_bytes
    end = start + payload_bytes + HPKE_OVERHEAD
    if len(envelope) != end + _SIGNATURE_BYTES:
        raise CryptoError(
            f"the envelope must have {end + _SIGNATURE_BYTES} bytes, got {len(envelope)}"
        )
    return envelope[_HEADER.size : start], memoryview(envelope)[start:end], envelope[end:]


def _context(sender: PublicIdentity, recipient: PublicIdentity, binding: Binding) -> bytes:
    return encode_fields(_CONTEXT_LABEL, sender.digest, recipient.digest, binding.to_bytes())


def _statement(context: bytes, ciphertext: Buffer) -> bytes:
    """Return what is signed; a digest, as Ed25519 would read a long message twice."""
    return encode_fields(_SIGNATURE_LABEL, context, hashlib.sha512(ciphertext).digest())
