"""Paillier private keys: generation, decryption, key files.

Decryption works modulo the two primes, side by side on two cores (Paillier 1999, section 7,
"Decryption using Chinese-remaindering"):

    m_p = L_p(c**(p - 1) mod p**2) * h_p mod p,    L_p(x) = (x - 1) / p

and the same for q; the Chinese remainder theorem joins m_p and m_q. With a key of kind ``short``
all that was encrypted with its published base has an order modulo p that divides 2 * p1, which
takes the place of p - 1: ``c**(2 * p1) mod p`` is 1. Where it is not, as with ciphertexts of
phe's, p - 1 serves.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gmpy2
import numpy as np
from cryptography.utils import Buffer
from gmpy2 import mpz
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Place, constant, derived, left_out, scalar
from fl_he.crypto.encoding.streams import derive
from fl_he.crypto.encoding.strict_json import Document, base64url, base64url_integer
from fl_he.crypto.envelopes.sealing_key import SEED_BYTES, SealingKey
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.key_files import Secret, Uncopied
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector, Progress
from fl_he.crypto.paillier.key_checks import MAXIMUM_KEY_BITS, MINIMUM_KEY_BITS, prime_bits
from fl_he.crypto.paillier.key_kind import KeyKind, short_order_bits
from fl_he.crypto.paillier.public_key import FORM as PUBLIC_FORM
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.summed_vector import SummedVector
from fl_he.crypto.paillier.threads import available_cores, run_all


class _Prime(Uncopied):
    """A prime factor p of n with what decryption modulo its square needs.

    Paillier's h_p for the exponent e is the inverse of ``L_p(g**e mod p**2)``. For g = n + 1 that
    power is ``1 + e * n  mod p**2``, so h_p is the inverse of e * q; for e = p - 1, of -q.

    Parameters
    ----------
    value, other : mpz
        p and q.
    order : mpz
        p1 in a key of kind ``short``, else 0.
    """

    __slots__ = ("_h", "_quick", "_square", "h", "order", "value")

    def __init__(self, value: mpz, other: mpz, order: mpz) -> None:
        self.value, self.order = value, order
        self._square = value * value
        self.h = gmpy2.invert(-other, value)
        self._quick = 2 * order or value - 1
        self._h = gmpy2.invert(self._quick * other, value)

    def decrypt(self, ciphertexts: Sequence[int], *, quick: bool) -> list[mpz | None]:
        """Decrypt modulo this prime; powmod_base_list releases the interpreter lock.

        With `quick`, a ciphertext outside the key's subgroup gives ``None``.
        """
        exponent, h = (self._quick, self._h) if quick else (self.value - 1, self.h)
        residues = [ciphertext % self._square for ciphertext in ciphertexts]
        powers = gmpy2.powmod_base_list(residues, exponent, self._square)
        parts = (gmpy2.f_divmod(power, self.value) for power in powers)
        return [quotient * h % self.value if rest == 1 else None for quotient, rest in parts]


_BLOCK = 256  # ciphertexts decrypted at a time: bounds memory, paces `progress`


class PrivateKey(Secret):
    """A Paillier private key of the form that the published base h_s needs.

    Its numbers are in no repr, exception or pickle, and it refuses to be copied.

    Parameters
    ----------
    public_key : PublicKey
        The public half.
    p, q : int
        The prime factors of n: different, of half its length, 3 modulo 4, with
        ``gcd(p - 1, q - 1) = 2``.
    sealing_seed : bytes
        Private half of the sealing key; empty where the public key has none.
    p1, q1 : int
        Of a public key of kind ``short``: primes that divide p - 1 and q - 1, where h_s is of the
        order ``2 * p1 * q1``. Else 0.
    known : str, optional
        Fingerprint of a key that went through all of these checks before. If it is this key's,
        only ``p * q = n`` is checked again, and that p1 and q1 are divisors of their length: n has
        no other factors of that length, and any such divisors decrypt.

    Raises
    ------
    CryptoError
        If the numbers are not such a key, or h_s is not an n-th power of such an order.

    Examples
    --------
    >>> key = PrivateKey.generate(2048)
    >>> key.decrypt(key.public_key.encrypt([3, 4]))
    [3, 4]
    >>> str(key.public_key.n) in repr(key)
    False
    """

    __slots__ = ("__p", "__q", "__sealing", "public_key")
    KIND: ClassVar[str] = "paillier-private-key"
    DOCUMENT: ClassVar[Document] = Document(
        "private key",
        {
            "kty": constant("DAJ"),
            "key_ops": constant(["decrypt"]),
            **dict.fromkeys(("p", "q"), base64url_integer(MAXIMUM_KEY_BITS // 2)),
            "sealing": base64url(),
            **dict.fromkeys(("p1", "q1"), left_out(base64url_integer(MAXIMUM_KEY_BITS // 2), 0)),
            "pub": scalar(dict),
            "kid": derived("public_key.fingerprint"),
        },
        limit=16384,
    )

    def __init__(
        self,
        public_key: PublicKey,
        p: int,
        q: int,
        sealing_seed: bytes = b"",
        *,
        p1: int = 0,
        q1: int = 0,
        known: str | None = None,
    ) -> None:
        half = public_key.key_bits // 2
        sizes = (p.bit_length(), q.bit_length())
        if p < 1 or p * q != public_key.n or sizes != (half, half):
            raise CryptoError(f"p and q must be factors of n of {half} bits each")
        short = public_key.key_kind is KeyKind.short
        length = short_order_bits(public_key.key_bits) if short else 0
        if {p1.bit_length(), q1.bit_length()} != {length}:
            raise CryptoError(
                f"p1 and q1 must have {length} bits each in a key of kind {public_key.key_kind}"
            )
        if short and ((p - 1) % (2 * p1) or (q - 1) % (2 * q1)):
            raise CryptoError("2 * p1 and 2 * q1 must divide p - 1 and q - 1")
        new = public_key.fingerprint != known
        if new and (p % 4 != 3 or q % 4 != 3 or gmpy2.gcd(p - 1, q - 1) != 2):
            raise CryptoError("p and q must be 3 modulo 4 with gcd(p - 1, q - 1) = 2")
        if new and not all(map(gmpy2.is_prime, (p, q, p1, q1) if short else (p, q))):
            raise CryptoError("p and q must be primes, and p1 and q1 in a key of kind short")
        self.__sealing = SealingKey(sealing_seed) if sealing_seed else None
        sealing = self.__sealing.public_bytes if self.__sealing else b""
        if sealing != public_key.sealing:
            raise CryptoError("the private sealing key must be that of the public key")
        self.public_key = public_key
        (smaller, first), (larger, second) = sorted(((mpz(p), mpz(p1)), (mpz(q), mpz(q1))))
        self.__p, self.__q = _Prime(smaller, larger, first), _Prime(larger, smaller, second)
        if new and self._opened({0: public_key.h_s}, 1, quick=True) != {0: 0}:
            raise CryptoError(
                "h_s must be an n-th power modulo n**2, of order 2 * p1 * q1 in a key of kind short"
            )

    @classmethod
    def generate(
        cls,
        key_bits: int = 2048,
        *,
        kind: KeyKind = KeyKind.short,
        minimum_bits: int = MINIMUM_KEY_BITS,
    ) -> PrivateKey:
        """Make a new key.

        Parameters
        ----------
        key_bits : int
            Length of the modulus, a multiple of 2; 2048 by default, 3072 for 128-bit security.
        kind : KeyKind
            ``short`` or ``djn``; see `key_kind`.
        minimum_bits : int
            Shortest accepted modulus. Only tests have a reason to lower it.

        Raises
        ------
        CryptoError
            If `key_bits` is out of range or odd.
        """
        half = prime_bits(key_bits, minimum_bits)
        short = kind is KeyKind.short
        p1, q1 = (_random_prime(short_order_bits(key_bits)) if short else 0 for _ in range(2))
        p = _random_prime(half, p1 or 1)
        while gmpy2.gcd(p - 1, (q := _random_prime(half, q1 or 1)) - 1) != 2:
            pass  # also as long as q == p
        n = p * q
        while gmpy2.gcd(x := secrets.randbelow(n), n) != 1:
            pass
        # The power of x leaves an order that divides p1 modulo p and q1 modulo q; see `masking`.
        cofactor = (p - 1) // (2 * p1) * ((q - 1) // (2 * q1)) if short else 1
        h = -gmpy2.powmod(x, 2 * cofactor, n) % n
        h_s = int(gmpy2.powmod(h, n, n * n))
        seed = secrets.token_bytes(SEED_BYTES)
        sealing = SealingKey(seed).public_bytes
        public_key = PublicKey(n, h_s, sealing, kind, minimum_bits=minimum_bits)
        return cls(public_key, p, q, seed, p1=p1, q1=q1)

    def decrypt(self, ciphertexts: Sequence[int], *, cores: int | None = None) -> list[int]:
        """Decrypt ciphertexts.

        With a key of kind ``short`` a ciphertext outside the subgroup modulo p or modulo q takes
        the full exponents modulo both. So the time tells an observer that a ciphertext was not
        made with h_s, which its sender knows, and nothing of p or q alone.

        Parameters
        ----------
        ciphertexts : sequence of int
            In ``[1, n**2)``, coprime to n.
        cores : int, optional
            How many threads may run; by default as many as this process has cores. The primes
            never leave the process.

        Returns
        -------
        list of int
            Plaintexts in ``[0, n)``, as phe's ``raw_decrypt`` has them.

        Raises
        ------
        CryptoError
            If a ciphertext is none.
        """
        self.public_key.check(ciphertexts)
        if not ciphertexts:
            return []
        cores = cores or available_cores()
        numbered = dict(enumerate(ciphertexts))
        plaintexts = self._opened(numbered, cores, quick=True)
        if foreign := {at: numbered[at] for at in numbered.keys() - plaintexts.keys()}:
            plaintexts |= self._opened(foreign, cores, quick=False)
        return [plaintexts[at] for at in numbered]

    def _opened(self, numbered: Mapping[int, int], cores: int, *, quick: bool) -> dict[int, int]:
        """Return the plaintext of each numbered ciphertext, if `quick` only in the subgroup."""
        numbers, ciphertexts = list(numbered), list(numbered.values())
        # Each share is decrypted by two threads, one per prime.
        count = min(max(1, cores // 2), len(ciphertexts))
        calls = [
            functools.partial(prime.decrypt, ciphertexts[at::count], quick=quick)
            for at in range(count)
            for prime in (self.__p, self.__q)
        ]
        halves = run_all(calls) if cores > 1 else [call() for call in calls]
        p, q, h_q = self.__p.value, self.__q.value, self.__q.h
        return {
            number: int(m_p + (m_p - m_q) * h_q % q * p)  # h_q is the inverse of -p
            for at in range(count)
            for number, m_p, m_q in zip(
                numbers[at::count], halves[2 * at], halves[2 * at + 1], strict=True
            )
            if m_p is not None and m_q is not None
        }

    def decrypt_integers(
        self,
        vector: EncryptedVector,
        *,
        cores: int | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.int64]:
        """Decrypt a vector's fixed-point totals.

        Parameters
        ----------
        vector : EncryptedVector
            Under this key.
        cores : int, optional
            See `decrypt`.
        progress : callable, optional
            Called as ``progress(values done, values in all)``.

        Returns
        -------
        int64 array of shape (len(vector),)
            The totals.

        Raises
        ------
        CryptoError
            If the vector is under another key, or does not hold sums of at most
            ``packing.max_contributors`` vectors.
        """
        if vector.tagged:
            raise CryptoError("a vector with tags must be decrypted with them")
        plaintexts = self._plaintexts(vector, cores, progress)
        return vector.packing.unpack(plaintexts, len(vector), vector.key_bits)

    def decrypt_tagged(self, vector: SummedVector) -> tuple[NDArray[np.int64], list[int], bool]:
        """Decrypt a vector with tags; see `Packing.unpack_tagged`.

        The tags have yet to be checked; see :mod:`fl_he.crypto.tickets`.

        Parameters
        ----------
        vector : SummedVector
            An `EncryptedVector` with tags, under this key.

        Raises
        ------
        CryptoError
            If the vector is of another scheme, is under another key, or has no tags.
        """
        if not isinstance(vector, EncryptedVector) or not vector.tagged:
            raise CryptoError("a vector to decrypt with tags must be a Paillier vector with tags")
        plaintexts = self._plaintexts(vector, None, None)
        return vector.packing.unpack_tagged(plaintexts, len(vector), vector.key_bits)

    def _plaintexts(
        self, vector: EncryptedVector, cores: int | None, progress: Progress | None
    ) -> list[int]:
        if vector.fingerprint != self.public_key.fingerprint:
            raise CryptoError(
                f"the key must be {self.public_key.fingerprint}, got {vector.fingerprint}"
            )
        n, length, packing = self.public_key.n, len(vector), vector.packing
        slots = packing.values_per_ciphertext(vector.key_bits, tagged=vector.tagged)
        ciphertexts = vector.to_integers()
        plaintexts: list[int] = []
        for start in range(0, len(ciphertexts), _BLOCK):
            block = self.decrypt(ciphertexts[start : start + _BLOCK], cores=cores)
            plaintexts.extend(m - n if m > n // 2 else m for m in block)
            if progress is not None:
                progress(min(len(plaintexts) * slots, length), length)
        return plaintexts

    def open_sealed(self, ciphertext: Buffer, info: bytes) -> bytes:
        """Decrypt what was encrypted to the sealing half; see `SealingKey.open`."""
        if self.__sealing is None:
            raise CryptoError("the key must have a sealing half: make it anew with fl-he keygen")
        return self.__sealing.open(ciphertext, info)

    def derived(self, info: bytes) -> bytes:
        """Return 32 secret bytes that only the owner of the sealing half can make (HKDF)."""
        if self.__sealing is None:
            raise CryptoError("the key must have a sealing half: make it anew with fl-he keygen")
        return derive(self.__sealing.secret_seed(), info)

    def decrypt_vector(
        self,
        vector: EncryptedVector,
        *,
        cores: int | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """Decrypt a vector's totals as numbers; see `decrypt_integers`."""
        totals = self.decrypt_integers(vector, cores=cores, progress=progress)
        return vector.packing.decode(totals)

    def to_json(self) -> str:
        """Return the key in phe's JSON format; the text is secret.

        The format is that of phe's command line (``phe/command_line.py``), which reads it, unless
        it is saved under a passphrase.
        """
        p, q = (int(prime.value) for prime in (self.__p, self.__q))
        p1, q1 = (int(prime.order) for prime in (self.__p, self.__q))
        seed = self.__sealing.secret_seed() if self.__sealing else b""
        public = PUBLIC_FORM.write(self.public_key)
        return self.DOCUMENT.dumps(self, p=p, q=q, sealing=seed, p1=p1, q1=q1, pub=public)

    @classmethod
    def from_json(
        cls, text: str, *, minimum_bits: int = MINIMUM_KEY_BITS, known: str | None = None
    ) -> PrivateKey:
        """Read what `to_json` wrote; `known` as for the class, see `Secret.from_json`."""
        build_public = functools.partial(PublicKey, minimum_bits=minimum_bits, known=known)

        def build(p: int, q: int, sealing: bytes, *others: Any) -> PrivateKey:
            p1, q1, pub = others
            public_key = PUBLIC_FORM.read(pub, Place("public key"), build_public)
            return cls(public_key, p, q, sealing, p1=p1, q1=q1, known=known)

        return cls.DOCUMENT.loads(text, build)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public_key.key_bits} bits, {self.public_key.fingerprint[:16]})"


def _random_prime(bits: int, order: int = 1) -> int:
    """Return a random prime ``2 * order * k + 1`` for odd k and order, its two highest bits set.

    So it is 3 modulo 4, and the product of two has exactly twice as many bits.
    """
    step = 4 * order
    first = (3 << (bits - 2)) // step  # of all m with step * m + 2 * order + 1 in range
    while True:
        candidate = step * (first + secrets.randbelow((1 << (bits - 2)) // step)) + 2 * order + 1
        if candidate >> (bits - 2) == 3 and gmpy2.is_prime(candidate, 50):
            return candidate
