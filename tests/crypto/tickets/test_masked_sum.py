"""Masked sums with tickets: openings, and refusals with one constant text."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.masks.masked_vector import HEADER_BYTES, MaskedVector, MaskHeader, mask_stream
from fl_he.crypto.paillier.packing import TAG_MODULUS, Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS, PAILLIER
from fl_he.crypto.tickets import opening
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import TicketError, opened, require_tickets, value_key_of
from fl_he.crypto.tickets.tags import numbers, product
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

KEY = PrivateKey.generate(1024)
PUBLIC = KEY.public_key
#: 53 bits in a word of 56; and one whose words are filled.
PACKING, FILLED = Packing(24, 25, 5), Packing(24, 28, 8)
VALUES = 40
VALUE_KEY = value_key_of(KEY)
OCCASION = Occasion(
    *(PUBLIC.fingerprint, "session", "train", 1, b"a" * 32, PACKING, VALUES), scheme=MASKS
)
#: One field of the occasion, changed.
OTHER: list[dict[str, Any]] = [
    {"key": "0" * 64},
    {"session": "other"},
    {"purpose": "evaluate"},
    {"round": 2},
    {"asked": b"b" * 32},
    {"packing": Packing(24, 25, 6)},
    {"packing": Packing(25, 24, 5)},
    {"length": VALUES - 1},
    {"metric_values": 1},
    {"scheme": PAILLIER},
]
NAMES = ("north", "south", "east")
IDENTITIES = {name: Identity.generate(name, "hospital") for name in NAMES}
BOTH = pytest.mark.parametrize("value_key", [VALUE_KEY, None], ids=["value key", "none"])


def integers_of(name: str, packing: Packing = PACKING) -> np.ndarray:
    rng, largest = np.random.default_rng(NAMES.index(name)), packing.maximum_integer
    return rng.integers(-largest, largest, VALUES, endpoint=True)


TRUTH = np.sum([integers_of(name) for name in NAMES], axis=0)


def update(
    name: str, value_key: bytes | None, occasion: Occasion = OCCASION, **changes: Any
) -> TicketedSum:
    given = {"value_key": value_key, "sign": IDENTITIES[name].sign, **changes}
    integers = integers_of(name, occasion.packing)
    return TicketedSum.encrypt(PUBLIC, integers, occasion, name, **given)


def sum_of(*parts: TicketedSum) -> TicketedSum:
    total = TicketedSum.from_bytes(parts[0].to_bytes(), PUBLIC, [MASKS])
    for part in parts[1:]:
        total.add_in_place(part, PUBLIC)
    return total


def all_of(value_key: bytes | None, occasion: Occasion = OCCASION) -> list[TicketedSum]:
    return [update(name, value_key, occasion) for name in NAMES]


def verifies(ticket: Ticket, statement: bytes) -> bool:
    signer = IDENTITIES.get(ticket.hospital)
    return signer is not None and signer.public.verifies(ticket.signature, statement)


def open_all(
    summed: TicketedSum, value_key: bytes | None, occasion: Occasion = OCCASION
) -> np.ndarray:
    require_tickets(summed.tickets, occasion, verifies)
    return opened(summed, KEY, occasion, value_key)


def is_refused(summed: TicketedSum, value_key: bytes | None, occasion: Occasion = OCCASION) -> bool:
    with pytest.raises(TicketError) as caught:
        open_all(summed, value_key, occasion)
    return str(caught.value) == str(TicketError()) and caught.value.__cause__ is None


def masked(summed: TicketedSum) -> MaskedVector:
    assert isinstance(summed.vector, MaskedVector)
    return summed.vector


def words_of(summed: TicketedSum) -> np.ndarray:
    """Return words as integers."""
    width, body = masked(summed).header.width, summed.vector.to_bytes()[HEADER_BYTES:]
    words = [int.from_bytes(body[at : at + width], "little") for at in range(0, len(body), width)]
    return np.array(words, dtype=object)


def with_words(
    summed: TicketedSum, change: Callable[[np.ndarray], Any], *tickets: Ticket, tag: int = 0
) -> TicketedSum:
    """Return a sum whose words, as integers, are changed; with other tickets, and a tag shifted."""
    header, changed = masked(summed).header, change(words_of(summed))
    width = header.width
    new = b"".join((int(one) % 2 ** (8 * width)).to_bytes(width, "little") for one in changed)
    if header.tag is not None:
        header = replace(header, tag=(header.tag + tag) % TAG_MODULUS)
    return TicketedSum(MaskedVector(header, bytearray(new)), tickets or summed.tickets)


def first(number: int) -> np.ndarray:
    """Return zeros with a number in the first place."""
    return np.array([number] + [0] * (VALUES - 1), dtype=object)


def with_tickets(summed: TicketedSum, *tickets: Ticket) -> TicketedSum:
    return TicketedSum(summed.vector, tickets)


@BOTH
@pytest.mark.parametrize("packing", [PACKING, FILLED, Packing(10, 10, 8), Packing(24, 24, 512)])
def test_a_sum_is_opened(value_key: bytes | None, packing: Packing) -> None:
    occasion = replace(OCCASION, packing=packing)
    summed = sum_of(*all_of(value_key, occasion))
    assert summed.contributors == [*NAMES]
    again = TicketedSum.from_bytes(summed.to_bytes(), PUBLIC, [MASKS])
    expected = np.sum([integers_of(name, packing) for name in NAMES], axis=0)
    assert open_all(again, value_key, occasion).tolist() == expected.tolist()


@given(edges=st.lists(st.sampled_from([-1, 0, 1]), min_size=8, max_size=8))
def test_a_total_of_as_many_as_there_is_room_for(edges: list[int]) -> None:
    """Eight hospitals fill the words of the packing to the edge."""
    occasion = replace(OCCASION, packing=FILLED, length=2)
    updates = [np.array([FILLED.maximum_integer * edge, edge]) for edge in edges]
    total, *others = (
        TicketedSum.encrypt(PUBLIC, own, occasion, str(at), value_key=VALUE_KEY)
        for at, own in enumerate(updates)
    )
    for other in others:
        total.add_in_place(other, PUBLIC)
    expected = [FILLED.maximum_integer * sum(edges), sum(edges)]
    assert opened(total, KEY, occasion, VALUE_KEY).tolist() == expected


@BOTH
@pytest.mark.parametrize("change", OTHER)
def test_tickets_of_another_occasion(value_key: bytes | None, change: dict[str, Any]) -> None:
    other = replace(OCCASION, **change)
    summed = sum_of(*all_of(value_key))
    assert is_refused(summed, value_key, other)
    if value_key is not None or "asked" not in change:  # else each was asked as its ticket says
        with pytest.raises(TicketError):
            opened(summed, KEY, other, value_key)


@pytest.mark.parametrize("change", [one for one in OTHER if "asked" not in one])
def test_each_occasion_has_another_digest(change: dict[str, Any]) -> None:
    assert replace(OCCASION, **change).digest() != OCCASION.digest()
    assert replace(OCCASION, asked=b"b" * 32).digest() == OCCASION.digest()


def test_vectors_of_two_occasions_are_not_added() -> None:
    other = update("south", None, replace(OCCASION, round=2))
    with pytest.raises(CryptoError, match="for one occasion"):
        update("north", None).add_in_place(other, PUBLIC)


@BOTH
def test_the_header_says_for_which_sum_a_vector_is(value_key: bytes | None) -> None:
    summed = update("north", value_key)
    header = replace(masked(summed).header, occasion=bytes(32))
    body = bytearray(summed.vector.to_bytes()[HEADER_BYTES:])
    assert is_refused(TicketedSum(MaskedVector(header, body), summed.tickets), value_key)


@BOTH
def test_hospitals_that_were_asked_something_else(value_key: bytes | None) -> None:
    mixed = sum_of(
        update("north", value_key), update("south", value_key, replace(OCCASION, asked=b"b" * 32))
    )
    with pytest.raises(TicketError):
        require_tickets(mixed.tickets, OCCASION, None)
    require_tickets(mixed.tickets, OCCASION, None, same=False)


class TestOneTicketForOneVector:
    @BOTH
    def test_one_ticket_twice(self, value_key: bytes | None) -> None:
        """A ticket used twice would open twice one hospital's update."""
        north = update("north", value_key)
        twice = sum_of(north, north)
        assert is_refused(twice, value_key)
        with pytest.raises(TicketError):
            opened(twice, KEY, OCCASION, value_key)

    @BOTH
    def test_two_tickets_of_a_hospital(self, value_key: bytes | None) -> None:
        twice = sum_of(update("north", value_key), update("north", value_key))
        assert is_refused(twice, value_key)
        with pytest.raises(TicketError):
            opened(twice, KEY, OCCASION, value_key)

    @BOTH
    def test_another_hospitals_name(self, value_key: bytes | None) -> None:
        (ticket,) = update("north", value_key).tickets
        renamed = with_tickets(update("north", value_key), replace(ticket, hospital="south"))
        with pytest.raises(TicketError):
            opened(renamed, KEY, OCCASION, value_key)

    @BOTH
    @pytest.mark.parametrize("tickets", [[0], [0, 1, 2]])
    def test_a_ticket_too_few_or_too_many(
        self, value_key: bytes | None, tickets: list[int]
    ) -> None:
        parts = all_of(value_key)
        both = sum_of(*parts[:2])
        chosen = (parts[at].tickets[0] for at in tickets)
        assert is_refused(with_tickets(both, *chosen), value_key)

    @BOTH
    def test_a_ticket_of_an_earlier_vector(self, value_key: bytes | None) -> None:
        north, again = update("north", value_key), update("north", value_key)
        assert is_refused(with_tickets(north, *again.tickets), value_key)

    @BOTH
    def test_one_hospitals_vector_with_the_ticket_of_another(self, value_key: bytes | None) -> None:
        north, south = update("north", value_key), update("south", value_key)
        assert is_refused(with_tickets(north, *south.tickets), value_key)
        assert np.array_equal(
            open_all(with_tickets(sum_of(north, south), *south.tickets, *north.tickets), value_key),
            integers_of("north") + integers_of("south"),
        )


class TestWithoutAValueKey:
    """Company X's answer: the total of the tickets' vectors plus numbers known beforehand."""

    @pytest.mark.parametrize("known", [1, -5, 2**40])
    def test_numbers_that_the_coordinator_adds(self, known: int) -> None:
        shifted = with_words(sum_of(*all_of(None)), lambda words: words + first(known))
        expected = TRUTH.copy()
        expected[0] += known
        assert open_all(shifted, None).tolist() == expected.tolist()

    @pytest.mark.parametrize("chosen", [0, 7])
    def test_words_of_choice_in_place_of_a_hospitals(self, chosen: int) -> None:
        """The answer shows the update only to parties that have its words."""
        packing = Packing(27, 28, 1)  # fills the words: nothing is out of range
        occasion = replace(OCCASION, packing=packing)
        north = update("north", None, occasion)
        answer = opened(with_words(north, lambda _: [chosen] * VALUES), KEY, occasion)
        found = (answer.astype(object) - chosen + words_of(north)) % 2**56
        assert found.tolist() == (integers_of("north", packing) % 2**56).tolist()

    def test_a_stream_that_is_left_out(self) -> None:
        """The answer is the total plus the masked words, and known numbers; garbage but for them.

        The packing fills the words, and there are as many tickets as possible: nothing is out of
        range. With fewer tickets nearly always something is.
        """
        occasion = replace(OCCASION, packing=FILLED)
        north, south, _ = all_of(None, occasion)
        made_up = [Ticket.issue(PUBLIC, occasion, str(at), None) for at in range(7)]
        tickets = (*north.tickets, *(ticket for ticket, _ in made_up))
        both = sum_of(north, south)
        answer = opened(with_tickets(both, *tickets), KEY, occasion).astype(object)
        known = -words_of(south)
        for ticket, seed in made_up:
            stream = mask_stream(seed, occasion.to_bytes(ticket.hospital)).read(8 * VALUES)
            known = known + np.frombuffer(stream, dtype="<u8").astype(object)
        expected = integers_of("north", FILLED) % 2**56
        assert ((answer + known) % 2**56).tolist() == expected.tolist()
        with pytest.raises(TicketError):
            opened(with_tickets(both, *tickets[:4]), KEY, occasion)

    def test_a_total_that_no_hospitals_have(self) -> None:
        """The range check: contributors times the largest integer, and not one more."""
        for sign in (1, -1):
            room = 3 * PACKING.maximum_integer - sign * int(TRUTH[0])
            summed = sum_of(*all_of(None))
            edge = with_words(summed, lambda words: words + first(sign * room))  # noqa: B023
            assert open_all(edge, None)[0] == sign * 3 * PACKING.maximum_integer
            more = with_words(edge, lambda words: words + first(sign))  # noqa: B023
            assert is_refused(more, None)

    def test_a_tag_where_none_belongs(self) -> None:
        assert is_refused(sum_of(*all_of(VALUE_KEY)), None)


class TestValueKey:
    @pytest.mark.parametrize("tag", [0, 1, TAG_MODULUS - 1])
    @given(change=st.dictionaries(st.integers(0, VALUES - 1), st.integers(1, 2**56 - 1)))
    def test_whoever_has_no_value_key_changes_no_value(
        self, tag: int, change: dict[int, int]
    ) -> None:
        assume(change or tag)
        added = np.array([change.get(at, 0) for at in range(VALUES)], dtype=object)
        assert is_refused(with_words(SUMMED, lambda words: words + added, tag=tag), VALUE_KEY)

    def test_fresh_tickets_in_another_order_are_the_same(self) -> None:
        again = with_tickets(SUMMED, *SUMMED.tickets[::-1])
        assert np.array_equal(open_all(again, VALUE_KEY), TRUTH)

    def test_values_change_places(self) -> None:
        assert is_refused(with_words(SUMMED, lambda words: words[::-1]), VALUE_KEY)

    @pytest.mark.parametrize("factor", [-1, 0, 2, 1 + 2**8])
    def test_multiples(self, factor: int) -> None:
        assert is_refused(with_words(SUMMED, lambda words: words * factor), VALUE_KEY)

    def test_a_vector_of_one_that_has_no_value_key(self) -> None:
        for value_key in (None, b"w" * 32):
            parts = [update("north", value_key), update("south", VALUE_KEY)]
            assert is_refused(parts[0], VALUE_KEY)
            if value_key is None:
                with pytest.raises(CryptoError, match="both vectors must have tags"):
                    parts[1].add_in_place(parts[0], PUBLIC)
            else:
                assert is_refused(sum_of(*parts), VALUE_KEY)

    def test_the_tag_is_the_formula(self) -> None:
        north = update("north", VALUE_KEY)
        info = OCCASION.to_bytes("north")
        seed = KEY.open_sealed(north.tickets[0].sealed, info)
        own = product(integers_of("north"), VALUE_KEY, OCCASION.value_info())
        assert masked(north).header.tag == (own + numbers(seed, info, 1)[0]) % TAG_MODULUS

    def test_tags_of_one_update_are_fresh(self) -> None:
        tags = {masked(update("north", VALUE_KEY)).header.tag for _ in range(20)}
        assert len(tags) == 20


SUMMED = sum_of(*all_of(VALUE_KEY))


def test_what_does_not_fit_is_judged_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A total out of range is refused as late as a wrong tag: the time would tell which."""
    products: list[int] = []

    def noted(integers: np.ndarray, value_key: bytes, info: bytes) -> int:
        products.append(len(integers))
        return product(integers, value_key, info)

    monkeypatch.setattr(opening, "product", noted)
    for added in (1, 2**54):
        changed = with_words(SUMMED, lambda words: words + first(added))  # noqa: B023
        assert is_refused(changed, VALUE_KEY)
    header = replace(masked(SUMMED).header, occasion=bytes(32))
    body = bytearray(SUMMED.vector.to_bytes()[HEADER_BYTES:])
    assert is_refused(TicketedSum(MaskedVector(header, body), SUMMED.tickets), VALUE_KEY)
    assert products == [VALUES] * 3


class TestBytes:
    GOOD = SUMMED.to_bytes()

    def test_they_come_back(self) -> None:
        assert TicketedSum.from_bytes(self.GOOD, PUBLIC, [MASKS]).to_bytes() == self.GOOD

    def test_the_scheme_is_the_readers_choice(self) -> None:
        with pytest.raises(CryptoError, match=r"must be one of \['paillier'\]"):
            TicketedSum.from_bytes(self.GOOD, PUBLIC, [PAILLIER])
        own = replace(OCCASION, scheme=PAILLIER)
        paillier = TicketedSum.encrypt(PUBLIC, integers_of("north"), own, "north")
        with pytest.raises(CryptoError, match=r"must be one of \['masks'\]"):
            TicketedSum.from_bytes(paillier.to_bytes(), PUBLIC, [MASKS])
        neither = self.GOOD.replace(b"FLHM", b"FLHX")
        with pytest.raises(CryptoError, match=r"must be one of \['masks', 'paillier'\]"):
            TicketedSum.from_bytes(neither, PUBLIC)
        with pytest.raises(CryptoError, match="scheme must be"):
            paillier.add_in_place(update("south", None), PUBLIC)
        with pytest.raises(TicketError):
            opened(paillier, KEY, OCCASION)
        with pytest.raises(TicketError):
            opened(update("north", None), KEY, own)

    def test_masked_words_with_a_ticket_for_a_paillier_vector(self) -> None:
        own = replace(OCCASION, scheme=PAILLIER, packing=Packing(27, 28, 1))  # fills the words
        ticket, _ = Ticket.issue(PUBLIC, own, "north", None)
        header = MaskHeader(PUBLIC.fingerprint, own.digest(), own.packing, VALUES)
        with pytest.raises(TicketError):
            opened(TicketedSum(MaskedVector(header, bytearray(7 * VALUES)), (ticket,)), KEY, own)

    def test_an_unknown_scheme(self) -> None:
        with pytest.raises(CryptoError, match=r"one of \['masks', 'paillier'\], got 'plain'"):
            update("north", None, replace(OCCASION, scheme="plain"))

    @given(data=st.data())
    def test_hostile_bytes(self, data: st.DataObject) -> None:
        good = bytearray(self.GOOD)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(good) - 1))
            good[at] ^= data.draw(st.integers(1, 255))
        hostile = bytes(good[: len(good) - data.draw(st.integers(0, 3))])
        assume(hostile != self.GOOD)
        try:
            read = TicketedSum.from_bytes(hostile, PUBLIC, [MASKS])
        except CryptoError:
            return
        assert is_refused(read, VALUE_KEY)

    def test_a_vector_longer_than_its_occasion(self) -> None:
        for length in (VALUES - 1, VALUES + 1):
            occasion = replace(OCCASION, length=length)
            header = MaskHeader(PUBLIC.fingerprint, OCCASION.digest(), PACKING, length)
            vector = MaskedVector(header, bytearray(7 * length))
            (ticket,) = update("north", None).tickets
            assert is_refused(TicketedSum(vector, (ticket,)), None)
            assert is_refused(TicketedSum(vector, (ticket,)), None, occasion)


@BOTH
def test_memory_in_addition_to_the_arrays_is_bounded(value_key: bytes | None) -> None:
    """Less than 1 MiB in each step, for a million values; see the module's docstring."""

    def peak_of(call: Callable[[], Any]) -> tuple[Any, int]:
        tracemalloc.start()
        try:
            return call(), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    occasion = replace(OCCASION, length=2**20)
    values = np.full(2**20, -1.5)
    integers, peak = peak_of(lambda: PACKING.encode(values))
    assert peak - integers.nbytes < 2**20
    one, other = (
        TicketedSum.encrypt(PUBLIC, integers, occasion, name, value_key=value_key) for name in "ab"
    )
    _, peak = peak_of(
        lambda: TicketedSum.encrypt(PUBLIC, integers, occasion, "c", value_key=value_key)
    )
    assert peak - one.vector.nbytes < 2**20
    data, peak = peak_of(one.to_bytes)
    assert peak - len(data) < 2**20
    read, peak = peak_of(lambda: TicketedSum.from_bytes(data, PUBLIC, [MASKS]))
    assert peak < 2**20
    _, peak = peak_of(lambda: other.add_in_place(read, PUBLIC))
    assert peak < 2**20
    total, peak = peak_of(lambda: opened(other, KEY, occasion, value_key))
    assert peak - total.nbytes < 2**20
    assert np.array_equal(total, 2 * integers)
    decoded, peak = peak_of(lambda: PACKING.decode(total))
    assert peak - decoded.nbytes < 2**20
    assert decoded[-1] == -3.0


def test_no_secret_shows() -> None:
    for text in (repr(SUMMED), repr(SUMMED.tickets[0]), repr(masked(SUMMED).header)):
        assert VALUE_KEY.hex() not in text
        for ticket in SUMMED.tickets:
            seed = KEY.open_sealed(ticket.sealed, OCCASION.to_bytes(ticket.hospital))
            for secret in (seed, VALUE_KEY):
                assert secret.hex()[:16] not in text
                assert repr(secret)[2:12] not in text
                assert secret not in pickle.dumps(ticket)
