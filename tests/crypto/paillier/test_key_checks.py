from __future__ import annotations

import gmpy2
import pytest

from fl_he.crypto.errors import CryptoError, ShortKeyWarning
from fl_he.crypto.paillier.key_checks import check_base, check_key_bits, check_modulus
from fl_he.crypto.paillier.private_key import PrivateKey


def test_lengths() -> None:
    check_key_bits(2048, 1024)
    check_key_bits(8192, 1024)
    for bits, minimum in ((1023, 1024), (8193, 1024), (511, 512), (0, 512)):
        with pytest.raises(CryptoError, match=f"between {minimum} and 8192 bits, got {bits}"):
            check_key_bits(bits, minimum)


@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_short_key_warns(bits: int) -> None:
    with pytest.warns(ShortKeyWarning, match=f"at least 2048 bits, got {bits}"):
        check_key_bits(bits, 1024)


def test_a_key_of_2048_bits_is_not_short(recwarn: pytest.WarningsRecorder) -> None:
    check_key_bits(2048, 1024)
    assert [w for w in recwarn if w.category is ShortKeyWarning] == []


def test_moduli_that_everybody_could_factor(small_primes: tuple[int, int]) -> None:
    p, q = small_primes
    check_modulus(p * q)
    prime = p + 2
    while not (gmpy2.is_prime(prime) and prime % 4 == 1):
        prime += 4 if prime % 4 == 1 else 2
    for n, message in (
        (p * q * 2, "1 modulo 4"),
        (p * prime, "1 modulo 4"),
        (p * q * 997 * 13, "no prime factor below 1000"),
        (p * p, "n is a square, not a product"),
        (prime, "n is a prime, not a product"),
    ):
        with pytest.raises(CryptoError, match=message):
            check_modulus(n)


def test_bases_that_hide_nothing(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    n, h_s = small_key.public_key.n, small_key.public_key.h_s
    p, q = small_primes
    check_base(h_s, n)
    square = n * n
    # 1 modulo p, h_s modulo q: of order 1 modulo one factor only, hence no other check sees it.
    half_trivial = (1 + p * ((h_s - 1) * pow(p, -1, q) % q)) % n
    assert half_trivial % p == 1
    assert gmpy2.jacobi(half_trivial**2 % n, n) == 1
    non_residue = next(x for x in range(2, 100) if gmpy2.jacobi(x, n) == -1)
    for base, message in (
        (0, r"in \[2, n\*\*2 - 2\]"),
        (1, r"in \[2, n\*\*2 - 2\]"),
        (square - 1, r"in \[2, n\*\*2 - 2\]"),
        (square + 5, r"in \[2, n\*\*2 - 2\]"),
        (-5, r"in \[2, n\*\*2 - 2\]"),
        (p * 3, "coprime to n"),
        (n, "coprime to n"),
        (h_s * non_residue % square, "Jacobi symbol 1"),
        (1 + n, "large order"),
        (1 + 12345 * n, "large order"),
        (n - 1 + n * 77, "large order"),
        (half_trivial**2 % n, "large order"),
    ):
        with pytest.raises(CryptoError, match=message):
            check_base(base, n)
