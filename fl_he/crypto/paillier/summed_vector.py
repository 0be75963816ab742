"""Encrypted vectors of any scheme: the interface of `EncryptedVector` and `MaskedVector`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from cryptography.utils import Buffer

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import Scheme


class SummedVector(ABC):
    """A vector of totals that only company X can open.

    Parameters
    ----------
    fingerprint : str
        Fingerprint of company X's key.
    packing : Packing
        Fixed-point format of the values.
    tagged : bool
        Whether tags go with the values; see :mod:`fl_he.crypto.tickets`.
    """

    __slots__ = ("fingerprint", "packing", "tagged")

    #: See `fl_he.crypto.schemes`.
    scheme: ClassVar[Scheme]

    def __init__(self, fingerprint: str, packing: Packing, *, tagged: bool) -> None:
        self.fingerprint, self.packing, self.tagged = fingerprint, packing, tagged

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of values."""

    @property
    @abstractmethod
    def ciphertexts(self) -> int:
        """Number of ciphertexts."""

    @abstractmethod
    def parts(self) -> tuple[Buffer, ...]:
        """Return the header and the body, which make up `to_bytes`."""

    @property
    def nbytes(self) -> int:
        """Size of `to_bytes`."""
        return sum(memoryview(part).nbytes for part in self.parts())

    def to_bytes(self) -> bytes:
        """Return the header and the body."""
        return b"".join(self.parts())

    @classmethod
    @abstractmethod
    def from_bytes(cls, data: bytes | memoryview, public_key: PublicKey) -> Self:
        """Read a vector that another node sent.

        Parameters
        ----------
        data : bytes or memoryview
            What `to_bytes` returns.
        public_key : PublicKey
            The key that it must be under.

        Raises
        ------
        CryptoError
            If the data is anything else.
        """

    def add_in_place(self, other: Self, public_key: PublicKey) -> None:
        """Add another vector to this one.

        Parameters
        ----------
        other : SummedVector
            Of the same scheme, key, packing and length.
        public_key : PublicKey
            Their key.

        Raises
        ------
        CryptoError
            If the scheme, the key, the packing or the length differs.
        """
        if other.scheme != self.scheme:
            raise CryptoError(f"the scheme must be {self.scheme}, got {other.scheme}")
        self.require_key(public_key)
        other.require_key(public_key)
        if other.packing != self.packing:
            raise CryptoError(f"packing must be {self.packing}, got {other.packing}")
        if len(other) != len(self):
            raise CryptoError(f"length must be {len(self)}, got {len(other)}")
        if other.tagged != self.tagged:
            raise CryptoError("both vectors must have tags, or neither")
        self._add(other, public_key)

    @abstractmethod
    def _add(self, other: Self, public_key: PublicKey) -> None:
        """Add a vector that fits this one."""

    def require_key(self, public_key: PublicKey) -> None:
        """Raise CryptoError unless the vector is under this key."""
        if public_key.fingerprint != self.fingerprint:
            raise CryptoError(f"the key must be {self.fingerprint}, got {public_key.fingerprint}")
