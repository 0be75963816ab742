"""Paillier public keys with a published base: encrypt, add, rerandomise, check; JSON.

The scheme is Paillier's, "Public-key cryptosystems based on composite degree residuosity
classes", EUROCRYPT '99, with generator n + 1; see `masking` for the published base h_s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from gmpy2 import mpz

from fl_he.crypto.encoding.fields import Form, constant, derived, kind_of, left_out
from fl_he.crypto.encoding.strict_json import Document, base64url, base64url_integer
from fl_he.crypto.envelopes.sealing_key import check_sealing_key, encrypt_to
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.key_checks import (
    MAXIMUM_KEY_BITS,
    PublicNumbers,
    check_base,
    check_modulus,
)
from fl_he.crypto.paillier.key_kind import KeyKind, exponent_bytes, uniform_exponent_bytes
from fl_he.crypto.paillier.masking import Masker, masker, owner_masker

#: The JSON format of phe's command line (``phe/command_line.py``), which reads it, with h_s, the
#: sealing key and the kind as members of our own. A key without a kind is ``djn``.
FORM: Form[PublicKey] = Form(
    {
        "kty": constant("DAJ"),
        "alg": constant("PAI-GN1"),
        "key_ops": constant(["encrypt"]),
        "n": base64url_integer(MAXIMUM_KEY_BITS),
        "h_s": base64url_integer(2 * MAXIMUM_KEY_BITS),
        "sealing": base64url(),
        "key_kind": left_out(kind_of(KeyKind), KeyKind.djn),
        "kid": derived("fingerprint"),
    }
)
_SHORT_LABEL = b"fl-he short Paillier public key 1\0"


@dataclass(frozen=True, slots=True, repr=False)
class PublicKey(PublicNumbers):
    """A Paillier public key with its published base; see `PublicNumbers`.

    Parameters
    ----------
    h_s : int
        Published base in ``[2, n**2 - 2]``: an n-th power modulo ``n**2``. The fingerprint is of
        all numbers: whoever could swap h_s for 1 would switch encryption off.
    sealing : bytes
        Public sealing key of the same owner, for tickets; empty for a key that opens no sums.
    key_kind : KeyKind
        Part of the fingerprint: whoever could change it would change the length of exponents.

    Attributes
    ----------
    n_squared : mpz
        Square of the modulus, as a gmpy2 integer for loops over many ciphertexts.
    masker : Masker
        Encrypts under this key in this process, with the table that it may have.
    owner_masker : Masker
        The same for ciphertexts that the key's owner is to learn nothing from but their plaintexts.

    Examples
    --------
    The product of two ciphertexts is the ciphertext of a sum:

    >>> from fl_he import PrivateKey
    >>> key = PrivateKey.generate(2048)
    >>> first, second = key.public_key.encrypt([20, 22])
    >>> key.decrypt([key.public_key.add(first, second)])
    [42]
    """

    # a key of MAXIMUM_KEY_BITS needs about 6,000 characters
    DOCUMENT: ClassVar[Document] = Document("public key", FORM.members, limit=8192)
    LABEL: ClassVar[bytes] = b"fl-he Paillier public key 1\0"
    CIPHERTEXT: ClassVar[str] = "ciphertext"
    POWER: ClassVar[int] = 2

    h_s: int
    sealing: bytes = b""
    key_kind: KeyKind = KeyKind.djn
    n_squared: mpz = field(init=False, compare=False)
    masker: Masker = field(init=False, compare=False)

    def __post_init__(self, minimum_bits: int, known: str | None) -> None:
        PublicNumbers.__post_init__(self, minimum_bits, known)
        object.__setattr__(self, "n_squared", mpz(self.n) ** 2)
        length = exponent_bytes(self.key_kind, self.key_bits)
        object.__setattr__(self, "masker", masker(self.n, self.h_s, length))

    @property
    def label(self) -> bytes:
        """See the base."""
        return self.LABEL if self.key_kind is KeyKind.djn else _SHORT_LABEL

    @property
    def owner_masker(self) -> Masker:
        """See the class."""
        length = uniform_exponent_bytes(self.key_kind, self.key_bits)
        return owner_masker(self.n, self.h_s, length)

    def check_numbers(self) -> None:
        """See the base."""
        check_modulus(self.n)
        check_base(self.h_s, self.n)
        if self.sealing:
            check_sealing_key(self.sealing)

    def seal(self, payload: bytes, info: bytes) -> bytes:
        """Encrypt a payload to the owner's sealing key; see `sealing_key.encrypt_to`.

        Raises
        ------
        CryptoError
            If the key has no sealing half.
        """
        if not self.sealing:
            raise CryptoError("the key must have a sealing half: make it anew with fl-he keygen")
        return encrypt_to(self.sealing, payload, info)

    def encrypt(self, plaintexts: Sequence[int]) -> list[int]:
        """Encrypt signed plaintexts.

        Parameters
        ----------
        plaintexts : sequence of int
            Each at most ``n // 2`` in size.

        Returns
        -------
        list of int
            One ciphertext in ``[1, n**2)`` per plaintext.

        Raises
        ------
        CryptoError
            If a plaintext is too large.
        """
        half = self.n // 2
        for index, plaintext in enumerate(plaintexts):
            if not -half <= plaintext <= half:
                raise CryptoError(f"plaintext {index} must be at most n // 2 in size")
        return self.masker.encrypt(plaintexts)

    def add(self, first: int, second: int) -> int:
        """Return a ciphertext of the sum of two ciphertexts' plaintexts."""
        return int(mpz(first) * second % self.n_squared)

    def rerandomise(self, ciphertexts: Sequence[int]) -> list[int]:
        """Return fresh ciphertexts of the same plaintexts.

        Nobody without the private key can tell which came from which.
        """
        masks = self.masker.encrypt([0] * len(ciphertexts))
        return [
            self.add(ciphertext, mask) for ciphertext, mask in zip(ciphertexts, masks, strict=True)
        ]

    def __reduce__(self) -> tuple[object, ...]:
        # The key's length was accepted when the key was made.
        return partial(PublicKey, minimum_bits=self.n.bit_length()), (
            self.n,
            self.h_s,
            self.sealing,
            self.key_kind,
        )
