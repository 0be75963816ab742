"""Secure comparison of encrypted numbers with 0, many at a time, as pure step functions.

Alice has numbers d under Bob's Paillier key, with ``-2**l <= d < 2**l``. At the end Bob has the
bit ``d >= 0``, or that bit and a coin of Alice's; Alice has nothing new.

    A  blind      z = d + 2**l + r, r random                         [[z]]  -> B
    B  bits       beta = z mod 2**l, its digits, and bit l of z       [..]  -> A
    A  compare    alpha = r mod 2**l;  c_i holds 0 for one i, or none  [c]  -> B
    B  results    is there a 0?

These are steps 1 to 4 of protocols 2 and 3 of Veugen, "Improving the DGK comparison protocol",
WIFS 2012, whose names the variables have; the comparison in step 4 is Damgard, Geisler and
Kroigaard's (ACISP 2007, section 4), with Veugen's c_(-1) for equal numbers. As in protocol 2, r
hides z statistically and is so short that z never reaches the modulus. Four things differ:

- Numbers lie in slots, so that one decryption opens as many z as there are slots.
- ``d >= 0`` is ``z_l xor r_l xor (beta < alpha)``. Veugen's B adds z_l at the end, in clear. Here
  he encrypts it with the digits, and delta_A, which switches the direction of the comparison,
  becomes ``z_l xor r_l xor 1 xor coin`` under encryption: c_i is linear in delta_A. So Bob's bit
  is the result (or the result and the coin), Alice may hand him the comparisons in an order that
  he does not know, and the steps that turn delta_B into a Paillier ciphertext drop out.
- Digits have two bits instead of one. Bob sends ``[beta_i >= 1], [beta_i >= 2], [beta_i >= 3]``,
  of which Alice picks the two at her own digit: ``[beta_i < alpha_i] = 1 - [beta_i >= alpha_i]``
  and ``[beta_i > alpha_i] = [beta_i >= alpha_i + 1]``. There are half as many c_i, and they are
  what takes the time. With digits of one bit, it is DGK's protocol bit by bit.
- c_(-1) is ``s - 1 + 3 * sum of all w_j``, which is ``-2 * delta_A + 3 * sum``, where Veugen has
  ``delta_A + sum``. Both hold 0 only if delta_A and the sum are 0, as 2 is no multiple of 3.

Bob sees z, hidden by r, and zeros among random numbers at random places. Alice sees ciphertexts.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.errors import CryptoError

if TYPE_CHECKING:  # Alice and the coordinator have no use for it
    from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey

DIGIT_BITS = 2

_shuffle = secrets.SystemRandom().shuffle


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits of a number of l bits, as they are compared.

    Parameters
    ----------
    value_bits : int
        l, at least 1.
    digit_bits : int
        Bits of a digit, at least 1.
    """

    value_bits: int
    digit_bits: int = DIGIT_BITS

    @property
    def count(self) -> int:
        """Number of digits of a number."""
        return -(-self.value_bits // self.digit_bits)

    @property
    def sent(self) -> int:
        """DGK ciphertexts per number from Bob: each digit's thresholds, and bit l."""
        return self.count * self._thresholds + 1

    @property
    def returned(self) -> int:
        """DGK ciphertexts per number from Alice: c_(-1) and one for each digit."""
        return self.count + 1

    @property
    def _thresholds(self) -> int:
        return (1 << self.digit_bits) - 1

    def of(self, number: int) -> list[int]:
        """Return the digits of ``number mod 2**l``, the lowest first."""
        number &= (1 << self.value_bits) - 1
        low = self._thresholds
        return [
            (number >> at) & low for at in range(0, self.count * self.digit_bits, self.digit_bits)
        ]

    def carry(self, number: int) -> int:
        """Return bit l of a number."""
        return (number >> self.value_bits) & 1

    def thresholds(self, number: int) -> list[int]:
        """Return what Bob encrypts: ``digit >= 1, digit >= 2, ...`` for each digit, and bit l."""
        levels = range(1, self._thresholds + 1)
        return [*(int(d >= level) for d in self.of(number) for level in levels), self.carry(number)]

    def require_room(self, u: int) -> None:
        """Raise CryptoError unless every c_i counts exactly modulo u.

        They are from -2 to ``3 * (digits - 1) + 2``.
        """
        if u <= 3 * self.count + 2:
            raise CryptoError(
                f"u must be above {3 * self.count + 2} for numbers of {self.value_bits} bits, "
                f"got {u}"
            )


def bits(private_key: DgkPrivateKey, digits: Digits, blinded: Sequence[int]) -> list[mpz]:
    """Bob's answer to blinded numbers (steps 2, 4a and 4b).

    Parameters
    ----------
    private_key : DgkPrivateKey
    digits : Digits
    blinded : sequence of int
        z of each number, at least 0.

    Returns
    -------
    list of mpz
        ``digits.sent`` ciphertexts for each number.
    """
    return private_key.encrypt_bits([bit for z in blinded for bit in digits.thresholds(z)])


def compare(
    public_key: DgkPublicKey,
    digits: Digits,
    encrypted_bits: Sequence[int | mpz],
    masks: Sequence[int],
    coins: Sequence[int],
) -> list[mpz]:
    """Alice's part (steps 3 and 4c to 4i).

    Parameters
    ----------
    public_key : DgkPublicKey
        Bob's.
    digits : Digits
    encrypted_bits : sequence of int
        Bob's `bits` of n numbers.
    masks : sequence of int, length n
        r of each number.
    coins : sequence of int, length n
        0 or 1: the result is turned into its opposite by a 1.

    Returns
    -------
    list of mpz
        ``digits.returned`` ciphertexts for each number, in random order. One holds 0 if
        ``(d >= 0) xor coin``, else none does; all others hold random numbers.

    Raises
    ------
    CryptoError
        If u is too small for such numbers.
    """
    digits.require_room(public_key.u)
    n, g = mpz(public_key.n), mpz(public_key.g)
    minus_one = gmpy2.invert(g, n)
    per_digit = (1 << digits.digit_bits) - 1
    zero_or_not: list[mpz] = []
    for index, (mask, coin) in enumerate(zip(masks, coins, strict=True)):
        at = index * digits.sent
        *beta, carry = (mpz(bit) for bit in encrypted_bits[at : at + digits.sent])
        # x = [beta >= alpha] and y = [beta > alpha] of each digit; g is an encrypted 1, 1 a 0
        chosen = [
            (
                beta[i * per_digit + alpha - 1] if alpha else g,
                beta[i * per_digit + alpha] if alpha < per_digit else mpz(1),
            )
            for i, alpha in enumerate(digits.of(mask))
        ]
        carry_inverse, *inverses = inverses_of([carry, *(x * y % n for x, y in chosen)], n)
        # s of the paper, 1 - 2 * delta_A: delta_A is the carry, or 1 less the carry
        if digits.carry(mask) ^ 1 ^ coin:
            total = carry * carry % n * minus_one % n
        else:
            total = carry_inverse * carry_inverse % n * g % n
        group: list[mpz] = []
        # total is s + 3 * sum of w_j of all higher digits j
        for (_, y), inverse in zip(reversed(chosen), reversed(inverses), strict=True):
            sign = g * inverse % n  # [beta < alpha] - [beta > alpha] = 1 - x - y
            group.append(total * sign % n)  # c_i
            w = sign * (y * y % n) % n  # [beta != alpha] = 1 - x + y
            total = total * (w * w % n * w % n) % n
        group.append(total * minus_one % n)  # c_(-1)
        _shuffle(group)
        zero_or_not += group
    return hidden(public_key, zero_or_not)


def inverses_of(numbers: Sequence[mpz], modulus: mpz) -> list[mpz]:
    """Invert at least one number modulo another, all by one inversion and three products each.

    Montgomery, "Speeding the Pollard and elliptic curve methods of factorization", Mathematics of
    Computation 48 (1987), section 10.3.1.

    Examples
    --------
    >>> [int(inverse) for inverse in inverses_of([mpz(2), mpz(3), mpz(5)], mpz(7))]
    [4, 5, 3]
    """
    products = list(accumulate(numbers, lambda product, number: product * number % modulus))
    rest, inverses = gmpy2.invert(products[-1], modulus), []
    for number, before in zip(numbers[:0:-1], products[-2::-1], strict=True):
        inverses.append(rest * before % modulus)
        rest = rest * number % modulus
    return [rest, *reversed(inverses)]


def results(
    private_key: DgkPrivateKey, per_result: int, ciphertexts: Sequence[int | mpz]
) -> list[int]:
    """Bob's look for zeros (step 4j).

    Parameters
    ----------
    private_key : DgkPrivateKey
    per_result : int
        How many ciphertexts belong to one result.
    ciphertexts : sequence of int
        Alice's.

    Returns
    -------
    list of int
        1 where one of a result's ciphertexts holds 0, else 0.
    """
    zero = private_key.are_zero(ciphertexts)
    return [int(any(zero[at : at + per_result])) for at in range(0, len(zero), per_result)]


def hidden(public_key: DgkPublicKey, ciphertexts: Sequence[mpz]) -> list[mpz]:
    """Multiply every plaintext by a random number other than 0, with fresh randomness (step 4i)."""
    n, masks = mpz(public_key.n), public_key.masks(len(ciphertexts))
    return [
        gmpy2.powmod(ciphertext, _nonzero(public_key.u), n) * mask % n
        for ciphertext, mask in zip(ciphertexts, masks, strict=True)
    ]


def _nonzero(u: int) -> int:
    return secrets.randbelow(u - 1) + 1
