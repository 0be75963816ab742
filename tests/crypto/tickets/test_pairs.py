"""Pairwise masks: they cancel in the total of a whole set, and hide everything smaller."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_transcripts import UNLIKELY, least_likely
from numpy.typing import NDArray

from fl_he.crypto.encoding.streams import KeyStream
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.masks.masked_vector import MaskedVector
from fl_he.crypto.paillier.packing import TAG_MODULUS, Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import TicketError, opened, value_key_of
from fl_he.crypto.tickets.pairs import PairMasks, half_for, set_digest
from fl_he.crypto.tickets.tags import numbers
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

KEY = PrivateKey.generate(1024)
PUBLIC, VALUE_KEY = KEY.public_key, value_key_of(KEY)
NAMES = ("east", "north", "south", "west", "zürich")
BOTH = pytest.mark.parametrize("scheme", SCHEMES)
VALUE_KEYS = pytest.mark.parametrize("value_key", [VALUE_KEY, None], ids=["value key", "none"])


def masks_of(
    names: Sequence[str], info: bytes, own: Mapping[str, bytes] | None = None
) -> dict[str, PairMasks]:
    """Return the masks of all hospitals of a set, as if seeds had been exchanged."""
    own = own or {name: secrets.token_bytes(32) for name in names}
    return {
        name: PairMasks(
            name,
            own[name],
            {other: half_for(own[other], name) for other in names if other != name},
            info,
        )
        for name in names
    }


def occasion_of(scheme: str, length: int, round_: int = 1) -> Occasion:
    packing = Packing(24, 24, len(NAMES))
    return Occasion(
        *(PUBLIC.fingerprint, "s", "train", round_, bytes(32), packing, length), scheme=scheme
    )


def updates_of(
    occasion: Occasion,
    masks: Mapping[str, PairMasks],
    integers: Mapping[str, NDArray[np.int64]],
    value_key: bytes | None,
) -> dict[str, TicketedSum]:
    return {
        name: TicketedSum.encrypt(
            PUBLIC, integers[name], occasion, name, value_key=value_key, pairs=masks[name]
        )
        for name in masks
    }


def sum_of(parts: Sequence[TicketedSum]) -> TicketedSum:
    total = TicketedSum.from_bytes(parts[0].to_bytes(), PUBLIC)
    for part in parts[1:]:
        total.add_in_place(part, PUBLIC)
    return total


@BOTH
@VALUE_KEYS
@settings(max_examples=15)
@given(data=st.data())
def test_masks_cancel_in_the_total_of_the_set_and_in_no_smaller_one(
    data: st.DataObject, scheme: str, value_key: bytes | None
) -> None:
    names = data.draw(st.permutations(NAMES))[: data.draw(st.integers(2, 5))]
    length, seed = data.draw(st.integers(1, 90)), data.draw(st.integers(0, 2**32))
    occasion, rng = occasion_of(scheme, length), np.random.default_rng(seed)
    largest = occasion.packing.maximum_integer
    integers = {name: rng.integers(-largest, largest, length, endpoint=True) for name in names}
    masks = masks_of(names, occasion.pair_info(b"set", value_key))
    updates = updates_of(occasion, masks, integers, value_key)
    total = opened(sum_of([updates[name] for name in names]), KEY, occasion, value_key)
    assert (total == sum(integers.values())).all()
    if value_key is not None or scheme == PAILLIER:
        for subset in combinations(names, len(names) - 1):
            with pytest.raises(TicketError):
                opened(sum_of([updates[name] for name in subset]), KEY, occasion, value_key)


@BOTH
def test_masks_of_another_use_do_not_cancel(scheme: str) -> None:
    occasion, zeros = occasion_of(scheme, 40), dict.fromkeys(NAMES, np.zeros(40, np.int64))
    own = {name: secrets.token_bytes(32) for name in NAMES}
    use = occasion.pair_info(b"set", VALUE_KEY)
    others = [
        occasion_of(scheme, 40, 2).pair_info(b"set", VALUE_KEY),
        replace(occasion, asked=b"b" * 32).pair_info(b"set", VALUE_KEY),
        occasion.pair_info(b"other", VALUE_KEY),
        occasion.pair_info(b"set", bytes(32)),
        occasion.pair_info(b"set", None),
    ]
    right = updates_of(occasion, masks_of(NAMES, use, own), zeros, VALUE_KEY)
    assert not opened(sum_of([*right.values()]), KEY, occasion, VALUE_KEY).any()
    for info in others:
        wrong = updates_of(occasion, masks_of(NAMES, info, own), zeros, VALUE_KEY)
        mixed = {**right, NAMES[2]: wrong[NAMES[2]]}
        with pytest.raises(TicketError):
            opened(sum_of([*mixed.values()]), KEY, occasion, VALUE_KEY)


def test_numbers_for_plaintexts_words_and_tags_are_uniform_and_apart() -> None:
    """The coalition lacks only the stream between two honest hospitals."""
    masks = masks_of(NAMES, b"use")["north"]
    width = 128
    modulus = (1 << (8 * width)) - 159
    found_numbers = masks.plaintexts(500, modulus)
    joined = b"".join(one.to_bytes(width, "big") for one in found_numbers)
    plaintexts = np.frombuffer(joined, np.uint64)
    known = np.frombuffer(KeyStream(bytes(32), b"").read(8 * 20_000), np.uint64)
    mixed = masks.words(KeyStream(bytes(32), b"")).read(8 * 20_000)
    words = np.frombuffer(mixed, np.uint64) - known
    for found in (plaintexts, words):
        assert least_likely(found.view(np.uint8).reshape(-1, 8)) > UNLIKELY
    assert not set(plaintexts.tolist()) & set(words.tolist())
    assert 0 <= masks.tag() < TAG_MODULUS
    assert len({each.tag() for each in masks_of(NAMES, b"use").values()}) == len(NAMES)


def test_a_masked_update_stays_hidden_from_whoever_lacks_one_stream() -> None:
    """The tag, too: it is one equation of 96 bits about the values."""
    occasion = occasion_of(MASKS, 2)
    own = {name: secrets.token_bytes(32) for name in NAMES[:2]}
    masks_of_tags = set()
    for number in range(20):
        masks = masks_of(NAMES[:2], b"%d" % number, own)["east"]
        update = TicketedSum.encrypt(
            PUBLIC, np.zeros(2, np.int64), occasion, "east", value_key=VALUE_KEY, pairs=masks
        )
        (ticket,) = update.tickets
        info = occasion.to_bytes("east")
        seed = KEY.open_sealed(ticket.sealed, info)
        assert isinstance(update.vector, MaskedVector)
        assert update.vector.header.tag is not None
        # For zeros the rest of the tag comes from the ticket's seed.
        masks_of_tags.add((update.vector.header.tag - numbers(seed, info, 1)[0]) % TAG_MODULUS)
    assert len(masks_of_tags) == 20


def test_halves_are_of_both_hospitals_and_each_pair() -> None:
    own = {name: secrets.token_bytes(32) for name in NAMES}
    first = masks_of(NAMES, b"use", own)
    again = masks_of(NAMES, b"use", {**own, "north": secrets.token_bytes(32)})
    for name in NAMES:
        assert first[name].tag() != again[name].tag(), "each has a pair with north"
    halves = {half_for(own["north"], other) for other in NAMES}
    assert len(halves) == len(NAMES)


def test_a_set_is_known_by_names_and_identities() -> None:
    one = {"a": b"1" * 32, "b": b"2" * 32}
    assert set_digest(one) == set_digest(dict(reversed(one.items())))
    others = [{"a": b"1" * 32}, {**one, "c": b"3" * 32}, {"a": b"2" * 32, "b": b"1" * 32}]
    assert len({set_digest(each) for each in (one, *others)}) == 4


@pytest.mark.parametrize("halves", [{}, {"north": bytes(32)}, {"south": bytes(31)}])
def test_wrong_halves_are_refused(halves: dict[str, bytes]) -> None:
    with pytest.raises(CryptoError):
        PairMasks("north", bytes(32), halves, b"")


def test_no_repr_has_a_secret() -> None:
    secret = bytes(range(32))
    shown = repr(PairMasks("north", secret, {"south": secret}, b"use"))
    assert "secret" not in shown
    assert repr(secret) not in shown
