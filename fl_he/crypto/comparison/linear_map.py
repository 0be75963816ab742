"""A matrix times an encrypted vector: one power of a ciphertext for each weight.

Every ciphertext holds one feature of many queries, in slots (see `slot_layout`), so that one power
serves all of them: the weights are the same for every query.
"""

from __future__ import annotations

from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.paillier.powers import first_powers
from fl_he.crypto.paillier.public_key import PublicKey

_WINDOW = 4


def linear_map(
    public_key: PublicKey,
    weights: Sequence[Sequence[int]],
    features: Sequence[int],
    offsets: Sequence[int],
) -> list[int]:
    """Return ciphertexts of ``weights @ features + offsets``.

    The results are not rerandomised: whoever gets them next must not be the key's owner.

    Parameters
    ----------
    public_key : PublicKey
    weights : sequence of sequence of int, shape (outputs, inputs)
    features : sequence of int, shape (inputs,)
        Ciphertexts.
    offsets : sequence of int, shape (outputs,)
        Plaintexts, with slots.

    Returns
    -------
    list of int, shape (outputs,)
    """
    n, n_squared = mpz(public_key.n), public_key.n_squared
    # Straus' interleaving: all inputs share the squarings of one output, all outputs share the
    # small powers of one input.
    largest = max((abs(w) for row in weights for w in row), default=0)
    windows = -(-int(largest).bit_length() // _WINDOW)
    used = [any(row[j] for row in weights) for j in range(len(features))]
    powers = [
        first_powers(mpz(feature), n_squared, 1 << _WINDOW) if use else []
        for feature, use in zip(features, used, strict=True)
    ]
    results = []
    for row, offset in zip(weights, offsets, strict=True):
        up, down = mpz(1), mpz(1)  # weights above and below 0
        for window in reversed(range(windows)):
            if window != windows - 1:
                up = gmpy2.powmod(up, 1 << _WINDOW, n_squared)
                down = gmpy2.powmod(down, 1 << _WINDOW, n_squared)
            shift = window * _WINDOW
            for weight, small in zip(row, powers, strict=True):
                digit = (abs(weight) >> shift) & ((1 << _WINDOW) - 1)
                if not digit:
                    continue
                if weight > 0:
                    up = up * small[digit] % n_squared
                else:
                    down = down * small[digit] % n_squared
        total = up * gmpy2.invert(down, n_squared) % n_squared * (1 + n * (offset % n)) % n_squared
        results.append(int(total))
    return results
