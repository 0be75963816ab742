"""Encrypted votes: one 1 among zeros for each query, summed as any other vector is.

The querying party, who knows which position won under the answering party's permutation, encrypts
the ones and zeros under the guardian's key, each in the slot of its query. The answering party puts
them in the order of the classes, adds up the queries of a slot, and rerandomises. The vector has a
block for each class, as long as whole ciphertexts hold queries, so that each class's counts are
ciphertexts of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey


def encrypt_winners(
    public_key: PublicKey, layout: SlotLayout, classes: int, winners: Sequence[int]
) -> list[int]:
    """Return one ciphertext for each query and position: 1 for the winner, in the query's slot."""
    return public_key.encrypt(
        [
            layout.place(query)[1] if position == winner else 0
            for query, winner in enumerate(winners)
            for position in range(classes)
        ]
    )


def collect_votes(
    public_key: PublicKey,
    layout: SlotLayout,
    packing: Packing,
    positions: Sequence[int],
    permutations: Sequence[Sequence[int]],
    *,
    masks: Callable[[int], list[int]] | None = None,
) -> EncryptedVector:
    """Put positions back into the order of classes.

    Parameters
    ----------
    public_key : PublicKey
        The guardian's.
    layout : SlotLayout
    packing : Packing
        Of the sum; its slots must be the layout's.
    positions : sequence of int
        `encrypt_winners` of the querying party.
    permutations : sequence of sequence of int
        [query][position]: the class at that position.
    masks : callable or None
        Returns this many numbers, which are added to the plaintexts modulo n. They hide the vote
        from the owner of the key. The vote's randomness is uniform, too: a node that knows the
        positions' randomness cannot tell to which class a position went.
    """
    queries, classes = len(permutations), len(permutations[0])
    packs, n_squared = layout.packs(queries), public_key.n_squared
    products = [[mpz(1)] * packs for _ in range(classes)]
    for query, order in enumerate(permutations):
        pack = query // layout.slots
        for position, label in enumerate(order):
            vote = positions[query * classes + position]
            products[label][pack] = products[label][pack] * vote % n_squared
    collected = [int(product) for row in products for product in row]
    if masks is None:
        body = public_key.rerandomise(collected)
    else:
        hidden = public_key.owner_masker.encrypt(masks(len(collected)))
        body = [public_key.add(*both) for both in zip(collected, hidden, strict=True)]
    return EncryptedVector(
        public_key,
        packing,
        vote_length(public_key, layout, packing, classes, queries),
        bytearray(public_key.to_bytes(body)),
    )


def vote_length(
    public_key: PublicKey, layout: SlotLayout, packing: Packing, classes: int, queries: int
) -> int:
    """Return the length of the vector: whole ciphertexts for each class.

    Raises
    ------
    CryptoError
        If the packing's slots are not the layout's.
    """
    slots = packing.slots_per_ciphertext(public_key.key_bits)
    if (packing.slot_bits, slots) != (layout.bits, layout.slots):
        raise CryptoError(
            f"slots must be {layout.slots} of {layout.bits} bits, "
            f"got {slots} of {packing.slot_bits}"
        )
    return classes * layout.packs(queries) * layout.slots


def encrypt_counts(
    public_key: PublicKey, layout: SlotLayout, packing: Packing, counts: NDArray[np.int64]
) -> EncryptedVector:
    """Encrypt counts, or noise on them, of shape (classes, queries)."""
    classes, queries = counts.shape
    length = vote_length(public_key, layout, packing, classes, queries)
    padded = np.zeros((classes, length // classes), dtype=np.int64)
    padded[:, :queries] = counts
    return EncryptedVector.encrypt_integers(public_key, packing, padded.reshape(-1))


def by_class(vector: EncryptedVector, classes: int) -> list[list[int]]:
    """Return the ciphertexts of each class, shape (classes, packs)."""
    ciphertexts = vector.to_integers()
    packs = len(ciphertexts) // classes
    return [ciphertexts[at : at + packs] for at in range(0, len(ciphertexts), packs)]
