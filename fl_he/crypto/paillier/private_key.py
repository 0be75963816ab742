"""Paillier private keys: generation, decryption, key files.

Decryption works modulo the two primes, side by side on two cores (Paillier 1999, section 7,
"Decryption using Chinese-remaindering"):

    m_p = L_p(c**(p - 1) mod p**2) * h_p mod p,    L_p(x) = (x - 1) / p

and the same for q; the Chinese remainder theorem joins m_p and m_q.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from typing import ClassVar

import gmpy2
import numpy as np
from cryptography.utils import Buffer
from gmpy2 import mpz
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Place, constant, derived, scalar
from fl_he.crypto.encoding.streams import derive
from fl_he.crypto.encoding.strict_json import Document, base64url, base64url_integer
from fl_he.crypto.envelopes.sealing_key import SEED_BYTES, SealingKey
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.key_files import Secret, Uncopied
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector, Progress
from fl_he.crypto.paillier.key_checks import MAXIMUM_KEY_BITS, MINIMUM_KEY_BITS, prime_bits
from fl_he.crypto.paillier.public_key import FORM as PUBLIC_FORM
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.summed_vector import SummedVector
from fl_he.crypto.paillier.threads import available_cores, run_all


class _Prime(Uncopied):
    """A prime factor of n with what decryption modulo its square needs.

    Paillier's h_p is the inverse of ``L_p(g**(p - 1) mod p**2)``. For g = n + 1 that power is
    ``1 + (p - 1) * n = 1 - q * p  mod p**2``, so h_p is the inverse of -q.
    """

    __slots__ = ("_square", "h", "value")

    def __init__(self, value: mpz, other: mpz) -> None:
        self.value = value
        self._square = value * value
        self.h = gmpy2.invert(-other, value)

    def decrypt(self, ciphertexts: Sequence[int]) -> list[mpz]:
        """Decrypt modulo this prime; powmod_base_list releases the interpreter lock."""
        residues = [ciphertext % self._square for ciphertext in ciphertexts]
        powers = gmpy2.powmod_base_list(residues, self.value - 1, self._square)
        return [(power - 1) // self.value * self.h % self.value for power in powers]


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
    known : str, optional
        Fingerprint of a key that went through all of these checks before. If it is this key's,
        only ``p * q = n`` is checked again: n has no other factors of that length.

    Raises
    ------
    CryptoError
        If the numbers are not such a key, or h_s is not an n-th power.
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
        known: str | None = None,
    ) -> None:
        half = public_key.key_bits // 2
        sizes = (p.bit_length(), q.bit_length())
        if p < 1 or p * q != public_key.n or sizes != (half, half):
            raise CryptoError(f"p and q must be factors of n of {half} bits each")
        new = public_key.fingerprint != known
        if new and (p % 4 != 3 or q % 4 != 3 or gmpy2.gcd(p - 1, q - 1) != 2):
            raise CryptoError("p and q must be 3 modulo 4 with gcd(p - 1, q - 1) = 2")
        if new and not (gmpy2.is_prime(p) and gmpy2.is_prime(q)):
            raise CryptoError("p and q must be primes")
        self.__sealing = SealingKey(sealing_seed) if sealing_seed else None
        sealing = self.__sealing.public_bytes if self.__sealing else b""
        if sealing != public_key.sealing:
            raise CryptoError("the private sealing key must be that of the public key")
        self.public_key = public_key
        smaller, larger = sorted((mpz(p), mpz(q)))
        self.__p, self.__q = _Prime(smaller, larger), _Prime(larger, smaller)
        if new and self.decrypt([public_key.h_s]) != [0]:
            raise CryptoError("h_s must be an n-th power modulo n**2")

    @classmethod
    def generate(cls, key_bits: int = 2048, *, minimum_bits: int = MINIMUM_KEY_BITS) -> PrivateKey:
        """Make a new key.

        Parameters
        ----------
        key_bits : int
            Length of the modulus, a multiple of 2; 2048 by default, 3072 for 128-bit security.
        minimum_bits : int
            Shortest accepted modulus. Only tests have a reason to lower it.

        Raises
        ------
        CryptoError
            If `key_bits` is out of range or odd.
        """
        half = prime_bits(key_bits, minimum_bits)
        p = _random_prime(half)
        while gmpy2.gcd(p - 1, (q := _random_prime(half)) - 1) != 2:
            pass  # also as long as q == p
        n = p * q
        while gmpy2.gcd(x := secrets.randbelow(n), n) != 1:
            pass
        # Damgard, Jurik and Nielsen's base; see `masking`.
        h_s = int(gmpy2.powmod(-x * x % n, n, n * n))
        seed = secrets.token_bytes(SEED_BYTES)
        sealing = SealingKey(seed).public_bytes
        return cls(PublicKey(n, h_s, sealing, minimum_bits=minimum_bits), p, q, seed)

    def decrypt(self, ciphertexts: Sequence[int], *, cores: int | None = None) -> list[int]:
        """Decrypt ciphertexts.

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
        # Each share is decrypted by two threads, one per prime.
        count = min(max(1, cores // 2), len(ciphertexts))
        calls = [
            functools.partial(prime.decrypt, ciphertexts[at::count])
            for at in range(count)
            for prime in (self.__p, self.__q)
        ]
        halves = run_all(calls) if cores > 1 else [call() for call in calls]
        p, q, h_q = self.__p.value, self.__q.value, self.__q.h
        plaintexts = [0] * len(ciphertexts)
        for at in range(count):
            plaintexts[at::count] = [
                int(m_p + (m_p - m_q) * h_q % q * p)  # h_q is the inverse of -p
                for m_p, m_q in zip(halves[2 * at], halves[2 * at + 1], strict=True)
            ]
        return plaintexts

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
        vector : EncryptedVector
            Under this key. A vector of another scheme is refused.

        Raises
        ------
        CryptoError
            If the vector is under another key, or has no tags.
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
        p, q = int(self.__p.value), int(self.__q.value)
        seed = self.__sealing.secret_seed() if self.__sealing else b""
        public = PUBLIC_FORM.write(self.public_key)
        return self.DOCUMENT.dumps(self, p=p, q=q, sealing=seed, pub=public)

    @classmethod
    def from_json(
        cls, text: str, *, minimum_bits: int = MINIMUM_KEY_BITS, known: str | None = None
    ) -> PrivateKey:
        """Read what `to_json` wrote; `known` as for the class, see `Secret.from_json`."""
        build_public = functools.partial(PublicKey, minimum_bits=minimum_bits, known=known)

        def build(p: int, q: int, sealing: bytes, pub: dict[str, object]) -> PrivateKey:
            public_key = PUBLIC_FORM.read(pub, Place("public key"), build_public)
            return cls(public_key, p, q, sealing, known=known)

        return cls.DOCUMENT.loads(text, build)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public_key.key_bits} bits, {self.public_key.fingerprint[:16]})"


def _random_prime(bits: int) -> int:
    """Return a random prime that is 3 modulo 4 and has its two highest bits set.

    So the product of two has exactly twice as many bits.
    """
    while True:
        candidate = secrets.randbits(bits) | (3 << (bits - 2)) | 3
        if gmpy2.is_prime(candidate, 50):
            return candidate
