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
hides z statistically and is so short that z never reaches the modulus. Five things differ:

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
- Several numbers share DGK ciphertexts both ways: each has a slot, a prime modulus (`dgk_key`).
  Alice takes the slots apart (`separated`), as each number's digits choose other ciphertexts, and
  each number's c_i are in a random order apart from the others'. Then she multiplies ciphertexts of
  different slots, each to a random power. So in each slot Bob sees what he would see in a
  ciphertext alone.

Bob sees z, hidden by r, and zeros among random numbers at random places. Alice sees ciphertexts.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.dgk_key import DgkPublicKey, separated
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
        """DGK ciphertexts from Bob per group: each digit's thresholds, and bit l."""
        return self.count * self._thresholds + 1

    @property
    def returned(self) -> int:
        """DGK ciphertexts from Alice per group: c_(-1) and one for each digit."""
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

    def require_room(self, prime: int) -> None:
        """Raise CryptoError unless every c_i counts exactly modulo a prime of u.

        They are from -2 to ``3 * digits``.
        """
        if prime <= 3 * self.count + 2:
            raise CryptoError(
                f"primes of u must be above {3 * self.count + 2} for numbers of {self.value_bits} "
                f"bits, got {prime}"
            )


@dataclass(frozen=True, slots=True)
class Batch:
    """Numbers that are compared at once, and which of them share ciphertexts.

    Parameters
    ----------
    digits : Digits
    primes : tuple of int
        Those of Bob's DGK key.
    count : int
        A multiple of `run`.
    run : int, optional
        Numbers of different runs share no ciphertext; by default all are one run.
    """

    digits: Digits
    primes: tuple[int, ...]
    count: int
    run: int | None = None

    @property
    def groups(self) -> list[range]:
        """Places of the numbers that share ciphertexts, the first number in the first slot."""
        slots, run = len(self.primes), self.run or max(self.count, 1)
        return [
            range(at, min(at + slots, start + run))
            for start in range(0, self.count, run)
            for at in range(start, start + run, slots)
        ]

    @property
    def sent(self) -> int:
        """DGK ciphertexts from Bob."""
        return len(self.groups) * self.digits.sent

    @property
    def returned(self) -> int:
        """DGK ciphertexts from Alice."""
        return len(self.groups) * self.digits.returned


def bits(private_key: DgkPrivateKey, batch: Batch, blinded: Sequence[int]) -> list[mpz]:
    """Bob's answer to blinded numbers (steps 2, 4a and 4b).

    Parameters
    ----------
    private_key : DgkPrivateKey
    batch : Batch
    blinded : sequence of int
        z of each number, at least 0.

    Returns
    -------
    list of mpz
        `Digits.sent` ciphertexts for each group.
    """
    thresholds = [batch.digits.thresholds(z) for z in blinded]
    return private_key.encrypt_slots(
        [
            row
            for group in batch.groups
            for row in zip(*(thresholds[at] for at in group), strict=True)
        ]
    )


def compare(
    public_key: DgkPublicKey,
    batch: Batch,
    encrypted_bits: Sequence[int | mpz],
    masks: Sequence[int],
    coins: Sequence[int],
    *,
    order: Sequence[int] | None = None,
) -> list[mpz]:
    """Alice's part (steps 3 and 4c to 4i).

    Parameters
    ----------
    public_key : DgkPublicKey
        Bob's.
    batch : Batch
    encrypted_bits : sequence of int
        Bob's `bits` of n numbers.
    masks : sequence of int, length n
        r of each number.
    coins : sequence of int, length n
        0 or 1: the result is turned into its opposite by a 1.
    order : sequence of int, length n, optional
        The number whose result is at each place; both must have the same slot. By default Bob's.

    Returns
    -------
    list of mpz
        `Digits.returned` ciphertexts for each group. In the slot of a number one holds 0 if
        ``(d >= 0) xor coin``, else none does; all others hold random numbers. The one is at a
        random place for each number. Slots without a number hold 0.

    Raises
    ------
    CryptoError
        If the slots are too small for such numbers.
    """
    digits = batch.digits
    digits.require_room(min(public_key.primes))
    zero_or_not: list[list[mpz]] = []
    ones: dict[int, list[mpz]] = {}
    for number, group in enumerate(batch.groups):
        size, at = len(group), number * digits.sent
        if size not in ones:
            ones[size] = _ones(public_key, size)
        block = [mpz(bit) for bit in encrypted_bits[at : at + digits.sent]]
        own = [(masks[at], coins[at]) for at in group]
        zero_or_not += _compared(public_key, digits, block, own, ones[size])
    places = range(batch.count) if order is None else order
    fresh = iter(public_key.masks(batch.returned))
    n, primes = mpz(public_key.n), public_key.primes
    return [
        _without_other_slots(_random_multiples(slots, primes, n), primes[len(slots) :], n)
        * next(fresh)
        % n
        for group in batch.groups
        for slots in zip(*(zero_or_not[places[at]] for at in group), strict=True)
    ]


def _ones(public_key: DgkPublicKey, size: int) -> list[mpz]:
    """Return an encrypted 1 of each slot as it is after the slots of a group are separated."""
    n, primes = mpz(public_key.n), public_key.primes[:size]
    return [
        separated(base, primes, n, {prime})[prime]
        for base, prime in zip(public_key.slot_bases, primes, strict=False)
    ]


def _compared(
    public_key: DgkPublicKey,
    digits: Digits,
    block: Sequence[mpz],
    shares: Sequence[tuple[int, int]],
    ones: Sequence[mpz],
) -> list[list[mpz]]:
    """Return the c of each number of a group in random order, each c in the number's slot.

    block : Bob's ciphertexts;  shares : mask and coin of each number;  ones : see `_ones`.
    """
    n, primes = mpz(public_key.n), public_key.primes[: len(shares)]
    *beta, carry = block
    own_digits = zip(*(digits.of(mask) for mask, _ in shares), strict=True)
    alphas = [dict(zip(primes, row, strict=True)) for row in own_digits]
    per_digit = (1 << digits.digit_bits) - 1
    # of each digit the encrypted [beta >= 1], [beta >= 2], ..., each by those slots that use it
    levels = [
        [
            separated(
                beta[i * per_digit + level - 1],
                primes,
                n,
                {prime for prime, digit in alpha.items() if digit in (level - 1, level)},
            )
            for level in range(1, per_digit + 1)
        ]
        for i, alpha in enumerate(alphas)
    ]
    carries = separated(carry, primes, n, primes)
    found = []
    for prime, (mask, coin), one in zip(primes, shares, ones, strict=True):
        # x = [beta >= alpha] and y = [beta > alpha] of each digit; 1 is an encrypted 0
        chosen = [
            (
                level[alpha[prime] - 1][prime] if alpha[prime] else one,
                level[alpha[prime]][prime] if alpha[prime] < per_digit else mpz(1),
            )
            for alpha, level in zip(alphas, levels, strict=True)
        ]
        direction = digits.carry(mask) ^ 1 ^ coin
        group = _differences(chosen, carries[prime], direction, one, n)
        _shuffle(group)
        found.append(group)
    return found


def _differences(
    chosen: Sequence[tuple[mpz, mpz]], carry: mpz, direction: int, one: mpz, n: mpz
) -> list[mpz]:
    """Return c_i of all digits and c_(-1) (steps 4c to 4h); `chosen` are x and y of each digit."""
    carry_inverse, minus_one, *inverses = inverses_of(
        [carry, one, *(x * y % n for x, y in chosen)], n
    )
    # s of the paper, 1 - 2 * delta_A: delta_A is the carry, or 1 less the carry
    if direction:
        total = carry * carry % n * minus_one % n
    else:
        total = carry_inverse * carry_inverse % n * one % n
    group: list[mpz] = []
    # total is s + 3 * sum of w_j of all higher digits j
    for (_, y), inverse in zip(reversed(chosen), reversed(inverses), strict=True):
        sign = one * inverse % n  # [beta < alpha] - [beta > alpha] = 1 - x - y
        group.append(total * sign % n)  # c_i
        w = sign * (y * y % n) % n  # [beta != alpha] = 1 - x + y
        total = total * (w * w % n * w % n) % n
    group.append(total * minus_one % n)  # c_(-1)
    return group


def _random_multiples(ciphertexts: Sequence[mpz], primes: Sequence[int], n: mpz) -> mpz:
    """Join ciphertexts of different slots, each times a random number other than 0 (step 4i)."""
    factors = [
        (ciphertext, _nonzero(prime))
        for ciphertext, prime in zip(ciphertexts, primes, strict=False)
    ]
    product = mpz(1)
    # Straus' interleaving: all share the squarings
    for bit in reversed(range(max(primes).bit_length())):
        product = product * product % n
        for ciphertext, factor in factors:
            if factor >> bit & 1:
                product = product * ciphertext % n
    return product


def _without_other_slots(ciphertext: mpz, others: Sequence[int], n: mpz) -> mpz:
    """Clear the slots that no number has: Bob may have put something into them."""
    return gmpy2.powmod(ciphertext, math.prod(others), n) if others else ciphertext


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
    private_key: DgkPrivateKey, batch: Batch, ciphertexts: Sequence[int | mpz]
) -> list[int]:
    """Bob's look for zeros (step 4j).

    Parameters
    ----------
    private_key : DgkPrivateKey
    batch : Batch
    ciphertexts : sequence of int
        Alice's.

    Returns
    -------
    list of int
        For each number 1 where one of the ciphertexts holds 0 in its slot, else 0.
    """
    each, found = batch.digits.returned, []
    for number, group in enumerate(batch.groups):
        at = number * each
        zero = private_key.zero_slots(ciphertexts[at : at + each], len(group))
        found += [int(any(slot)) for slot in zip(*zero, strict=True)]
    return found


def _nonzero(prime: int) -> int:
    return secrets.randbelow(prime - 1) + 1
