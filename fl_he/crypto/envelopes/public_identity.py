"""Public identity of a node: its name, its role and its public keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import (
    Form,
    Key,
    Place,
    choice,
    constant,
    derived,
    form_of,
    limited,
    matching,
    scalar,
)
from fl_he.crypto.encoding.strict_json import Document, Documented, base64url
from fl_he.crypto.envelopes.curve25519 import KEY_BYTES, check_ed25519
from fl_he.crypto.envelopes.sealing_key import PUBLIC_BYTES, check_sealing_key
from fl_he.crypto.errors import CryptoError

ROLE = choice("hospital", "key-holder")

# Names stand in file names, logs and manifests that people compare by eye.
NAME = limited(
    scalar(str),
    matching(
        "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "be 1 to 64 ASCII letters, digits and . _ -, starting with a letter or a digit",
        shown=True,
    ),
)

FORMAT = "fl-he public identity 1"


def check_name(name: object) -> None:
    """Raise CryptoError unless the object is a node's name."""
    NAME.read(name, Place("a node's name"))


@dataclass(frozen=True, slots=True, repr=False)
class PublicIdentity(Documented):
    """A node's public entry.

    Parameters
    ----------
    name : str
        See `check_name`.
    role : str
        ``"hospital"`` or ``"key-holder"``.
    signing_key : bytes of length 32
        Ed25519 public key (RFC 8032).
    sealing_key : bytes of length 1216
        Public key for envelopes; see `sealing_key`.

    Raises
    ------
    CryptoError
        If one of them cannot be what it should be.
    """

    name: str
    role: Annotated[str, ROLE]
    signing_key: Annotated[bytes, Key("signing"), base64url(KEY_BYTES)]
    sealing_key: Annotated[bytes, Key("sealing"), base64url(PUBLIC_BYTES)]

    def __post_init__(self) -> None:
        check_name(self.name)
        ROLE.read(self.role, Place("role"))
        if len(self.signing_key) != KEY_BYTES:
            raise CryptoError(
                f"a signing key must have {KEY_BYTES} bytes, got {len(self.signing_key)}"
            )
        check_ed25519(self.signing_key, "a signing key")
        check_sealing_key(self.sealing_key)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole entry."""
        return hashlib.sha256(
            encode_fields(
                FORMAT.encode(),
                self.name.encode(),
                self.role.encode(),
                self.signing_key,
                self.sealing_key,
            )
        ).digest()

    @property
    def fingerprint(self) -> str:
        """The digest as 64 hexadecimal digits."""
        return self.digest.hex()

    def verifies(self, signature: bytes, statement: bytes) -> bool:
        """Tell whether the signature is this node's over the statement."""
        try:
            Ed25519PublicKey.from_public_bytes(self.signing_key).verify(signature, statement)
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return f"PublicIdentity({self.name}, {self.role}, {self.fingerprint[:16]})"


FORM = Form(
    {
        "format": constant(FORMAT),
        **form_of(PublicIdentity).members,
        "fingerprint": derived("fingerprint"),
    },
    PublicIdentity,
)
# an entry has about 1,950 characters
PublicIdentity.DOCUMENT = Document("public identity", FORM.members, limit=4096)
