"""phe element by element: an EncryptedNumber for each value, with phe's own float encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from phe import paillier

from fl_he.bench.scheme import Vector

Numbers = list[Any]  # of phe's EncryptedNumber; phe has no types


class PheScheme:
    """What a script does that loops over phe: one ciphertext and one exponent for each value.

    Parameters
    ----------
    key_bits : int
        Length of the modulus.
    """

    def __init__(self, key_bits: int) -> None:
        self._public_key, self._private_key = paillier.generate_paillier_keypair(n_length=key_bits)
        self._ciphertext_bytes = key_bits // 4

    def encrypt(self, values: Vector) -> Numbers:
        """See Scheme."""
        return [self._public_key.encrypt(value) for value in values.tolist()]

    def add(self, total: Numbers, update: Numbers) -> Numbers:
        """See Scheme."""
        return [mine + theirs for mine, theirs in zip(total, update, strict=True)]

    def decrypt(self, total: Numbers) -> Vector:
        """See Scheme."""
        return np.array([self._private_key.decrypt(number) for number in total])

    def size(self, update: Numbers) -> int:
        """Return the bytes of the ciphertexts alone: how exponents travel is up to the script."""
        return len(update) * self._ciphertext_bytes
