from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fl_he.crypto.paillier.powers import FixedBaseTable, best_window, exponent_digits

# Two primes: enough for arithmetic, no key.
P, Q = 1000003, 998244353
N = P * Q
SQUARE = N * N


def power(table: FixedBaseTable, exponent: int) -> int:
    size = -(-table.exponent_bits // 8)
    data = np.frombuffer(exponent.to_bytes(size, "little"), dtype=np.uint8)
    [digits] = exponent_digits(data[np.newaxis], table.exponent_bits, table.window)
    product, lift = table.split_power(digits)
    return int(product * (1 + lift * N) % SQUARE)


@settings(max_examples=60)
@given(st.integers(2, SQUARE - 1), st.integers(1, 9), st.integers(1, 90), st.data())
def test_a_power_from_the_table_is_the_power(
    base: int, window: int, exponent_bits: int, data: st.DataObject
) -> None:
    assume(base % P != 0 and base % Q != 0)
    table = FixedBaseTable(base, N, exponent_bits, window)
    largest = 2**exponent_bits - 1
    for exponent in (0, 1, largest, data.draw(st.integers(0, largest))):
        assert power(table, exponent) == pow(base, exponent, SQUARE)


def test_many_exponents_at_once_give_their_digits() -> None:
    numbers = np.array([0, 1, 0b10_110_101_100_011_010_001, 2**20 - 1], dtype="<u4")
    rows = numbers.view(np.uint8).reshape(4, 4)[:, :3]
    assert exponent_digits(rows, 20, 3) == [
        [0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6, 2],
        [7, 7, 7, 7, 7, 7, 3],
    ]


def test_too_few_digits_are_refused() -> None:
    table = FixedBaseTable(3, N, 20, 3)
    with pytest.raises(ValueError, match="shorter"):
        table.split_power([1, 2, 3])


def test_one_exponentiation_repays_no_table() -> None:
    assert best_window(1024, 2048, 1) == 0


def test_the_window_grows_with_the_number_of_exponentiations() -> None:
    windows = [best_window(1024, 2048, count) for count in (1, 10, 100, 1000, 10_000, 100_000)]
    assert windows == sorted(windows)
    assert windows[0] == 0
    assert windows[-1] > windows[2] > 0


def test_the_table_is_bounded() -> None:
    for key_bits in (1024, 2048, 3072, 8192):
        window = best_window(key_bits // 2, key_bits, 10**9)
        entries = -(-(key_bits // 2) // window) * 2**window
        assert 2 * entries * key_bits // 8 < 64 * 2**20


def test_a_table_that_is_there_is_replaced_only_if_that_repays() -> None:
    window = best_window(1024, 2048, 100)
    assert best_window(1024, 2048, 100, window) == window
    assert best_window(1024, 2048, 1, window) == window
    assert best_window(1024, 2048, 100_000, window) > window


def test_powmod_on_more_threads_asks_for_more_exponentiations() -> None:
    def break_even(threads: int) -> int:
        return next(c for c in range(1, 100) if best_window(1024, 2048, c, threads=threads))

    assert break_even(1) < break_even(4)
