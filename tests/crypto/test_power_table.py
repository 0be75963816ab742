from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.dgk_private_key import DgkPrivateKey
from fl_he.crypto.power_table import PowerTable

MODULUS = 1000003 * 998244353


@given(st.integers(0, 2 * MODULUS), st.binary(min_size=1, max_size=6))
def test_a_power_from_the_table_is_the_power(base: int, exponent: bytes) -> None:
    table = PowerTable(base, MODULUS, len(exponent))
    largest = b"\xff" * len(exponent)
    for data in (exponent, largest, bytes(len(exponent))):
        assert table.power(data) == pow(base, int.from_bytes(data, "little"), MODULUS)


def test_an_exponent_of_another_length_is_refused() -> None:
    for wrong in (b"\1\2", b"\1\2\3\4"):
        with pytest.raises(ValueError, match="zip"):
            PowerTable(3, MODULUS, 3).power(wrong)


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


def test_dgk_exponents_are_long_enough_to_hide(
    small_dgk: DgkPrivateKey, drawn: list[bytes]
) -> None:
    # t is 160 at this length: 2.5 t bits for others, t and 40 for the owner, per prime
    small_dgk.public_key.encrypt([1, 2])
    small_dgk.encrypt_bits([0, 1, 1])
    assert [len(data) for data in drawn] == [2 * 400 // 8, 3 * 200 // 8, 3 * 200 // 8]
    assert small_dgk.encrypt_bits([]) == []
