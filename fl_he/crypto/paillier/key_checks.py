"""Base of public keys, with checks of their numbers and of ciphertexts.

Whoever makes a key knows how to open what is encrypted under it, so these checks cannot tell a
good key from one of an impostor; that is what pinning a fingerprint is for. They refuse numbers
under which everybody could read, or nobody.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields
from typing import Any, ClassVar, Self

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.encoding.canonical import integers_digest
from fl_he.crypto.encoding.strict_json import Documented
from fl_he.crypto.errors import CryptoError, ShortKeyWarning
from fl_he.errors import kind_in_words

MINIMUM_KEY_BITS = 1024
RECOMMENDED_KEY_BITS = 2048
MAXIMUM_KEY_BITS = 8192

_SMALL_PRIMES = gmpy2.primorial(1000)
_SMALL_ORDERS = functools.reduce(gmpy2.lcm, range(1, 129), mpz(1))


def check_key_bits(key_bits: int, minimum_bits: int) -> None:
    """Refuse a modulus length outside `minimum_bits` to 8192, warn below 2048.

    Raises
    ------
    CryptoError
        If the length is refused.

    Warns
    -----
    ShortKeyWarning
        If the length is accepted but below 2048 bits.
    """
    if not minimum_bits <= key_bits <= MAXIMUM_KEY_BITS:
        raise CryptoError(
            f"a key must have between {minimum_bits} and {MAXIMUM_KEY_BITS} bits, got {key_bits}"
        )
    if key_bits < RECOMMENDED_KEY_BITS:
        warnings.warn(
            f"a key should have at least {RECOMMENDED_KEY_BITS} bits, got {key_bits}",
            ShortKeyWarning,
            stacklevel=5,
        )


def prime_bits(key_bits: int, minimum_bits: int) -> int:
    """Return the length of the two primes of a new key.

    Raises
    ------
    CryptoError
        If `key_bits` is out of range or odd.
    """
    check_key_bits(key_bits, minimum_bits)
    if key_bits % 2:
        raise CryptoError(f"key_bits must be a multiple of 2, got {key_bits}")
    return key_bits // 2


# The results are kept because a node parses the same key in every message; exceptions are not.
@functools.lru_cache(maxsize=8)
def check_modulus(n: int) -> None:
    """Refuse a modulus that cannot be a product of two large primes that are 3 modulo 4.

    Parameters
    ----------
    n : int
        Modulus, of a length that `check_key_bits` accepts.

    Raises
    ------
    CryptoError
        If n is not 1 modulo 4, has a prime factor below 1000, is a square or is a prime.
    """
    if n % 4 != 1:
        raise CryptoError("n must be 1 modulo 4, as a product of two primes that are 3 modulo 4")
    if gmpy2.gcd(n, _SMALL_PRIMES) != 1:
        raise CryptoError("n must have no prime factor below 1000")
    if gmpy2.is_square(n):
        raise CryptoError("n is a square, not a product of two different primes")
    # A prime always passes the test; that a product of two large primes does is negligible.
    if gmpy2.is_strong_prp(n, 2):
        raise CryptoError("n is a prime, not a product of two primes")


@functools.lru_cache(maxsize=8)
def check_base(h_s: int, n: int) -> None:
    """Refuse a published base that cannot be an n-th power of -x**2 or that hides nothing.

    Parameters
    ----------
    h_s : int
        Published base.
    n : int
        Modulus that `check_modulus` accepts.

    Raises
    ------
    CryptoError
        If h_s is outside ``[2, n**2 - 2]``, shares a factor with n, has a Jacobi symbol other
        than 1 (-1 has 1 here, because both primes are 3 modulo 4), or is of an order modulo a
        prime factor of n that divides the least common multiple of 1 to 128. The last holds for
        1, -1 and all of ``1 + k * n``.
    """
    if not 2 <= h_s <= n * n - 2:
        raise CryptoError("h_s must be in [2, n**2 - 2]")
    if gmpy2.gcd(h_s, n) != 1:
        raise CryptoError("h_s must be coprime to n")
    if gmpy2.jacobi(h_s, n) != 1:
        raise CryptoError("h_s must have the Jacobi symbol 1 modulo n")
    if gmpy2.gcd(gmpy2.powmod(h_s, _SMALL_ORDERS, n) - 1, n) != 1:
        raise CryptoError("h_s must be of large order modulo both factors of n")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class PublicNumbers(Documented):
    """Base of public keys, whose ciphertexts are units modulo n or its square.

    Parameters
    ----------
    n : int
        Modulus.
    minimum_bits : int
        Shortest accepted modulus. Only tests have a reason to lower it.
    known : str, optional
        Fingerprint of a key whose numbers were checked before. If it is this key's, they are not
        checked again, which takes as long as half an encryption.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of `label` and all numbers as 64 hexadecimal digits.

    Raises
    ------
    CryptoError
        If the numbers cannot be a key, as far as that shows without the private one.

    Warns
    -----
    ShortKeyWarning
        Below 2048 bits.
    """

    LABEL: ClassVar[bytes]  # see `label`
    CIPHERTEXT: ClassVar[str]  # name for messages
    POWER: ClassVar[int]  # ciphertexts are below n to this power

    n: int
    _: KW_ONLY
    minimum_bits: InitVar[int] = MINIMUM_KEY_BITS
    known: InitVar[str | None] = None
    fingerprint: str = field(init=False)

    def __post_init__(self, minimum_bits: int, known: str | None) -> None:
        check_key_bits(self.n.bit_length(), minimum_bits)
        given = [getattr(self, item.name) for item in fields(self) if item.init]
        numbers = [
            int.from_bytes(n, "big") if isinstance(n, bytes) else n
            for n in given
            if n != b"" and not isinstance(n, str)
        ]
        object.__setattr__(self, "fingerprint", integers_digest(self.label, *numbers))
        if known != self.fingerprint:
            self.check_numbers()

    def check_numbers(self) -> None:
        """Raise CryptoError if the numbers cannot be a key."""
        raise NotImplementedError

    @property
    def label(self) -> bytes:
        """Beginning of the bytes that are hashed for the fingerprint."""
        return self.LABEL

    @property
    def key_bits(self) -> int:
        """Length of the modulus."""
        return self.n.bit_length()

    @property
    def ciphertext_bytes(self) -> int:
        """Width of a ciphertext."""
        return -(-self.POWER * self.key_bits // 8)

    def check(self, ciphertexts: Sequence[int]) -> None:
        """Raise CryptoError unless all ciphertexts are in range and coprime to n."""
        n, limit, product = self.n, self.n**self.POWER, mpz(1)
        for index, ciphertext in enumerate(ciphertexts):
            if not 1 <= ciphertext < limit:
                shown = "n" if self.POWER == 1 else f"n**{self.POWER}"
                raise CryptoError(f"{self.CIPHERTEXT} {index} must be in [1, {shown})")
            product = product * ciphertext % n
        # One gcd for all: a product is coprime to n exactly if each factor is.
        if gmpy2.gcd(product, n) != 1:
            index = next(i for i, c in enumerate(ciphertexts) if gmpy2.gcd(c, n) != 1)
            raise CryptoError(f"{self.CIPHERTEXT} {index} must be coprime to n")

    def to_bytes(self, ciphertexts: Sequence[mpz | int]) -> bytes:
        """Return ciphertexts as big-endian bytes of `ciphertext_bytes` each, without a header."""
        width = self.ciphertext_bytes
        return b"".join(int(ciphertext).to_bytes(width, "big") for ciphertext in ciphertexts)

    def from_bytes(self, data: bytes, count: int) -> list[int]:
        """Read ciphertexts that another node sent.

        Raises
        ------
        CryptoError
            If the data are not bytes of this many, or `check` refuses one.
        """
        width = self.ciphertext_bytes
        if not isinstance(data, bytes) or len(data) != count * width:
            got = len(data) if isinstance(data, bytes) else kind_in_words(data)
            raise CryptoError(
                f"{count} {self.CIPHERTEXT}s must be {count * width} bytes, got {got}"
            )
        starts = range(0, len(data), width)
        ciphertexts = [int.from_bytes(data[at : at + width], "big") for at in starts]
        self.check(ciphertexts)
        return ciphertexts

    @classmethod
    def from_json(
        cls,
        text: str,
        *,
        minimum_bits: int = MINIMUM_KEY_BITS,
        maximum_bits: int = MAXIMUM_KEY_BITS,
        known: str | None = None,
    ) -> Self:
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

        def build(n: int, *others: int | bytes | str) -> Any:
            if n.bit_length() > maximum_bits:
                raise CryptoError(f"n must have at most {maximum_bits} bits, got {n.bit_length()}")
            return cls(n, *others, minimum_bits=minimum_bits, known=known)

        key: Self = cls.DOCUMENT.loads(text, build)
        return key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key_bits} bits, {self.fingerprint[:16]})"
