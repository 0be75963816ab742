"""A node's own identity: the private halves of its signing and its sealing key."""

from __future__ import annotations

import secrets
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.utils import Buffer

from fl_he.crypto.encoding.fields import constant, derived, scalar
from fl_he.crypto.encoding.strict_json import Document, base64url
from fl_he.crypto.envelopes.curve25519 import KEY_BYTES
from fl_he.crypto.envelopes.public_identity import ROLE, PublicIdentity
from fl_he.crypto.envelopes.sealing_key import SEED_BYTES, SealingKey
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.key_files import Secret


class Identity(Secret):
    """A node's name, role and private keys.

    The keys are in no repr, exception or pickle, and it refuses to be copied.

    Parameters
    ----------
    name : str
        See `public_identity.check_name`.
    role : str
        ``"hospital"`` or ``"key-holder"``.
    signing_seed : bytes of length 32
        Ed25519 private key (RFC 8032).
    sealing_seed : bytes of length 32
        Private sealing key; see `SealingKey`.

    Attributes
    ----------
    public : PublicIdentity
        What the other nodes may know.

    Raises
    ------
    CryptoError
        If one of them cannot be what it should be.
    """

    __slots__ = ("__sealing", "__signing", "public")
    KIND: ClassVar[str] = "identity"
    DOCUMENT: ClassVar[Document] = Document(
        "private identity",
        {
            "format": constant("fl-he private identity 1"),
            "name": scalar(str),
            "role": ROLE,
            "signing": base64url(KEY_BYTES),
            "sealing": base64url(SEED_BYTES),
            # Any 32 bytes are a private key; only this shows that they are still the right ones.
            "fingerprint": derived("public.fingerprint"),
        },
        limit=4096,  # an identity has about 350 characters
    )

    def __init__(self, name: str, role: str, signing_seed: bytes, sealing_seed: bytes) -> None:
        if len(signing_seed) != KEY_BYTES:
            raise CryptoError(f"a signing key must have {KEY_BYTES} bytes, got {len(signing_seed)}")
        self.__signing = Ed25519PrivateKey.from_private_bytes(signing_seed)
        self.__sealing = SealingKey(sealing_seed)
        self.public = PublicIdentity(
            name,
            role,
            self.__signing.public_key().public_bytes_raw(),
            self.__sealing.public_bytes,
        )

    @classmethod
    def generate(cls, name: str, role: str) -> Identity:
        """Make new keys for a node.

        Raises
        ------
        CryptoError
            If the name or the role is refused.
        """
        return cls(name, role, secrets.token_bytes(KEY_BYTES), secrets.token_bytes(SEED_BYTES))

    def sign(self, statement: bytes) -> bytes:
        """Return this node's Ed25519 signature, 64 bytes, over a statement."""
        return self.__signing.sign(statement)

    def open(self, ciphertext: Buffer, info: bytes) -> bytes:
        """Decrypt what was encrypted to this node; see `SealingKey.open`."""
        return self.__sealing.open(ciphertext, info)

    def to_json(self) -> str:
        """Return the identity as one line of JSON; the text is secret."""
        return self.DOCUMENT.dumps(
            self,
            name=self.public.name,
            role=self.public.role,
            signing=self.__signing.private_bytes_raw(),
            sealing=self.__sealing.secret_seed(),
        )

    @classmethod
    def from_json(cls, text: str) -> Identity:
        """Read what `to_json` wrote; see `Secret.from_json`."""
        return cls.DOCUMENT.loads(text, cls)

    def __repr__(self) -> str:
        public = self.public
        return f"Identity({public.name}, {public.role}, {public.fingerprint[:16]})"
