"""Tell Alice Bob's number if one of several hidden bits is 1; Bob does not learn whether.

Bob has, for each query, shares of n bits (bit xor Alice's coin), and a number below `ANSWERS`.
Alice gets the number if any bit is 1, and otherwise a random one; nobody learns which bit it was.

    B  encrypt_bits   [share_j]                                                  -> A
    A  any_of         s = the number of ones;  c_1, ..., c_n, one of which holds 0 if and only if
                      (s > 0) xor (not coin);  [[coin]] under Alice's own key    -> B
    B  release        number + random * (1 - any)                                -> A

Alice's c are ``s, random, ...`` for a coin of 0 and ``s - 1, ..., s - n`` for a 1, each times a
random number: s is from 0 to n. So Bob's bit is uniform, and `release` undoes the coin under
Alice's key: ``any`` is linear in the coin. The c are in random order and tell only that bit.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.public_key import PublicKey

#: Numbers to be told are below it.
ANSWERS = 1 << 16
_RANDOM_BITS = 64  # hides a number of 16 bits to 2**-48
_VALUE_BITS = 32  # 74 bits to a slot: room for the random number

_shuffle = secrets.SystemRandom().shuffle


def answer_layout(public_key: PublicKey) -> SlotLayout:
    """Return how answers lie in plaintexts of Alice's key."""
    return SlotLayout(_VALUE_BITS, public_key.key_bits)


def any_of(
    dgk_key: DgkPublicKey, shares: Sequence[int | mpz], coins: Sequence[Sequence[int]]
) -> tuple[list[mpz], list[int]]:
    """Alice's step.

    Parameters
    ----------
    dgk_key : DgkPublicKey
        Bob's.
    shares : sequence of int
        Bob's encrypted shares, n for each query.
    coins : sequence of sequence of int, shape (queries, n)
        Alice's shares.

    Returns
    -------
    compared : list of mpz
        n for each query.
    secret : list of int
        A coin for each query, to be sent under encryption only.

    Raises
    ------
    CryptoError
        If a prime of u is not above n.
    """
    n, g = mpz(dgk_key.n), mpz(dgk_key.g)
    compared: list[mpz] = []
    secret = []
    at = 0
    for own in coins:
        count = len(own)
        if min(dgk_key.primes) <= count:
            raise CryptoError(
                f"primes of u must be above {count} for this many bits, got {min(dgk_key.primes)}"
            )
        total = mpz(1)
        for coin, share in zip(own, shares[at : at + count], strict=True):
            total = total * (g * gmpy2.invert(share, n) if coin else share) % n
        at += count
        coin = secrets.randbits(1)
        secret.append(coin)
        if coin:
            group = [total * gmpy2.powmod(g, -less, n) % n for less in range(1, count + 1)]
        else:
            group = [total, *[g] * (count - 1)]  # `_hidden` makes random numbers of the ones
        _shuffle(group)
        compared += group
    return _hidden(dgk_key, compared), secret


def _hidden(public_key: DgkPublicKey, ciphertexts: Sequence[mpz]) -> list[mpz]:
    """Multiply each plaintext by a random number, in the first slot, and clear all other slots.

    Otherwise the key's owner could put another question into each slot.
    """
    n, prime = mpz(public_key.n), public_key.primes[0]
    others, masks = public_key.u // prime, public_key.masks(len(ciphertexts))
    return [
        gmpy2.powmod(ciphertext, others * (1 + secrets.randbelow(prime - 1)), n) * mask % n
        for ciphertext, mask in zip(ciphertexts, masks, strict=True)
    ]


def encrypt_coins(public_key: PublicKey, coins: Sequence[int]) -> list[int]:
    """Encrypt Alice's coins under her own key, each in the slot of its query's answer."""
    layout = answer_layout(public_key)
    return public_key.encrypt([coin * layout.place(query)[1] for query, coin in enumerate(coins)])


def release(
    public_key: PublicKey,
    numbers: Sequence[int],
    results: Sequence[int],
    encrypted_coins: Sequence[int],
) -> list[int]:
    """Bob's last step.

    Parameters
    ----------
    public_key : PublicKey
        Alice's.
    numbers : sequence of int
        What to tell for each query, from 0 to ``ANSWERS - 1``.
    results : sequence of int
        Whether a c was 0 for each query.
    encrypted_coins : sequence of int
        From `encrypt_coins`, for the same queries.

    Returns
    -------
    list of int
        Ciphertexts for Alice, with the answers in slots.
    """
    if not all(0 <= number < ANSWERS for number in numbers):
        raise CryptoError(f"numbers must be from 0 to {ANSWERS - 1} (values withheld)")
    layout = answer_layout(public_key)
    # 1 - any is 1 - coin where a c was 0, and coin where none was
    noise = [ANSWERS + secrets.randbits(_RANDOM_BITS) for _ in numbers]
    plain = [a + b if result else a for a, b, result in zip(numbers, noise, results, strict=True)]
    packs = public_key.owner_masker.encrypt(layout.join(plain))
    for query, (coin, result) in enumerate(zip(encrypted_coins, results, strict=True)):
        exponent = -noise[query] if result else noise[query]
        pack = query // layout.slots  # the coin lies in its slot already
        power = gmpy2.powmod(coin, exponent, public_key.n_squared)
        packs[pack] = public_key.add(packs[pack], power)
    return packs


def answers(layout: SlotLayout, plaintexts: Sequence[int], queries: int) -> list[int | None]:
    """Return what Alice was told for each query; None where no bit was 1."""
    return [number if number < ANSWERS else None for number in layout.split(plaintexts, queries)]
