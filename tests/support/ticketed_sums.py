"""Sums of updates that tests make up, each with tickets as its contributors would send them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import ArrayLike, NDArray

from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import PAILLIER
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import EncryptionRequest


@dataclass
class MadeSum:
    """A total of several hospitals, encrypted anew for each occasion and only once for it.

    Attributes
    ----------
    key : PublicKey
    values : array_like
        The total.
    contributors : int or sequence of str
        The number of hospitals with a ticket in it, or their names.
    packing : Packing
    asked : bytes
        See `Occasion`.
    metric_values, scheme
        See `Occasion`.
    value_key : bytes or None
        Company X's, of whoever makes the sum up and has been given one.
    """

    key: PublicKey
    values: ArrayLike
    contributors: int | Sequence[str] = 3
    packing: Packing = field(default_factory=Packing)
    asked: bytes = bytes(32)
    metric_values: int = 0
    scheme: str = PAILLIER
    value_key: bytes | None = field(default=None, repr=False)
    _made: dict[tuple[str, str, int], bytes] = field(default_factory=dict)

    def made(self, session: str, purpose: str = "train", round_: int = 1) -> TicketedSum:
        """Return the sum for an occasion: the first hospital has the total, the others zeros."""
        integers = self.packing.encode(np.array(self.values, dtype=np.float64).ravel())
        occasion = Occasion(
            *(self.key.fingerprint, session, purpose, round_),
            *(self.asked, self.packing, len(integers), self.metric_values),
            scheme=self.scheme,
        )
        names = self.contributors
        if isinstance(names, int):
            names = [f"hospital-{number}" for number in range(names)]
        (first, *others), zeros = names, np.zeros_like(integers)
        total, *rest = (
            TicketedSum.encrypt(self.key, own, occasion, name, value_key=self.value_key)
            for name, own in ((first, integers), *((name, zeros) for name in others))
        )
        for other in rest:
            total.add_in_place(other, self.key)
        return total

    def to_bytes(self, session: str, purpose: str = "train", round_: int = 1) -> bytes:
        """Return the bytes of the sum for an occasion, always the same."""
        occasion = session, purpose, round_
        if occasion not in self._made:
            self._made[occasion] = self.made(*occasion).to_bytes()
        return self._made[occasion]


def key_records(value_key: bytes, run_key: bytes | None) -> dict[str, ArrayRecord]:
    """Return the records with a hospital's value key and the statement of the run's key."""
    request = EncryptionRequest("", "", "", 1, value_key=value_key, run_key=run_key)
    return dict(request.to_content().array_records)


def added(data: Sequence[bytes], key: PublicKey) -> bytes:
    """Return the sum of updates as hospitals have sent them."""
    first, *others = (TicketedSum.from_bytes(one, key) for one in data)
    for other in others:
        first.add_in_place(other, key)
    return first.to_bytes()


def unchecked(data: bytes, key: PrivateKey) -> NDArray[np.float64]:
    """Return the total of a sum, without a check of its tickets."""
    vector = TicketedSum.from_bytes(data, key.public_key).vector
    return vector.packing.decode(key.decrypt_tagged(vector)[0])
