"""Who a node is to the others: its name, its role and its public keys."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.strict_json import (
    bytes_from_base64url,
    bytes_to_base64url,
    parse_object,
    require_equal,
    require_members,
)
from fl_he.crypto.envelopes.curve25519 import KEY_BYTES, check_ed25519
from fl_he.crypto.envelopes.sealing_key import PUBLIC_BYTES, check_sealing_key, encrypt_to
from fl_he.crypto.errors import CryptoError

ROLES = ("hospital", "key-holder")

# Names stand in file names, logs and manifests that people compare by eye.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

FORMAT = "fl-he public identity 1"
_MEMBERS = ("format", "name", "role", "signing", "sealing", "fingerprint")
_JSON_LIMIT = 4096  # characters; an entry has about 1,950


def check_name(name: object) -> None:
    """Raise CryptoError unless the object is a node's name.

    It must be 1 to 64 ASCII letters, digits, dots, hyphens and underscores, and start with a
    letter or a digit.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(name[:80]) if isinstance(name, str) else type(name).__name__
        raise CryptoError(
            "a node's name must be 1 to 64 ASCII letters, digits and . _ -, starting with a "
            f"letter or a digit, got {shown}"
        )


def check_role(role: object) -> None:
    """Raise CryptoError unless the object is one of `ROLES`."""
    if not isinstance(role, str) or role not in ROLES:
        shown = repr(role[:80]) if isinstance(role, str) else type(role).__name__
        raise CryptoError(f"role must be one of {list(ROLES)}, got {shown}")


@dataclass(frozen=True, slots=True, repr=False)
class PublicIdentity:
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
    role: str
    signing_key: bytes
    sealing_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        check_role(self.role)
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

    def encrypt(self, payload: bytes, info: bytes) -> bytes:
        """Encrypt to this node; see `sealing_key.encrypt_to`."""
        return encrypt_to(self.sealing_key, payload, info)

    def to_json(self) -> str:
        """Return the entry as one line of JSON."""
        return json.dumps(self.to_members(), separators=(",", ":"))

    def to_members(self) -> dict[str, str]:
        """Return the members of `to_json`."""
        return {
            "format": FORMAT,
            "name": self.name,
            "role": self.role,
            "signing": bytes_to_base64url(self.signing_key),
            "sealing": bytes_to_base64url(self.sealing_key),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, text: str) -> PublicIdentity:
        """Read what `to_json` wrote.

        Raises
        ------
        CryptoError
            If the text is not exactly such an entry.
        """
        return cls.from_members(parse_object(text, "public identity", _MEMBERS, _JSON_LIMIT))

    @classmethod
    def from_members(cls, members: dict[str, object]) -> PublicIdentity:
        """Read an entry from its parsed JSON members; see `from_json`."""
        require_members(members, "public identity", _MEMBERS)
        require_equal(members["format"], FORMAT, "format")
        name, role = members["name"], members["role"]
        check_name(name)
        check_role(role)
        identity = cls(
            str(name),
            str(role),
            bytes_from_base64url(members["signing"], "signing", KEY_BYTES),
            bytes_from_base64url(members["sealing"], "sealing", PUBLIC_BYTES),
        )
        require_equal(members["fingerprint"], identity.fingerprint, "fingerprint")
        return identity

    def __repr__(self) -> str:
        return f"PublicIdentity({self.name}, {self.role}, {self.fingerprint[:16]})"
