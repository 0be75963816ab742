"""Tags of a vector, and their check in a sum.

A Paillier vector has one for each ciphertext, a masked vector one for all of its values.

The tag of ciphertext b is ``t_b = <r_b, x_b> + s_b mod q``: x_b are the ciphertext's fixed-point
integers, r_b comes from the value key, which all hospitals of a session share with company X, and
s_b from the seed of the update's ticket. The seed is used once, so a tag tells nothing of x_b to
anybody without it (a one-time message authentication code; Wegman, Carter, JCSS 1981). Whoever
changes a sum by an integer vector d, and knows no r_b, keeps the tag right with probability 1/q:
the slots of d are smaller than q, so d is not 0 modulo q.

What travels is t_b plus a random multiple of q. Company X knows s_b and r_b, and decrypts the sum
of the tags as an integer: without these multiples it would tell how often tags have wrapped around
at q, and so exclude guesses of one hospital's update.

Without a value key r_b is 0. The tags then tell whose updates were added up, ciphertext by
ciphertext, and not whether a value was changed. A masked vector has no tag then.

The tag of a masked vector is the same with one b. It travels modulo q, and whoever adds tags adds
them so: that shows no wrapping, and needs no multiples of q. A coordinator that adds a vector d to
the words changes the total by d, or by d less ``2**(8 * w)`` where a word wraps, which is a vector
that is not 0 modulo q either. The numbers of r are uniform below 2**96: for each change of the
total one value at most of any of them keeps the tag right.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.encoding.streams import KeyStream, key_stream
from fl_he.crypto.paillier.packing import TAG_LIMIT, TAG_MODULUS

#: Bytes of the stream for a number modulo q, which is uniform to 2**-95 by that.
_NUMBER_BYTES = 24

# Products are made of limbs of 16 bits, in float64, which is exact: they are below 2**32 in size,
# and sums of a block's below 2**53.
_LIMB_BITS, _FACTOR_LIMBS, _VALUE_LIMBS = 16, 6, 4
_BLOCK = 2**13


def numbers(secret: bytes, info: bytes, count: int) -> list[int]:
    """Return numbers modulo `TAG_MODULUS` from a secret, uniform for whoever does not know it."""
    stream = key_stream(secret, info, count * _NUMBER_BYTES)
    return [
        int.from_bytes(stream[at : at + _NUMBER_BYTES], "big") % TAG_MODULUS
        for at in range(0, len(stream), _NUMBER_BYTES)
    ]


def products(rows: NDArray[np.int64], value_key: bytes | None, info: bytes) -> list[int]:
    """Return ``<r_b, x_b>`` modulo `TAG_MODULUS` for each row of integers; 0 without a value key.

    Parameters
    ----------
    rows : int64 array of shape (ciphertexts, values in each)
        Fixed-point integers of one update, or of a sum.
    value_key : bytes of length 32, or None
        Company X's, or nothing.
    info : bytes
        What the value key is used for.
    """
    if value_key is None:
        return [0] * len(rows)
    factors = numbers(value_key, info, rows.size)
    found, width = [], rows.shape[1]
    for at, row in enumerate(rows.tolist()):
        of_row = factors[at * width : (at + 1) * width]
        found.append(sum(r * x for r, x in zip(of_row, row, strict=True)) % TAG_MODULUS)
    return found


def product(integers: NDArray[np.int64], value_key: bytes, info: bytes) -> int:
    """Return ``<r, x>`` modulo `TAG_MODULUS` for all integers of a masked vector, or of a sum.

    Parameters
    ----------
    integers : int64 array of shape (length,)
        Fixed-point integers.
    value_key : bytes of length 32
        Company X's.
    info : bytes
        Use of the value key.
    """
    stream, whole = KeyStream(value_key, info), 0
    for at in range(0, len(integers), _BLOCK):
        block = integers[at : at + _BLOCK].astype("<i8")
        factors = np.frombuffer(stream.read(2 * _FACTOR_LIMBS * len(block)), dtype="<u2")
        limbs = block.view("<u2").reshape(-1, _VALUE_LIMBS).astype(np.float64)
        limbs[:, -1] = block >> (_LIMB_BITS * (_VALUE_LIMBS - 1))  # the highest limb has the sign
        sums = limbs.T @ factors.reshape(-1, _FACTOR_LIMBS).astype(np.float64)
        for (mine, theirs), limb in np.ndenumerate(sums):
            whole += int(limb) << (_LIMB_BITS * (mine + theirs))
    return whole % TAG_MODULUS


def tags_of(products_: Sequence[int], seed: bytes, info: bytes) -> list[int]:
    """Return an update's tags, new integers each time, by its products and its ticket's seed."""
    masks, multiples = numbers(seed, info, len(products_)), TAG_LIMIT // TAG_MODULUS
    return [
        (own + mask) % TAG_MODULUS + TAG_MODULUS * secrets.randbelow(multiples)
        for own, mask in zip(products_, masks, strict=True)
    ]


def fit(
    sums: Sequence[int], products_: Sequence[int], seeds: Iterable[tuple[bytes, bytes]]
) -> bool:
    """Tell whether the tags of a sum are those of its contributors' updates.

    Parameters
    ----------
    sums : sequence of int
        Sums of tags as decrypted: integers, not residues.
    products_ : sequence of int
        Of the total's integers.
    seeds : iterable of (bytes, bytes)
        Seed and info of each contributor's ticket.
    """
    expected, contributors = list(products_), 0
    for seed, info in seeds:
        contributors += 1
        for at, mask in enumerate(numbers(seed, info, len(expected))):
            expected[at] += mask
    largest = contributors * (TAG_LIMIT - 1)
    if len(sums) != len(expected):
        return False
    # A list: the time must not tell which ciphertext was the first that does not fit.
    right = [
        (0 <= found <= largest) & ((found - wanted) % TAG_MODULUS == 0)
        for found, wanted in zip(sums, expected, strict=True)
    ]
    return all(right)
