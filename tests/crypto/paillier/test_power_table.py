from __future__ import annotations

import secrets

import numpy as np
import pytest
import small_keys
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.paillier.powers import PowerTable

MODULUS = 1000003 * 998244353


def rows(exponents: list[int], width: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    data = b"".join(exponent.to_bytes(width, "little") for exponent in exponents)
    return np.frombuffer(data, dtype=np.uint8).reshape(len(exponents), width)


@settings(max_examples=40)
@given(
    st.integers(0, MODULUS * 2),
    st.integers(1, 6).flatmap(
        lambda width: st.tuples(
            st.just(width), st.lists(st.integers(0, 256**width - 1), min_size=1, max_size=300)
        )
    ),
)
def test_powers_are_the_powers(base: int, drawn: tuple[int, list[int]]) -> None:
    width, exponents = drawn
    exponents += [0, 1, 256**width - 1]
    table = PowerTable(base, MODULUS, width)
    assert table.powers(rows(exponents, width)) == [pow(base, e, MODULUS) for e in exponents]


def test_exponents_are_reduced_modulo_a_known_order() -> None:
    # 4 has the order 11 modulo 23, whose exponents have four bits
    exponents = [0, 1, 10, 11, 12, 255, 65_535]
    table = PowerTable(4, 23, 2, order=11)
    assert table.powers(rows(exponents, 2)) == [pow(4, e, 23) for e in exponents]
    assert len(table._rows) * table.window <= 4 + table.window - 1


def test_random_powers_are_powers_of_the_base_and_differ() -> None:
    # 5 has order 22 modulo 23
    table = PowerTable(4, 23, 2)
    powers = table.random_powers(5000)  # more than one block
    assert len(powers) == 5000
    squares = {pow(4, e, 23) for e in range(11)}
    counts = {power: powers.count(power) for power in squares}
    assert sum(counts.values()) == 5000
    assert min(counts.values()) > 300, "of 5000, an eleventh each"


def test_digits_grow_with_what_is_asked_for_at_once_and_never_shrink() -> None:
    table = PowerTable(3, MODULUS, 30)
    assert table.window == 0
    windows = []
    for count in (1, 100, 5000, 1, 100):
        table.random_powers(count)
        windows.append(table.window)
    assert windows[0] < windows[1] < windows[2] == windows[3] == windows[4]


def test_a_table_stays_below_its_largest_size() -> None:
    table = PowerTable(3, (1 << 2048) + 1, 8)
    table._prepare(10**9)
    assert sum(map(len, table._rows)) * (2048 // 8) < 16 * 2**20
    assert table.window > 10
    own = PowerTable(3, (1 << 1024) + 1, 36, order=1 << 224)
    own._prepare(10**9)
    assert sum(map(len, own._rows)) * (1024 // 8) < 7 * 2**20
    assert own.window == 10


def test_nothing_asked_for_is_nothing() -> None:
    assert PowerTable(3, MODULUS, 4).random_powers(0) == []


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All random bytes that were drawn, in order."""
    kept: list[bytes] = []
    token_bytes = secrets.token_bytes

    def keep(count: int) -> bytes:
        kept.append(token_bytes(count))
        return kept[-1]

    monkeypatch.setattr(secrets, "token_bytes", keep)
    return kept


def test_random_powers_have_exponents_of_their_own(drawn: list[bytes]) -> None:
    powers = PowerTable(3, MODULUS, 4).random_powers(20)
    (data,) = drawn
    assert len(data) == 80
    assert powers == [
        pow(3, int.from_bytes(data[at : at + 4], "little"), MODULUS) for at in range(0, 80, 4)
    ]


def test_dgk_exponents_are_long_enough_to_hide(drawn: list[bytes]) -> None:
    small_dgk = small_keys.dgk()
    # t is 160 at this length: 2.5 t bits for others, t and 40 for the owner, per prime
    small_dgk.public_key.encrypt([1, 2])
    small_dgk.encrypt_bits([0, 1, 1])
    assert [len(data) for data in drawn] == [2 * 400 // 8, 3 * 200 // 8, 3 * 200 // 8]
    assert small_dgk.encrypt_bits([]) == []
