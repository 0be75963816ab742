"""fl-he in this process: the key is loaded and its table is built."""

from __future__ import annotations

from fl_he.bench.scheme import Vector
from fl_he.crypto.encrypted_vector import EncryptedVector
from fl_he.crypto.packing import Packing
from fl_he.crypto.private_key import PrivateKey


class PackedScheme:
    """fl-he's packed Paillier encryption with its default packing.

    Parameters
    ----------
    key : PrivateKey
        The key holder's.
    cores : int
        How many cores it may use.
    """

    def __init__(self, key: PrivateKey, cores: int) -> None:
        self._key = key
        self._cores = cores
        self._packing = Packing()

    def encrypt(self, values: Vector) -> EncryptedVector:
        """See Scheme."""
        return EncryptedVector.encrypt(
            self._key.public_key, self._packing, values, cores=self._cores
        )

    def add(self, total: EncryptedVector, update: EncryptedVector) -> EncryptedVector:
        """See Scheme."""
        total.add_in_place(update, self._key.public_key)
        return total

    def decrypt(self, total: EncryptedVector) -> Vector:
        """See Scheme."""
        return self._key.decrypt_vector(total, cores=self._cores)

    def size(self, update: EncryptedVector) -> int:
        """See Scheme."""
        return update.nbytes
