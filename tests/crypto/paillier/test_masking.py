from __future__ import annotations

import secrets

import pytest

from fl_he.crypto.paillier.masking import Masker
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey


def fresh(key: PrivateKey) -> Masker:
    public = key.public_key
    return Masker(public.n, public.h_s, public.masker.exponent_bytes)


def test_table_and_powmod_encrypt_the_same_plaintexts(small_key: PrivateKey) -> None:
    n = small_key.public_key.n
    plaintexts = [0, 1, n - 1, n // 2, -1, -(n // 2), *(secrets.randbelow(n) for _ in range(30))]
    expected = [plaintext % n for plaintext in plaintexts]
    slow = fresh(small_key)
    ciphertexts = [slow.encrypt([plaintext])[0] for plaintext in plaintexts[:1]]
    assert slow.window == 0
    assert small_key.decrypt(ciphertexts) == expected[:1]
    fast = fresh(small_key)
    fast.prepare(10_000)
    assert fast.window > 0
    assert small_key.decrypt(fast.encrypt(plaintexts)) == expected


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_powmod_on_several_threads_keeps_the_order(small_key: PrivateKey, cores: int) -> None:
    plaintexts = [7, 8]
    slow = fresh(small_key)
    assert small_key.decrypt(slow.encrypt(plaintexts, cores=cores)) == plaintexts


def test_both_ways_raise_h_s_to_the_random_exponent(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, h_s = small_key.public_key.n, small_key.public_key.h_s
    size = 512 // 2 // 8
    exponents = [secrets.token_bytes(size) for _ in range(3)]
    requested: list[int] = []

    def token_bytes(count: int) -> bytes:
        requested.append(count)
        return b"".join(exponents)

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    expected = [
        (1 + n * plaintext) * pow(h_s, int.from_bytes(exponent, "little"), n * n) % (n * n)
        for plaintext, exponent in zip((5, 6, 7), exponents, strict=True)
    ]
    slow = fresh(small_key)
    slow.prepare = lambda *_: None  # type: ignore[method-assign]
    assert slow.encrypt([5, 6, 7], cores=2) == expected
    fast = fresh(small_key)
    fast.prepare(1000)
    assert fast.encrypt([5, 6, 7]) == expected
    assert requested == [3 * size, 3 * size]


def test_ciphertexts_for_the_keys_owner_have_longer_exponents(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the order of h_s has as many bits as n, here 512: 40 more make its power uniform to 2**-40
    public = small_key.public_key
    requested: list[int] = []
    token_bytes = secrets.token_bytes

    def keep(count: int) -> bytes:
        requested.append(count)
        return token_bytes(count)

    monkeypatch.setattr(secrets, "token_bytes", keep)
    owners = public.owner_masker
    assert small_key.decrypt(owners.encrypt([5, 6])) == [5, 6]
    assert requested == [2 * (512 + 40) // 8]
    assert owners is public.owner_masker
    assert owners is not public.masker


def test_equal_plaintexts_get_different_ciphertexts(small_key: PrivateKey) -> None:
    fast = fresh(small_key)
    fast.prepare(1000)
    assert len(set(fast.encrypt([1] * 50))) == 50


def test_a_table_comes_with_use(small_key: PrivateKey) -> None:
    used = fresh(small_key)
    windows = []
    for _ in range(60):
        used.encrypt([0])
        windows.append(used.window)
    assert windows[0] == 0
    assert windows[-1] > 0
    assert windows == sorted(windows)


def test_nothing_to_encrypt(small_key: PrivateKey) -> None:
    assert fresh(small_key).encrypt([]) == []


def test_one_masker_per_key_and_process(small_key: PrivateKey, other_small_key: PrivateKey) -> None:
    public, other = small_key.public_key, other_small_key.public_key
    first, second = (PublicKey(public.n, public.h_s, minimum_bits=512).masker for _ in range(2))
    assert first is second
    assert first is not fresh(small_key)
    third = PublicKey(other.n, other.h_s, minimum_bits=512).masker
    assert third is not first
