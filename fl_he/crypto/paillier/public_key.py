"""Paillier public keys with a published base: encrypt, add, rerandomise, check; JSON.

The scheme is Paillier's, "Public-key cryptosystems based on composite degree residuosity
classes", EUROCRYPT '99, with generator n + 1; see `masking` for the published base h_s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field

from gmpy2 import mpz

from fl_he.crypto.encoding.canonical import integers_digest
from fl_he.crypto.encoding.fields import Form, constant, derived
from fl_he.crypto.encoding.strict_json import Document, base64url_integer
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.key_checks import (
    MAXIMUM_KEY_BITS,
    MINIMUM_KEY_BITS,
    check_base,
    check_key_bits,
    check_longest,
    check_modulus,
    check_units,
    units_from_bytes,
    units_to_bytes,
)
from fl_he.crypto.paillier.masking import Masker, masker

#: phe's JSON format, with h_s as a member of our own.
FORM: Form[PublicKey] = Form(
    {
        "kty": constant("DAJ"),
        "alg": constant("PAI-GN1"),
        "key_ops": constant(["encrypt"]),
        "n": base64url_integer(MAXIMUM_KEY_BITS),
        "h_s": base64url_integer(2 * MAXIMUM_KEY_BITS),
        "kid": derived("fingerprint"),
    }
)
# a key of MAXIMUM_KEY_BITS needs about 4,300 characters
_DOCUMENT = Document("public key", FORM.members, limit=8192)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class PublicKey:
    """A Paillier public key with its published base.

    Parameters
    ----------
    n : int
        Modulus.
    h_s : int
        Published base in ``[2, n**2 - 2]``: an n-th power modulo ``n**2``.
    minimum_bits : int
        Shortest accepted modulus. Only tests have a reason to lower it.
    known : str, optional
        Fingerprint of a key whose numbers were checked before. If it is this key's, they are not
        checked again, which takes as long as half an encryption.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of n and h_s as 64 hexadecimal digits.
    n_squared : mpz
        Square of the modulus, as a gmpy2 integer for loops over many ciphertexts.
    masker : Masker
        Encrypts under this key in this process, with the table that it may have.

    Raises
    ------
    CryptoError
        If the numbers cannot be a key, as far as that shows without the private one. That h_s is
        an n-th power does not show; it is up to the fingerprint that the node pins.

    Warns
    -----
    ShortKeyWarning
        Below 2048 bits.
    """

    n: int
    h_s: int
    _: KW_ONLY
    minimum_bits: InitVar[int] = MINIMUM_KEY_BITS
    known: InitVar[str | None] = None
    fingerprint: str = field(init=False)
    n_squared: mpz = field(init=False)
    masker: Masker = field(init=False)

    def __post_init__(self, minimum_bits: int, known: str | None) -> None:
        n, h_s = self.n, self.h_s
        check_key_bits(n.bit_length(), minimum_bits)
        fingerprint = _fingerprint(n, h_s)
        if known is None or known != fingerprint:
            check_modulus(n)
            check_base(h_s, n)
        object.__setattr__(self, "fingerprint", fingerprint)
        object.__setattr__(self, "n_squared", mpz(n) ** 2)
        object.__setattr__(self, "masker", masker(n, h_s))

    @property
    def key_bits(self) -> int:
        """Length of the modulus."""
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """Width of a ciphertext."""
        return -(-2 * self.key_bits // 8)

    def prepare(self, count: int) -> None:
        """Build the table for `count` encryptions to come, if one repays itself.

        Encryption does so by itself once it has done enough; a caller that knows better can be
        earlier.
        """
        self.masker.prepare(count)

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

    def check(self, ciphertexts: Sequence[int]) -> None:
        """Raise CryptoError unless all ciphertexts are in ``[1, n**2)`` and coprime to n."""
        check_units(ciphertexts, self.n, self.n_squared, "ciphertext")

    def to_bytes(self, ciphertexts: Sequence[int]) -> bytes:
        """Return ciphertexts as big-endian bytes of `ciphertext_bytes` each, without a header."""
        return units_to_bytes(ciphertexts, self.ciphertext_bytes)

    def from_bytes(self, data: bytes, count: int) -> list[int]:
        """Read ciphertexts that another node sent.

        Raises
        ------
        CryptoError
            If there are not so many, or one is outside ``[1, n**2)`` or not coprime to n.
        """
        ciphertexts = units_from_bytes(data, count, self.ciphertext_bytes, "ciphertexts")
        self.check(ciphertexts)
        return ciphertexts

    def to_json(self) -> str:
        """Return the key in phe's JSON format, with h_s as a member of our own.

        The format is that of phe's command line (``phe/command_line.py``), which reads it.
        """
        return _DOCUMENT.dumps(self)

    @classmethod
    def from_json(
        cls,
        text: str,
        *,
        minimum_bits: int = MINIMUM_KEY_BITS,
        maximum_bits: int = MAXIMUM_KEY_BITS,
        known: str | None = None,
    ) -> PublicKey:
        """Read a key that another node sent.

        Parameters
        ----------
        text : str
            What `to_json` returns.
        minimum_bits, known
            See the class.
        maximum_bits : int
            Longest modulus that is read: checking the numbers of a long one takes time.

        Raises
        ------
        CryptoError
            If the text is not exactly such a key.
        """

        def build(n: int, h_s: int) -> PublicKey:
            check_longest(n, maximum_bits)
            return cls(n, h_s, minimum_bits=minimum_bits, known=known)

        return _DOCUMENT.loads(text, build)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self.n, self.h_s)

    def __repr__(self) -> str:
        return f"PublicKey({self.key_bits} bits, {self.fingerprint[:16]})"


def _restore(n: int, h_s: int) -> PublicKey:
    """Unpickle a key; its length was accepted when it was made."""
    return PublicKey(n, h_s, minimum_bits=n.bit_length())


def _fingerprint(n: int, h_s: int) -> str:
    """Hash both numbers: whoever could swap h_s for 1 would switch encryption off."""
    return integers_digest(b"fl-he Paillier public key 1\0", n, h_s)
