"""Keys that sealed envelopes are encrypted to: HPKE with a post-quantum hybrid KEM.

HPKE is RFC 9180, in its base mode and its single-shot form (sections 5.1.1 and 6.1). The KEM is
X-Wing, ML-KEM-768 with X25519, which holds as long as one of the two does
(draft-connolly-cfrg-xwing-kem-10; HPKE's identifier 0x647a in draft-ietf-hpke-pq-05, section 4).
Keys have X-Wing's formats: the private key is a seed of 32 bytes, the public key is ML-KEM's
followed by X25519's, 1216 bytes (X-Wing, sections 5.1 and 5.2).
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.utils import Buffer

from fl_he.crypto.envelopes.curve25519 import check_x25519
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.key_files import Uncopied

SEED_BYTES = 32
PUBLIC_BYTES = 1184 + 32

#: How much longer a ciphertext is than its plaintext: the encapsulated key and the AEAD's tag.
HPKE_OVERHEAD = 1120 + 16

# One suite, not negotiated: there is nothing to downgrade to (RFC 9180, section 9.7.2).
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class SealingKey(Uncopied):
    """A private sealing key. It is in no repr, exception or pickle.

    Parameters
    ----------
    seed : bytes of length 32
        X-Wing's private key.

    Attributes
    ----------
    public_bytes : bytes of length 1216
        The public half.

    Raises
    ------
    CryptoError
        If it has another length.
    """

    __slots__ = ("__key", "__seed", "public_bytes")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise CryptoError(f"a sealing key must have {SEED_BYTES} bytes, got {len(seed)}")
        expanded = hashlib.shake_256(seed).digest(96)  # X-Wing, section 5.2
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self.__seed = seed
        self.__key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_bytes = (
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    def secret_seed(self) -> bytes:
        """Return the private half."""
        return self.__seed

    def open(self, ciphertext: Buffer, info: bytes) -> bytes:
        """Decrypt what `encrypt_to` made with the same `info`.

        Raises
        ------
        CryptoError
            If it was made for another key or with another `info`, or is altered.
        """
        try:
            return _SUITE.decrypt(ciphertext, self.__key, info)
        except InvalidTag:
            raise CryptoError("a ciphertext must be encrypted to this node's sealing key") from None

    def __repr__(self) -> str:
        return "SealingKey(private)"


def encrypt_to(public_bytes: bytes, payload: bytes, info: bytes) -> bytes:
    """Encrypt a payload to a public sealing key.

    Parameters
    ----------
    public_bytes : bytes of length 1216
        The public key.
    payload : bytes
        The plaintext.
    info : bytes
        What the ciphertext is bound to; it is not sent (RFC 9180, section 8.1).

    Returns
    -------
    bytes
        ``HPKE_OVERHEAD`` bytes longer than the payload.

    Raises
    ------
    CryptoError
        If the public key is none.
    """
    return _SUITE.encrypt(payload, check_sealing_key(public_bytes), info)


def check_sealing_key(public_bytes: bytes) -> MLKEM768X25519PublicKey:
    """Return a public sealing key; raises CryptoError unless the bytes are one."""
    if len(public_bytes) != PUBLIC_BYTES:
        raise CryptoError(f"a sealing key must have {PUBLIC_BYTES} bytes, got {len(public_bytes)}")
    check_x25519(public_bytes[1184:], "the X25519 half of a sealing key")
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(public_bytes[:1184])
    except ValueError:  # FIPS 203, section 7.2: coefficients must be below the modulus
        raise CryptoError("the ML-KEM half of a sealing key must be an ML-KEM-768 key") from None
    return MLKEM768X25519PublicKey(mlkem, X25519PublicKey.from_public_bytes(public_bytes[1184:]))
