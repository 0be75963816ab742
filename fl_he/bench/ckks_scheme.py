"""TenSEAL's CKKS: approximate arithmetic on vectors under lattice-based encryption."""

from __future__ import annotations

from typing import Any

import numpy as np

from fl_he.bench.scheme import Vector

INSTALL = "not installed: pip install fl-he[bench]"

_POLY_MODULUS_DEGREE = 8192
_COEFF_MOD_BIT_SIZES = [60, 40, 60]
_GLOBAL_SCALE = 2.0**40
_SLOTS = _POLY_MODULUS_DEGREE // 2

Chunks = list[Any]  # of TenSEAL's CKKSVector; TenSEAL has no types


class CkksScheme:
    """CKKS with the parameters of TenSEAL's tutorials, encrypting with the public key.

    Vectors are cut into chunks of 4,096 values, as many as a ciphertext has slots.

    Raises
    ------
    ImportError
        If TenSEAL is not installed.
    """

    def __init__(self) -> None:
        import tenseal  # noqa: PLC0415 - an extra, and the other schemes work without it

        self._vector = tenseal.ckks_vector
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            _POLY_MODULUS_DEGREE,
            coeff_mod_bit_sizes=_COEFF_MOD_BIT_SIZES,
        )
        self._context.global_scale = _GLOBAL_SCALE

    def encrypt(self, values: Vector) -> Chunks:
        """See Scheme."""
        return [
            self._vector(self._context, values[start : start + _SLOTS].tolist())
            for start in range(0, len(values), _SLOTS)
        ]

    def add(self, total: Chunks, update: Chunks) -> Chunks:
        """See Scheme."""
        for mine, theirs in zip(total, update, strict=True):
            mine.add_(theirs)
        return total

    def decrypt(self, total: Chunks) -> Vector:
        """See Scheme."""
        return np.concatenate([chunk.decrypt() for chunk in total])

    def size(self, update: Chunks) -> int:
        """See Scheme."""
        return sum(len(chunk.serialize()) for chunk in update)
