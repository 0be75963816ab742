"""Masked words are uniform without the seed, also in sums; a stream used twice is found.

The tests take the same update in many runs, with the seeds that hospitals take.
"""

from __future__ import annotations

import secrets
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from fl_he.crypto.masks.masked_vector import HEADER_BYTES, MaskedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

KEY = PrivateKey.generate(1024)
PUBLIC = KEY.public_key
PACKINGS = [
    Packing(10, 10, 8),
    Packing(16, 16, 9),
    Packing(20, 20, 30),
    Packing(24, 24, 3),
    Packing(0, 63, 1),
    Packing(29, 32, 4),
]
_FAR = 7.0  # standard deviations: by chance less than once in 10**8 for each statistic


def sent(packing: Packing, integers: np.ndarray, name: str, number: int = 1) -> TicketedSum:
    occasion = Occasion(
        *(PUBLIC.fingerprint, "session", "train", number, bytes(32), packing, len(integers)),
        scheme=MASKS,
    )
    return TicketedSum.encrypt(PUBLIC, integers, occasion, name)


def words_of(summed: TicketedSum) -> np.ndarray:
    """Return words as an array of bytes, of shape (length, width)."""
    assert isinstance(summed.vector, MaskedVector)
    body = np.frombuffer(summed.vector.to_bytes(), dtype=np.uint8, offset=HEADER_BYTES)
    return body.reshape(len(summed.vector), -1)


def values_of(words: np.ndarray) -> list[int]:
    return [int.from_bytes(word.tobytes(), "little") for word in words]


def farthest(words: np.ndarray) -> float:
    """Return the largest deviation from uniform words, in standard deviations.

    Of each bit, of each byte's distribution (chi-square), and of how often two bits next to each
    other are equal, at each place of a word.
    """
    count = len(words)
    bits = np.unpackbits(words, axis=1).astype(np.int64)
    found = [np.abs(bits.sum(axis=0) - count / 2) / np.sqrt(count / 4)]
    equal = (bits[:, 1:] == bits[:, :-1]).sum(axis=0)
    found.append(np.abs(equal - count / 2) / np.sqrt(count / 4))
    for column in words.T:
        chi = (256 / count * np.bincount(column, minlength=256).astype(float) ** 2).sum() - count
        found.append(np.abs([(chi - 255) / np.sqrt(2 * 255)]))
    return float(np.concatenate(found).max())


def same_streams(updates: list[tuple[np.ndarray, TicketedSum]]) -> list[int]:
    """Return the numbers of the pairs of vectors that have numbers of their streams in common."""
    found = []
    for number, ((x, one), (y, other)) in enumerate(combinations(updates, 2)):
        modulus = 2 ** (8 * words_of(one).shape[1])
        streams = [
            {(word - int(own)) % modulus for word, own in zip(words, integers, strict=True)}
            for words, integers in (
                (values_of(words_of(one)), x),
                (values_of(words_of(other)), y),
            )
        ]
        if len(streams[0] & streams[1]) > 1:  # one is chance: with 4 bytes, 1 pair in 4,000
            found.append(number)
    return found


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("edge", [0, 1, -1])
def test_words_of_one_update_over_runs(packing: Packing, edge: int) -> None:
    integers = np.full(500, edge * packing.maximum_integer)
    runs = [words_of(sent(packing, integers, "north")) for _ in range(40)]
    assert farthest(np.concatenate(runs)) < _FAR
    one_place = np.array([words[7] for words in runs])
    assert len(np.unique(one_place, axis=0)) == 40


@pytest.mark.parametrize("packing", [one for one in PACKINGS if one.max_contributors > 2])
def test_sums_of_subsets_over_runs(packing: Packing) -> None:
    """Each sum of a subset, also with the total known: sums without one of its vectors."""
    names, sums = ("north", "south", "east"), dict[tuple[str, ...], list[np.ndarray]]()
    integers = np.full(500, packing.maximum_integer)
    for _ in range(40):
        for size in (1, 2, 3):
            for subset in combinations(names, size):
                first, *others = (sent(packing, integers, name) for name in subset)
                for other in others:
                    first.add_in_place(other, PUBLIC)
                sums.setdefault(subset, []).append(words_of(first))
    assert len(sums) == 7
    for runs in sums.values():
        assert farthest(np.concatenate(runs)) < _FAR


def test_the_difference_of_two_vectors_of_one_update() -> None:
    integers = np.arange(20_000)
    words = [words_of(sent(PACKINGS[0], integers, "north")).view("<u4")[:, 0] for _ in range(2)]
    difference = (words[0] - words[1]).astype("<u4")
    assert farthest(difference.view(np.uint8).reshape(-1, 4)) < _FAR


def test_bad_words_are_found() -> None:
    """The statistics see a word that is not masked, in its highest byte alone, and one bit."""
    uniform = np.frombuffer(secrets.token_bytes(20_000 * 8), dtype=np.uint8).reshape(-1, 8)
    assert farthest(uniform) < _FAR
    for mask in (0, 0x7F, 0xFE):
        assert farthest(np.column_stack([uniform[:, :7], uniform[:, 7] & mask])) > _FAR


def test_no_two_vectors_share_a_stream() -> None:
    """The same message again, the next round, changed data: always a fresh seed."""
    packing, integers = PACKINGS[3], np.arange(200)
    updates = [(integers, sent(packing, integers, "north")) for _ in range(4)]
    updates += [(integers + 1, sent(packing, integers + 1, "north"))]
    updates += [(integers, sent(packing, integers, "north", 2))]
    updates += [(integers, sent(packing, integers, "south"))]
    assert same_streams(updates) == []
    assert max(Counter(one.tickets[0].sealed for _, one in updates).values()) == 1


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_planted_reuse_of_a_seed_is_found(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, updates = np.random.default_rng(1), []
    for number in range(5):
        integers = rng.integers(-packing.maximum_integer, packing.maximum_integer, 200)
        seed = bytes([number % 4]) * 32  # the last one's is that of the first
        with monkeypatch.context() as patch:
            patch.setattr(secrets, "token_bytes", lambda _, seed=seed: seed)
            updates.append((integers, sent(packing, integers, "north")))
    pairs = list(combinations(range(5), 2))
    assert [pairs[at] for at in same_streams(updates)] == [(0, 4)]


def test_a_reuse_in_another_round_or_by_another_hospital_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream follows from the occasion of the hospital too."""
    packing, integers = PACKINGS[3], np.arange(200)
    monkeypatch.setattr(secrets, "token_bytes", lambda size: b"s" * size)
    updates = [
        (integers, sent(packing, integers, name, number))
        for name, number in (("north", 1), ("north", 2), ("south", 1))
    ]
    assert same_streams(updates) == []
    again = (integers, sent(packing, integers, "north", 1))
    assert same_streams([updates[0], again]) == [0]
