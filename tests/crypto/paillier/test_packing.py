from __future__ import annotations

import json
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_he.crypto.errors import CryptoError, RangeError
from fl_he.crypto.paillier.packing import _ENCODED, TAG_LIMIT, Packing

KEY_BITS = 2048


@st.composite
def packings(draw: st.DrawFn) -> Packing:
    fraction_bits = draw(st.integers(0, 40))
    integer_bits = draw(st.integers(1, 63 - fraction_bits))
    headroom = 63 - fraction_bits - integer_bits
    return Packing(fraction_bits, integer_bits, draw(st.integers(1, 2 ** min(headroom, 20))))


@st.composite
def packed_vectors(draw: st.DrawFn) -> tuple[Packing, NDArray[np.int64]]:
    packing = draw(packings())
    edge = packing.maximum_integer
    numbers = st.one_of(st.integers(-edge, edge), st.sampled_from([-edge, -1, 0, 1, edge]))
    return packing, np.array(draw(st.lists(numbers, min_size=1, max_size=80)), dtype=np.int64)


def naive_plaintexts(packing: Packing, integers: NDArray[np.int64], key_bits: int) -> list[int]:
    """The definition in the module's docstring, value by value."""
    slots = packing.slots_per_ciphertext(key_bits)
    rows = [integers[start : start + slots] for start in range(0, len(integers), slots)]
    return [sum(int(v) << (packing.slot_bits * i) for i, v in enumerate(row)) for row in rows]


def test_a_breast_cancer_update_is_one_ciphertext_by_default() -> None:
    packing = Packing()
    assert packing.slot_bits == 58
    assert packing.slots_per_ciphertext(2048) == 35
    assert packing.ciphertexts(35, 2048) == 1
    assert packing.ciphertexts(36, 2048) == 2


@given(packings(), st.integers(512, 2048), st.sampled_from([1, -1]))
def test_the_largest_tags_and_values_add_up_in_half_the_modulus(
    packing: Packing, key_bits: int, sign: int
) -> None:
    slots = packing.values_per_ciphertext(key_bits, tagged=True)
    edges = np.full(slots, sign * packing.maximum_integer)
    (largest,) = packing.pack(edges, key_bits, [TAG_LIMIT - 1])
    contributors = packing.max_contributors
    total = contributors * largest
    assert 0 <= total < 2 ** (key_bits - 2)
    totals, tags, fits = packing.unpack_tagged([total], slots, key_bits)
    assert totals.tolist() == [contributors * sign * packing.maximum_integer] * slots
    assert (tags, fits) == ([contributors * (TAG_LIMIT - 1)], True)


def test_a_breast_cancer_update_with_a_tag_is_one_ciphertext_for_up_to_32_hospitals() -> None:
    for hospitals, ciphertexts in ((3, 1), (32, 1), (33, 2), (512, 2)):
        packing = Packing(max_contributors=hospitals)
        assert packing.ciphertexts(35, 2048, tagged=True) == ciphertexts


@given(packings(), st.integers(65, 4096))
def test_full_slots_stay_below_half_the_modulus(packing: Packing, key_bits: int) -> None:
    slots = packing.slots_per_ciphertext(key_bits)
    largest = sum(
        packing.max_contributors * packing.maximum_integer << (packing.slot_bits * i)
        for i in range(slots)
    )
    smallest_modulus = 2 ** (key_bits - 1)
    assert 2 * largest < smallest_modulus


@given(packed_vectors(), st.integers(65, 3072))
def test_pack_is_the_definition_and_unpack_its_inverse(
    case: tuple[Packing, NDArray[np.int64]], key_bits: int
) -> None:
    packing, integers = case
    plaintexts = packing.pack(integers, key_bits)
    assert plaintexts == naive_plaintexts(packing, integers, key_bits)
    unpacked = packing.unpack(plaintexts, len(integers), key_bits)
    assert unpacked.dtype == np.int64
    assert unpacked.tolist() == integers.tolist()


@given(st.data(), packings())
def test_sums_of_any_contributors_are_exact(data: st.DataObject, packing: Packing) -> None:
    edge = packing.maximum_integer
    counts = data.draw(
        st.lists(st.integers(0, packing.max_contributors), min_size=2, max_size=40), "edges"
    )
    # Slot i gets `count` range-edge numbers and range-edge negative ones from everybody else.
    totals = [edge * count - edge * (packing.max_contributors - count) for count in counts]
    high = packing.pack(np.full(len(counts), edge), KEY_BITS)
    plaintexts = [
        sum(total << (packing.slot_bits * i) for i, total in enumerate(row))
        for row in _rows(totals, packing.slots_per_ciphertext(KEY_BITS))
    ]
    assert packing.unpack(plaintexts, len(totals), KEY_BITS).tolist() == totals
    everybody = [packing.max_contributors * plaintext for plaintext in high]
    unpacked = packing.unpack(everybody, len(counts), KEY_BITS)
    assert unpacked.tolist() == [packing.max_contributors * edge] * len(counts)


def _rows(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def test_many_rows_are_unpacked_in_blocks() -> None:
    packing = Packing(max_contributors=3)
    rng = np.random.default_rng(5)
    integers = rng.integers(-packing.maximum_integer, packing.maximum_integer, 3 * 300 - 1)
    plaintexts = [3 * plaintext for plaintext in packing.pack(integers, 200)]
    assert len(plaintexts) == 300
    assert packing.unpack(plaintexts, len(integers), 200).tolist() == (3 * integers).tolist()


@given(st.floats(-(2.0**24) + 1, 2.0**24 - 1))
def test_encode_rounds_to_the_nearest_step(value: float) -> None:
    packing = Packing()
    encoded = int(packing.encode(np.array([value]))[0])
    exact = Fraction(value) * 2**24
    assert abs(encoded - exact) <= Fraction(1, 2)
    assert packing.decode(np.array([encoded])).tolist() == [encoded / 2**24]


def test_encode_rounds_ties_to_even_and_keeps_tiny_values_at_zero() -> None:
    packing = Packing(fraction_bits=1)
    values = np.array([0.25, 0.75, -0.25, -0.75, 5e-324])
    assert packing.encode(values).tolist() == [0, 2, 0, -2, 0]


def test_the_range_edge_is_accepted_and_the_next_number_refused() -> None:
    packing = Packing(fraction_bits=4, integer_bits=3)
    edge = 8 - 1 / 16
    assert packing.encode(np.array([edge, -edge])).tolist() == [127, -127]
    for value in (8.0, -8.0, edge + 1 / 32):
        with pytest.raises(RangeError):
            packing.encode(np.array([0.0, value]))


def test_a_range_that_float64_cannot_represent_is_still_exact() -> None:
    packing = Packing(fraction_bits=0, integer_bits=60, max_contributors=8)
    below = np.nextafter(2.0**60, 0)
    assert packing.encode(np.array([below])).tolist() == [int(below)]
    with pytest.raises(RangeError):
        packing.encode(np.array([2.0**60]))


ANY = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-(2.0**12), 2.0**12)


@given(packing=packings(), values=st.lists(ANY, max_size=30), offset=st.integers(-20, 3))
def test_what_does_not_fit_becomes_the_nearest_integer_that_does(
    packing: Packing, values: list[float], offset: int
) -> None:
    """Compare with exact fractions, on both sides of a border between encoded blocks."""
    zeros = _ENCODED + offset
    integers, misfits = packing.saturate(np.array([0.0] * zeros + values))
    edge, expected, outside = packing.maximum_integer, [], []
    for at, value in enumerate(values):
        if np.isnan(value):
            rounded = 2 * edge + 1
        elif np.isinf(value):
            rounded = int(np.copysign(2 * edge + 1, value))
        else:
            rounded = round(Fraction(value) * 2**packing.fraction_bits)  # ties to even
        if abs(rounded) > edge:
            outside.append(zeros + at)
        expected.append(0 if np.isnan(value) else max(-edge, min(edge, rounded)))
    assert integers[zeros:].tolist() == expected
    assert not integers[:zeros].any()
    assert misfits.tolist() == outside


@pytest.mark.parametrize("bits", [(24, 24, 3), (0, 1, 1), (31, 32, 1), (24, 24, 512)], ids=str)
def test_random_integers_fill_the_range_of_one_contributor(bits: tuple[int, int, int]) -> None:
    packing, count = Packing(*bits), 20_000
    integers = packing.random(count)
    assert integers.dtype == np.int64
    assert integers.shape == (count,)
    packing.check(integers)
    assert not np.array_equal(integers, packing.random(count))
    # Five standard deviations of a uniform variable's mean, and of the share above any place.
    shares = integers / packing.maximum_integer
    if packing.maximum_integer > 1:
        assert abs(shares.mean()) < 5 / np.sqrt(3 * count)
        for place in (-0.9, -0.5, 0.0, 0.5, 0.9):
            above = (1 - place) / 2
            assert abs((shares > place).mean() - above) < 5 * np.sqrt(above * (1 - above) / count)


@given(packing=packings(), integer=st.integers(-(2**63), 2**63 - 1))
def test_decode_gives_the_nearest_float(packing: Packing, integer: int) -> None:
    (value,) = packing.decode(np.array([integer])).tolist()
    assert value == float(Fraction(integer, 2**packing.fraction_bits))


@pytest.mark.parametrize("value", [16777216.5, -3e9, 1e308, float("inf"), float("nan")])
def test_a_number_out_of_range_is_named_by_index_and_setting_only(value: float) -> None:
    with pytest.raises(RangeError) as caught:
        Packing().encode(np.array([1.0, 2.0, value, value]))
    assert caught.value.index == 2
    assert caught.value.setting == ("integer_bits" if np.isfinite(value) else "")
    assert re.match(r"value 2( \(withheld\))? must be ", str(caught.value))
    assert str(value) not in str(caught.value)


def test_the_message_names_the_setting_to_raise() -> None:
    with pytest.raises(RangeError, match=r"below 2\*\*24 in size.*raise integer_bits"):
        Packing().encode(np.array([1e9]))


def test_integers_of_more_than_one_contributor_are_refused() -> None:
    packing = Packing(fraction_bits=4, integer_bits=3)
    for number in (128, -128, np.iinfo(np.int64).min):
        with pytest.raises(RangeError) as caught:
            packing.pack(np.array([0, number]), KEY_BITS)
        assert caught.value.index == 1


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2)), np.zeros(3, dtype=np.float32), np.zeros(3, dtype=np.int64), np.float64(1.0)],
)
def test_encode_takes_float64_vectors_only(array: NDArray[np.float64]) -> None:
    with pytest.raises(CryptoError, match="one-dimensional float64 array"):
        Packing().encode(np.asarray(array))


def test_pack_and_decode_take_int64_vectors_only() -> None:
    wrong = np.zeros(3, dtype=np.int32)
    with pytest.raises(CryptoError, match="int64"):
        Packing().pack(wrong, KEY_BITS)  # type: ignore[arg-type]
    with pytest.raises(CryptoError, match="int64"):
        Packing().decode(wrong)  # type: ignore[arg-type]


def test_unpack_refuses_plaintexts_that_no_sum_can_have() -> None:
    packing = Packing(fraction_bits=2, integer_bits=3, max_contributors=3)  # slots of 8 bits
    edge = 3 * packing.maximum_integer
    key_bits = 17  # two slots
    assert packing.unpack([edge], 2, key_bits).tolist() == [edge, 0]
    with pytest.raises(CryptoError, match="slot 0 holds a larger number than a sum of 3 contr"):
        packing.unpack([edge + 1], 2, key_bits)
    with pytest.raises(CryptoError, match="slot 1 holds a larger"):
        packing.unpack([-(edge + 1) << 8], 2, key_bits)
    with pytest.raises(CryptoError, match="plaintext 1 must fit 2 slots of 8 bits"):
        packing.unpack([0, 1 << 16], 4, key_bits)
    with pytest.raises(CryptoError, match="plaintext 0 must fit"):
        packing.unpack([-(1 << 16)], 2, key_bits)
    with pytest.raises(CryptoError, match="slots from 1 on must be empty"):
        packing.unpack([1 << 8], 1, key_bits)
    with pytest.raises(CryptoError, match="plaintexts must be 1 for a length of 2, got 2"):
        packing.unpack([0, 0], 2, key_bits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction_bits": -1}, "fraction_bits must be between 0 and 63, got -1"),
        ({"integer_bits": 0}, "integer_bits must be between 1 and 63, got 0"),
        ({"max_contributors": 0}, "max_contributors must be between 1"),
        ({"max_contributors": 2**32}, "max_contributors must be between 1"),
        ({"max_contributors": 2**64 - 1}, f"got {2**64 - 1}"),
        ({"max_contributors": 2**64}, "got 65 bits"),
        ({"max_contributors": 10**5000}, "got 16610 bits"),  # too long for str()
        ({"fraction_bits": True}, "fraction_bits must be an integer, got true or false"),
        ({"integer_bits": 24.0}, "integer_bits must be an integer, got a decimal number"),
        ({"fraction_bits": 40}, "at most 64, got 74"),
    ],
)
def test_settings_are_checked(settings: dict[str, int], message: str) -> None:
    with pytest.raises(CryptoError, match=message):
        Packing(**settings)


def test_a_key_must_hold_a_slot() -> None:
    with pytest.raises(CryptoError, match="key_bits must exceed slot_bits, got 58 and 58"):
        Packing().slots_per_ciphertext(58)
    assert Packing().slots_per_ciphertext(59) == 1


@given(packings())
def test_json_round_trip(packing: Packing) -> None:
    assert Packing.from_json(packing.to_json()) == packing


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"fraction_bits":24,"integer_bits":24}',
        '{"fraction_bits":24,"integer_bits":24,"max_contributors":512,"more":1}',
        '{"fraction_bits":24,"fraction_bits":24,"integer_bits":24,"max_contributors":512}',
        '{"fraction_bits":true,"integer_bits":24,"max_contributors":512}',
        '{"fraction_bits":24.0,"integer_bits":24,"max_contributors":512}',
        '{"fraction_bits":"24","integer_bits":24,"max_contributors":512}',
        '{"fraction_bits":24,"integer_bits":NaN,"max_contributors":512}',
        '{"fraction_bits":24,"integer_bits":24,"max_contributors":1' + 100 * "0" + "}",
        '{"fraction_bits":24,"integer_bits":24,"max_contributors":1' + 9999 * "0" + "}",
        "[" * 200,
        "[" * 100_000,
    ],
)
def test_hostile_json_is_refused(text: str) -> None:
    with pytest.raises(CryptoError):
        Packing.from_json(text)


@given(st.data())
def test_mutated_json_is_read_or_refused(data: st.DataObject) -> None:
    text = list(Packing().to_json())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.characters())
    try:
        packing = Packing.from_json("".join(text))
    except CryptoError:
        return
    assert json.loads(packing.to_json()) == json.loads("".join(text))


def test_json_must_be_text() -> None:
    with pytest.raises(CryptoError, match="must be JSON text, got bytes"):
        Packing.from_json(b"{}")  # type: ignore[arg-type]
