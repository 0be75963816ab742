"""Many queries side by side in one Paillier plaintext, in slots of any width.

joined = sum over i of integer[i] * 2**(bits * i)

`fl_he.crypto.paillier.packing` does the same in numpy for slots of up to 64 bits; here slots are
wider, since a masked number is.

Where the queries of one number fill less than half of a plaintext, `merge` lays several numbers
side by side, each with all its queries. The key's owner then decrypts one ciphertext for as many
numbers as have room, instead of one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.public_key import PublicKey

#: What is seen of one masked number is within ``2**-STATISTICAL_BITS`` of what would be seen of any
#: other, and of N masked numbers within N times that. More bits for a batch would cost slots: of
#: numbers of 32 bits a plaintext of 2048 bits holds 27 with 40 bits, 22 with 56.
STATISTICAL_BITS = 40


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """Layout of numbers in the plaintexts of one key.

    Parameters
    ----------
    value_bits : int
        l: numbers are compared that are below ``2**value_bits`` in size, 1 to 80.
    key_bits : int
        Length of the Paillier modulus.
    slot_bits : int, optional
        Width of a slot; by default that of a number, its mask, and the carry of their sum.

    Raises
    ------
    CryptoError
        If the key has no room for a single slot.
    """

    value_bits: int
    key_bits: int
    slot_bits: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.value_bits <= 80:
            raise CryptoError(f"value_bits must be between 1 and 80, got {self.value_bits}")
        if self.slots < 1:
            raise CryptoError(
                f"key_bits must be at least {self.bits + 2} for value_bits={self.value_bits}, got "
                f"{self.key_bits}"
            )

    @property
    def bits(self) -> int:
        """Width of a slot."""
        return self.slot_bits or self.value_bits + STATISTICAL_BITS + 2

    @property
    def mask_bits(self) -> int:
        """Length of masks: ``2**value_bits`` plus a signed number has value_bits + 1 bits."""
        return self.value_bits + 1 + STATISTICAL_BITS

    @property
    def slots(self) -> int:
        """Number of queries in one plaintext: their slots stay below half of the modulus."""
        return (self.key_bits - 2) // self.bits

    def narrowed(self, value_bits: int) -> SlotLayout:
        """Return the same slots for shorter numbers.

        Raises
        ------
        CryptoError
            If the numbers would be longer.
        """
        if value_bits > self.value_bits:
            raise CryptoError(
                f"numbers must have at most {self.value_bits} bits here, got {value_bits}"
            )
        return replace(self, value_bits=value_bits, slot_bits=self.bits)

    def packs(self, queries: int) -> int:
        """Return how many plaintexts this many queries need."""
        return -(-queries // self.slots)

    def together(self, queries: int) -> int:
        """Return how many numbers of this many queries have room in one plaintext, at least 1."""
        return max(1, self.slots // queries)

    def place(self, query: int) -> tuple[int, int]:
        """Return the plaintext in which a query lies, and what its slot is worth there."""
        pack, slot = divmod(query, self.slots)
        return pack, 1 << (slot * self.bits)

    def join(self, integers: Sequence[int]) -> list[int]:
        """Lay one signed integer per query into plaintexts."""
        bits, joined = self.bits, []
        for start in range(0, len(integers), self.slots):
            plaintext = 0
            for integer in reversed(integers[start : start + self.slots]):
                plaintext = (plaintext << bits) + int(integer)
            joined.append(plaintext)
        return joined

    def split(self, plaintexts: Sequence[int], queries: int) -> list[int]:
        """Take non-negative integers out of plaintexts, one per query.

        Raises
        ------
        CryptoError
            If the plaintexts do not hold exactly this many.
        """
        if len(plaintexts) != self.packs(queries):
            raise CryptoError(
                f"plaintexts must be {self.packs(queries)} for {queries} queries, got "
                f"{len(plaintexts)}"
            )
        low, integers = (1 << self.bits) - 1, []
        for pack, plaintext in enumerate(plaintexts):
            rest = int(plaintext)
            for _ in range(min(self.slots, queries - pack * self.slots)):
                integers.append(rest & low)
                rest >>= self.bits
            if rest:
                raise CryptoError(f"plaintext {pack} must be empty after its last slot")
        return integers


def merged_count(layout: SlotLayout, numbers: int, queries: int) -> int:
    """Return how many ciphertexts this many numbers are, merged if they can be."""
    together = layout.together(queries)
    return -(-numbers // together) if together > 1 else numbers * layout.packs(queries)


def grouped(layout: SlotLayout, rows: Sequence[Sequence[int]], queries: int) -> list[list[int]]:
    """Return each number's integers, one for each query, in the lists that share a ciphertext."""
    together = layout.together(queries)
    return [
        [integer for row in rows[start : start + together] for integer in row]
        for start in range(0, len(rows), together)
    ]


def merge(
    public_key: PublicKey, layout: SlotLayout, numbers: Sequence[mpz], queries: int
) -> list[mpz]:
    """Put ciphertexts of signed numbers together, `layout.together` of them in each.

    Parameters
    ----------
    public_key : PublicKey
    layout : SlotLayout
    numbers : sequence of mpz
        One ciphertext for each number.
    queries : int
        At most half of the layout's slots.
    """
    together, n_squared = layout.together(queries), public_key.n_squared
    shift = 1 << (layout.bits * queries)
    merged = []
    for start in range(0, len(numbers), together):
        total = mpz(1)
        for number in reversed(numbers[start : start + together]):
            total = gmpy2.powmod(total, shift, n_squared) * number % n_squared
        merged.append(total)
    return merged


def split_merged(
    layout: SlotLayout, plaintexts: Sequence[int], numbers: int, queries: int
) -> list[int]:
    """Take non-negative integers out of `merged_count` plaintexts, by number, then by query.

    Raises
    ------
    CryptoError
        If the plaintexts do not hold exactly this many.
    """
    if len(plaintexts) != merged_count(layout, numbers, queries):
        raise CryptoError(
            f"plaintexts must be {merged_count(layout, numbers, queries)} for {numbers} numbers of "
            f"{queries} queries, got {len(plaintexts)}"
        )
    together, packs = layout.together(queries), layout.packs(queries)
    integers = []
    for group, start in enumerate(range(0, numbers, together)):
        count = min(together, numbers - start) * queries
        integers += layout.split(plaintexts[group * packs : (group + 1) * packs], count)
    return integers
