"""Sums with tickets: openings, and refusals with one constant text."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import TAG_LIMIT, TAG_MODULUS, Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets import opening
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import TicketError, opened, require_tickets, value_key_of
from fl_he.crypto.tickets.tags import fit, products, tags_of
from fl_he.crypto.tickets.ticket import SEED_BYTES, Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum, vector_bytes

KEY = PrivateKey.generate(1024)
PUBLIC = KEY.public_key
PACKING = Packing(max_contributors=4)
VALUES = 40  # 17 in a ciphertext
VALUE_KEY = value_key_of(KEY)
OCCASION = Occasion(PUBLIC.fingerprint, "session", "train", 1, b"a" * 32, PACKING, VALUES)
#: One field of the occasion, changed.
OTHER: list[dict[str, Any]] = [
    {"key": "0" * 64},
    {"session": "other"},
    {"purpose": "evaluate"},
    {"round": 2},
    {"asked": b"b" * 32},
    {"packing": Packing(max_contributors=3)},
    {"length": VALUES - 1},
    {"metric_values": 1},
]
NAMES = ("north", "south", "east")
IDENTITIES = {name: Identity.generate(name, "hospital") for name in NAMES}


def integers_of(name: str) -> np.ndarray:
    rng = np.random.default_rng(NAMES.index(name))
    return rng.integers(-PACKING.maximum_integer, PACKING.maximum_integer, VALUES)


TRUTH = sum(integers_of(name) for name in NAMES)


def update(name: str, occasion: Occasion = OCCASION, **changes: object) -> TicketedSum:
    given = {"value_key": VALUE_KEY, "sign": IDENTITIES[name].sign, **changes}
    return TicketedSum.encrypt(PUBLIC, integers_of(name), occasion, name, **given)  # type: ignore[arg-type]


def sum_of(*parts: TicketedSum) -> TicketedSum:
    total = TicketedSum.from_bytes(parts[0].to_bytes(), PUBLIC)
    for part in parts[1:]:
        total.add_in_place(part, PUBLIC)
    return total


@pytest.fixture(scope="module")
def parts() -> dict[str, TicketedSum]:
    return {name: update(name) for name in NAMES}


def verifies(ticket: Ticket, statement: bytes) -> bool:
    signer = IDENTITIES.get(ticket.hospital)
    return signer is not None and signer.public.verifies(ticket.signature, statement)


def open_all(summed: TicketedSum, occasion: Occasion = OCCASION) -> np.ndarray:
    require_tickets(summed.tickets, occasion, verifies)
    return opened(summed, KEY, occasion, VALUE_KEY)


def is_refused(summed: TicketedSum, occasion: Occasion = OCCASION) -> bool:
    with pytest.raises(TicketError) as caught:
        open_all(summed, occasion)
    return str(caught.value) == str(TicketError()) and caught.value.__cause__ is None


def test_a_sum_is_opened(parts: dict[str, TicketedSum]) -> None:
    summed = sum_of(*parts.values())
    assert summed.contributors == [*NAMES]
    again = TicketedSum.from_bytes(summed.to_bytes(), PUBLIC)
    assert np.array_equal(open_all(again), TRUTH)


@pytest.mark.parametrize("change", OTHER)
def test_tickets_of_another_occasion(parts: dict[str, TicketedSum], change: dict[str, Any]) -> None:
    other = replace(OCCASION, **change)
    assert is_refused(sum_of(*parts.values()), other)
    unsigned = sum_of(*parts.values())
    with pytest.raises(TicketError):
        opened(unsigned, KEY, other, VALUE_KEY)


@pytest.mark.parametrize("change", OTHER)
def test_each_occasion_has_secrets_of_its_own(change: dict[str, Any]) -> None:
    """Neither the value key nor a seed gives the same numbers twice."""
    other = replace(OCCASION, **change)
    assert other.value_info() != OCCASION.value_info()
    assert other.to_bytes("north") != OCCASION.to_bytes("north")


def paillier(summed: TicketedSum) -> EncryptedVector:
    assert isinstance(summed.vector, EncryptedVector)
    return summed.vector


def with_tickets(summed: TicketedSum, *tickets: Ticket) -> TicketedSum:
    return TicketedSum(summed.vector, tickets)


def with_ciphertexts(summed: TicketedSum, change: Callable[[list[int]], list[int]]) -> TicketedSum:
    vector = paillier(summed)
    body = bytearray(PUBLIC.to_bytes(change(vector.to_integers())))
    changed = EncryptedVector(PUBLIC, PACKING, len(vector), body, tagged=True)
    return TicketedSum(changed, summed.tickets)


class TestCoordinator:
    """Changes that a coordinator can make without a key."""

    def test_a_hospital_twice(self, parts: dict[str, TicketedSum]) -> None:
        assert is_refused(sum_of(parts["north"], parts["north"], parts["south"]))
        fresh = update("north")
        assert is_refused(sum_of(parts["north"], fresh, parts["south"]))

    def test_a_ticket_too_few_or_too_many(self, parts: dict[str, TicketedSum]) -> None:
        north, south, east = (parts[name] for name in NAMES)
        both = sum_of(north, south)
        assert is_refused(with_tickets(both, *north.tickets))
        assert is_refused(with_tickets(both, *north.tickets, *south.tickets, *east.tickets))

    def test_another_hospitals_name_or_no_name_of_the_manifest(
        self, parts: dict[str, TicketedSum]
    ) -> None:
        (ticket,) = parts["north"].tickets
        for name in ("west", "unknown"):
            assert is_refused(with_tickets(parts["north"], replace(ticket, hospital=name)))

    def test_a_ticket_is_one_hospitals_without_signatures_too(
        self, parts: dict[str, TicketedSum]
    ) -> None:
        (ticket,) = parts["north"].tickets
        renamed = with_tickets(parts["north"], replace(ticket, hospital="south"))
        with pytest.raises(TicketError):
            opened(renamed, KEY, OCCASION, VALUE_KEY)

    def test_a_seed_of_choice_is_not_what_a_hospital_signed(
        self, parts: dict[str, TicketedSum]
    ) -> None:
        """With a seed that it knows, the coordinator knows an update's part in the tags."""
        (ticket,) = parts["north"].tickets
        own, _ = Ticket.issue(PUBLIC, OCCASION, "north", None)
        taken = with_tickets(parts["north"], replace(ticket, sealed=own.sealed))
        with pytest.raises(TicketError):
            require_tickets(taken.tickets, OCCASION, verifies)

    def test_a_ticket_of_an_earlier_update(self, parts: dict[str, TicketedSum]) -> None:
        assert is_refused(with_tickets(parts["north"], *update("north").tickets))

    def test_a_signature_is_needed(self, parts: dict[str, TicketedSum]) -> None:
        (ticket,) = parts["north"].tickets
        assert is_refused(with_tickets(parts["north"], replace(ticket, signature=b"")))
        assert is_refused(with_tickets(parts["north"], replace(ticket, signature=bytes(64))))

    def test_a_made_up_update(self, parts: dict[str, TicketedSum]) -> None:
        own, seed = Ticket.issue(PUBLIC, OCCASION, "north", None)
        assert len(seed) == SEED_BYTES
        made_up = update("north", sign=None, value_key=None)
        assert is_refused(sum_of(with_tickets(made_up, own), parts["south"], parts["east"]))
        with pytest.raises(TicketError):
            opened(sum_of(made_up, parts["south"]), KEY, OCCASION, VALUE_KEY)

    def test_a_chosen_vector_added(self, parts: dict[str, TicketedSum]) -> None:
        chosen = np.zeros(VALUES, dtype=np.int64)
        chosen[3] = 1
        for tags in ([0, 0, 0], [1, 2, 3]):
            own = EncryptedVector.encrypt_integers(PUBLIC, PACKING, chosen, tags=tags)
            summed = sum_of(*parts.values())
            summed.vector.add_in_place(own, PUBLIC)
            assert is_refused(summed)

    def test_ciphertexts_of_two_hospitals_change_places(
        self, parts: dict[str, TicketedSum]
    ) -> None:
        south = paillier(parts["south"]).to_integers()

        def first_of_south(own: list[int]) -> list[int]:
            return [south[0], *own[1:]]

        assert is_refused(with_ciphertexts(parts["north"], first_of_south))

    def test_ciphertexts_of_a_vector_change_places(self, parts: dict[str, TicketedSum]) -> None:
        assert is_refused(with_ciphertexts(parts["north"], lambda own: [own[1], own[0], own[2]]))

    @pytest.mark.parametrize("factor", [2, -1, 0, 1 + TAG_MODULUS, 1 - 3 * TAG_MODULUS])
    def test_multiples(self, parts: dict[str, TicketedSum], factor: int) -> None:
        square = int(PUBLIC.n_squared)

        def times(own: list[int]) -> list[int]:
            return PUBLIC.rerandomise([pow(one, factor, square) for one in own])

        assert is_refused(with_ciphertexts(parts["north"], times))

    def test_fresh_randomness_changes_nothing(self, parts: dict[str, TicketedSum]) -> None:
        rerandomised = with_ciphertexts(sum_of(*parts.values()), PUBLIC.rerandomise)
        assert np.array_equal(open_all(rerandomised), TRUTH)

    def test_tickets_in_another_order_are_the_same(self, parts: dict[str, TicketedSum]) -> None:
        summed = sum_of(*parts.values())
        assert np.array_equal(open_all(with_tickets(summed, *summed.tickets[::-1])), TRUTH)


def test_a_seed_is_used_once() -> None:
    tickets = [Ticket.issue(PUBLIC, OCCASION, "north", None) for _ in range(20)]
    assert len({seed for _, seed in tickets}) == len({t.sealed for t, _ in tickets}) == 20


def test_no_seed_shows(parts: dict[str, TicketedSum]) -> None:
    ticket = parts["north"].tickets[0]
    assert ticket.sealed.hex()[:16] not in repr(ticket)
    assert repr(ticket.sealed)[2:12] not in repr(parts["north"])


def test_a_key_without_a_sealing_half_takes_no_tickets(small_key: PrivateKey) -> None:
    public = small_key.public_key
    own = replace(OCCASION, key=public.fingerprint, packing=Packing(8, 8, 4))
    with pytest.raises(CryptoError, match="sealing half"):
        Ticket.issue(public, own, "north", None)
    with pytest.raises(CryptoError, match="sealing half"):
        small_key.open_sealed(b"", b"")
    with pytest.raises(CryptoError, match="sealing half"):
        value_key_of(small_key)


def test_a_vector_without_tags_is_no_sum() -> None:
    plain = EncryptedVector.encrypt_integers(PUBLIC, PACKING, integers_of("north"))
    (ticket,) = update("north").tickets
    with pytest.raises(CryptoError, match="a tag in each"):
        TicketedSum(plain, (ticket,))
    tagged = paillier(update("north"))
    with pytest.raises(CryptoError, match="with tags must be decrypted"):
        KEY.decrypt_integers(tagged)
    with pytest.raises(CryptoError, match="both vectors must have tags"):
        tagged.add(plain, PUBLIC)


def test_as_many_tickets_as_there_is_room_for(parts: dict[str, TicketedSum]) -> None:
    five = [parts["north"].tickets[0]] * 5
    with pytest.raises(CryptoError, match="1 to 4 tickets, got 5"):
        TicketedSum(parts["north"].vector, tuple(five))
    with pytest.raises(CryptoError, match="1 to 4 tickets, got 0"):
        TicketedSum(parts["north"].vector, ())


@given(data=st.data())
def test_hostile_bytes(data: st.DataObject) -> None:
    good = bytearray(_GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] ^= data.draw(st.integers(1, 255))
    hostile = bytes(good[: len(good) - data.draw(st.integers(0, 3))])
    assume(hostile != _GOOD)
    try:
        read = TicketedSum.from_bytes(hostile, PUBLIC)
    except CryptoError:
        return
    assert is_refused(read)


_GOOD = update("north").to_bytes()


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1x", _GOOD[:15], "text", None])
def test_no_sum(data: bytes) -> None:
    with pytest.raises(CryptoError):
        TicketedSum.from_bytes(data, PUBLIC)


def test_a_guess_of_one_update_is_as_good_as_another(parts: dict[str, TicketedSum]) -> None:
    """Company X knows seeds, value key and total: its sum of tags must fit any split of it."""
    summed = sum_of(*parts.values())
    _, sums, _ = KEY.decrypt_tagged(summed.vector)
    info = OCCASION.to_bytes("north")
    seed = KEY.open_sealed(parts["north"].tickets[0].sealed, info)
    for guess in (integers_of("north"), integers_of("south"), np.zeros(VALUES, dtype=np.int64)):
        rows = PACKING.rows(guess, PUBLIC.key_bits, tagged=True)
        own = tags_of(products(rows, VALUE_KEY, OCCASION.value_info()), seed, info)
        others = [whole - tag for whole, tag in zip(sums, own, strict=True)]
        assert all(-TAG_LIMIT < rest < 3 * TAG_LIMIT for rest in others)
        assert {rest // TAG_MODULUS for rest in others}.isdisjoint(range(-1, 4))


def test_what_does_not_fit_is_judged_at_the_end(
    parts: dict[str, TicketedSum], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plaintext out of range is refused as late as a wrong tag: the time would tell which."""
    checked: list[int] = []

    def noted(sums: list[int], expected: list[int], seeds: Iterable[tuple[bytes, bytes]]) -> bool:
        checked.append(len(sums))
        return fit(sums, expected, seeds)

    monkeypatch.setattr(opening, "fit", noted)
    large = np.full(VALUES, PACKING.maximum_integer)
    honest = sum_of(*parts.values())
    for added in (large, np.ones(VALUES, dtype=np.int64)):
        for times in (1, 5):
            changed = sum_of(honest)
            for _ in range(times):
                own = EncryptedVector.encrypt_integers(PUBLIC, PACKING, added, tags=[0] * 3)
                changed.vector.add_in_place(own, PUBLIC)
            assert is_refused(changed)
    for factor in (TAG_LIMIT, 2**900, -(2**900)):
        square = int(PUBLIC.n_squared)
        body = [pow(one, factor, square) for one in paillier(honest).to_integers()]
        assert is_refused(with_ciphertexts(honest, lambda _, body=body: body))  # type: ignore[misc]
    assert checked == [3] * 7


def with_added(summed: TicketedSum, ciphertext: int, plaintext: int) -> TicketedSum:
    """Return a sum with a number added to one of its plaintexts."""
    (own,) = PUBLIC.encrypt([plaintext])

    def change(all_of: list[int]) -> list[int]:
        changed = PUBLIC.add(all_of[ciphertext], own)
        return [*all_of[:ciphertext], changed, *all_of[ciphertext + 1 :]]

    return with_ciphertexts(summed, change)


def test_slots_that_are_not_used_stay_empty(parts: dict[str, TicketedSum]) -> None:
    """No tag covers them."""
    last = 1 << (PACKING.slot_bits * (VALUES % 17))
    assert is_refused(with_added(parts["north"], 2, last))
    changed = with_added(parts["north"], 2, last >> PACKING.slot_bits)
    assert not np.array_equal(KEY.decrypt_tagged(changed.vector)[0], integers_of("north"))
    assert is_refused(changed)


def test_a_total_that_no_hospitals_have_without_a_value_key() -> None:
    summed = update("north", value_key=None)
    one_more = with_added(summed, 0, 1)
    assert opened(one_more, KEY, OCCASION)[0] == integers_of("north")[0] + 1
    too_large = with_added(
        summed, 0, 4 * PACKING.maximum_integer + 1 - int(integers_of("north")[0])
    )
    with pytest.raises(TicketError):
        opened(too_large, KEY, OCCASION)


@pytest.mark.parametrize("length", [VALUES - 1, VALUES + 1])
def test_a_vector_is_as_long_as_its_occasion_says(
    parts: dict[str, TicketedSum], length: int
) -> None:
    vector = paillier(parts["north"])
    body = bytearray(PUBLIC.to_bytes(vector.to_integers()))
    other = EncryptedVector(PUBLIC, PACKING, length, body, tagged=True)
    assert is_refused(TicketedSum(other, parts["north"].tickets))


def test_all_is_computed_before_a_seal_is_judged(
    parts: dict[str, TicketedSum], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time would tell a seal that does not open from a tag that does not fit."""
    tried, decrypted, own = list[bytes](), list[object](), PrivateKey.decrypt_tagged
    unseal = PrivateKey.open_sealed

    def open_sealed(key: PrivateKey, ciphertext: bytes, info: bytes) -> bytes:
        tried.append(ciphertext)
        return unseal(key, ciphertext, info)

    def decrypt_tagged(key: PrivateKey, vector: EncryptedVector) -> object:
        decrypted.append(vector)
        return own(key, vector)

    monkeypatch.setattr(PrivateKey, "open_sealed", open_sealed)
    monkeypatch.setattr(PrivateKey, "decrypt_tagged", decrypt_tagged)
    summed = sum_of(*parts.values())
    for changed in range(len(NAMES)):
        tickets = [*summed.tickets]
        tickets[changed] = replace(tickets[changed], sealed=bytes(len(tickets[changed].sealed)))
        with pytest.raises(TicketError):
            opened(TicketedSum(summed.vector, tuple(tickets)), KEY, OCCASION, VALUE_KEY)
        assert tried == [ticket.sealed for ticket in tickets]
        assert decrypted == [summed.vector]
        tried.clear()
        decrypted.clear()


def test_a_sum_has_no_more_tickets_than_its_bytes_hold(parts: dict[str, TicketedSum]) -> None:
    """Millions of empty tickets would take far more memory than the message."""
    data = parts["north"].to_bytes() + bytes(2**22)
    tracemalloc.start()
    try:
        for read in (lambda: TicketedSum.from_bytes(data, PUBLIC), lambda: vector_bytes(data)):
            with pytest.raises(CryptoError, match=r"a sum has more than 3\d{3} fields"):
                read()
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_whether_hospitals_were_asked_the_same(parts: dict[str, TicketedSum]) -> None:
    other = replace(OCCASION, asked=b"b" * 32)
    mixed = sum_of(parts["north"], update("south", other))
    with pytest.raises(TicketError):
        require_tickets(mixed.tickets, OCCASION, None)
    require_tickets(mixed.tickets, OCCASION, None, same=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hospital": ""}, "at most 256 bytes"),
        ({"hospital": "\u00e9" * 129}, "at most 256 bytes"),
        ({"asked": bytes(31)}, "a digest, a sealed seed"),
        ({"asked": bytes(33)}, "a digest, a sealed seed"),
        ({"sealed": b""}, "a digest, a sealed seed"),
        ({"sealed": bytes(2**16)}, "a digest, a sealed seed"),
        ({"signature": bytes(63)}, "at most a signature"),
    ],
)
def test_fields_of_a_ticket_have_their_lengths(
    parts: dict[str, TicketedSum], change: dict[str, Any], words: str
) -> None:
    (ticket,) = parts["north"].tickets
    assert Ticket.from_bytes(ticket.to_bytes()) == ticket
    with pytest.raises(CryptoError, match=words):
        Ticket.from_bytes(replace(ticket, **change).to_bytes())


@pytest.mark.parametrize(("alone", "word"), [(False, b""), (True, b"alone")])
def test_a_hospital_signs_the_occasion_the_sealed_seed_and_its_permission(
    parts: dict[str, TicketedSum], alone: bool, word: bytes
) -> None:
    (ticket,) = parts["north"].tickets
    fields = decode_fields(replace(ticket, alone=alone).statement(OCCASION), "a statement", 4)
    sealed = hashlib.sha256(ticket.sealed).digest()
    assert fields == [b"fl-he ticket signature 1", OCCASION.to_bytes("north"), sealed, word]


def test_fields_of_a_ticket_are_five(parts: dict[str, TicketedSum]) -> None:
    fields = decode_fields(parts["north"].tickets[0].to_bytes(), "a ticket", 5)
    for others, words in (
        (fields[:4], "5 fields, got 4"),
        ([*fields, b""], "more than 5 fields"),
        ([*fields[:4], b"yes"], "at most a signature"),
        ([b"\xff", *fields[1:]], "UTF-8"),
    ):
        with pytest.raises(CryptoError, match=words):
            Ticket.from_bytes(encode_fields(*others))
