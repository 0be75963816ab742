from __future__ import annotations

import hashlib
import json
import pickle
import secrets
import stat
from pathlib import Path

import gmpy2
import pytest
import small_keys
from dgk_decryption import decrypted, private_numbers, slot_numbers
from gmpy2 import mpz

from fl_he.crypto.comparison.dgk_key import PLAINTEXT_PRIMES, DgkPublicKey, separated
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.errors import CryptoError, KeyFileError
from fl_he.crypto.key_files import ScryptCost
from fl_he.crypto.paillier.key_kind import order_bits

SMALL_BITS = 512


def test_the_owner_and_the_others_encrypt_what_can_be_opened(small_dgk: DgkPrivateKey) -> None:
    public = small_dgk.public_key
    for plaintext in (0, 1, 2, 128, 256, 257, -1):
        (ciphertext,) = public.encrypt([plaintext])
        assert decrypted(small_dgk, mpz(ciphertext)) == plaintext % 257
    zero, one = small_dgk.encrypt_bits([0, 1])
    assert (decrypted(small_dgk, zero), decrypted(small_dgk, one)) == (0, 1)
    assert small_dgk.are_zero([zero, one, one * one % public.n, mpz(public.encrypt([257])[0])]) == [
        *(True, False, False, True)
    ]


def test_products_of_ciphertexts_hold_sums(small_dgk: DgkPrivateKey) -> None:
    public = small_dgk.public_key
    a, b = map(mpz, public.encrypt([100, 200]))
    assert decrypted(small_dgk, a * b % public.n) == (100 + 200) % 257


def test_equal_plaintexts_have_different_ciphertexts(small_dgk: DgkPrivateKey) -> None:
    assert len(set(small_dgk.encrypt_bits([1] * 50))) == 50
    assert len(set(small_dgk.public_key.encrypt([1] * 50))) == 50


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_a_generated_key_has_elements_of_the_stated_orders() -> None:
    key = DgkPrivateKey.generate(1024, primes=(1031,))
    public, (p, q, v_p, v_q) = key.public_key, private_numbers(key)
    assert p * q == public.n
    assert public.key_bits == 1024
    for prime, v in ((p, v_p), (q, v_q)):
        assert v.bit_length() == order_bits(1024) == 160
        cofactor, rest = divmod(prime - 1, 2 * 1031 * v)
        assert rest == 0
        assert all(gmpy2.is_prime(number) for number in (prime, v, cofactor))
        assert gmpy2.powmod(public.h, v, prime) == 1 != gmpy2.powmod(public.h, 1, prime)
        for factor in (1031, v):
            assert gmpy2.powmod(public.g, 1031 * v // factor, prime) != 1
        assert gmpy2.powmod(public.g, 1031 * v, prime) == 1


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_generated_primes_are_as_long_as_they_must_be() -> None:
    # otherwise some moduli would be a bit short
    for _ in range(8):
        key = DgkPrivateKey.generate(SMALL_BITS, primes=(1031,), minimum_bits=SMALL_BITS)
        for prime in private_numbers(key)[:2]:
            assert int(prime) >> (SMALL_BITS // 2 - 2) == 3
        for order in private_numbers(key)[2:]:
            assert int(order).bit_length() == order_bits(SMALL_BITS) == 160
    again = DgkPrivateKey.from_json(key.to_json(), minimum_bits=SMALL_BITS)
    assert again.public_key.u == 1031
    public = DgkPublicKey.from_json(key.public_key.to_json(), minimum_bits=SMALL_BITS)
    assert public.fingerprint == again.public_key.fingerprint


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_a_plaintext_is_a_number_in_each_slot() -> None:
    key = DgkPrivateKey.generate(SMALL_BITS, minimum_bits=SMALL_BITS)
    public = key.public_key
    assert public.primes == PLAINTEXT_PRIMES
    rows = [[1, 0, 1, 1, 0, 0, 0, 1], [0, 1], [1] * 8, []]
    ciphertexts = key.encrypt_slots(rows)
    for row, ciphertext in zip(rows, ciphertexts, strict=True):
        padded = row + [0] * (8 - len(row))
        assert slot_numbers(key, ciphertext) == dict(zip(PLAINTEXT_PRIMES, padded, strict=True))
        assert key.zero_slots([ciphertext], 8) == [[not bit for bit in padded]]
    a, b = ciphertexts[:2]
    assert list(slot_numbers(key, a * a % public.n * b % public.n).values())[:3] == [2, 1, 2]
    assert key.zero_slots([b], 2) == [[True, False]]
    found = separated(a, public.primes, mpz(public.n), {131, 157})
    others = public.u // 131 % 131
    assert set(found) == {131, 157}
    assert slot_numbers(key, found[131]) == dict.fromkeys(PLAINTEXT_PRIMES, 0) | {131: others}
    assert key.are_zero([found[157]]) == [True]
    again = DgkPrivateKey.from_json(key.to_json(), minimum_bits=SMALL_BITS)
    assert again.public_key.fingerprint == public.fingerprint


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_a_slot_without_its_order_is_refused() -> None:
    key = DgkPrivateKey.generate(SMALL_BITS, primes=(131, 137), minimum_bits=SMALL_BITS)
    public, numbers = key.public_key, map(int, private_numbers(key))
    bare = pow(public.g, 137, public.n)  # the second slot would hold 0 for any plaintext
    wrong = DgkPublicKey(public.n, bare, public.h, public.u, minimum_bits=SMALL_BITS)
    with pytest.raises(CryptoError, match="g and h must be of the orders"):
        DgkPrivateKey(wrong, *numbers)


def test_orders_grow_with_the_modulus() -> None:
    assert [order_bits(bits) for bits in (1024, 2048, 3072, 8192)] == [160, 224, 256, 384]


def test_the_fingerprint_stays_what_it_is() -> None:
    # Nodes pin it, so a change breaks them: it needs a new domain string.
    public = small_keys.dgk().public_key  # made here, so that it is a test of making it
    hashed = b"fl-he DGK public key 1\0"
    for number, size in ((public.n, 64), (public.g, 64), (public.h, 64), (257, 2)):
        hashed += bytes([0, 0, 0, size]) + number.to_bytes(size, "big")
    assert hashlib.sha256(hashed).hexdigest() == public.fingerprint
    assert public.fingerprint.startswith("8433ff2cb5f43067")


def test_keys_survive_json(small_dgk: DgkPrivateKey) -> None:
    again = DgkPrivateKey.from_json(small_dgk.to_json(), minimum_bits=SMALL_BITS)
    assert again.are_zero(small_dgk.encrypt_bits([0, 1])) == [True, False]
    public = DgkPublicKey.from_json(small_dgk.public_key.to_json(), minimum_bits=SMALL_BITS)
    assert public.fingerprint == small_dgk.public_key.fingerprint


def test_a_key_file_is_private_and_opens_with_its_passphrase(
    small_dgk: DgkPrivateKey, tmp_path: Path
) -> None:
    plain, protected = tmp_path / "plain.json", tmp_path / "protected.json"
    small_dgk.save(plain)
    small_dgk.save(protected, "käse", cost=ScryptCost(n=2, r=1, p=1))
    assert stat.S_IMODE(plain.stat().st_mode) == stat.S_IMODE(protected.stat().st_mode) == 0o600
    assert plain.read_text() == small_dgk.to_json() + "\n"
    assert json.loads(protected.read_text())["n"] == 2
    assert json.loads(small_dgk.to_json())["p"] not in protected.read_text()
    for path, passphrase in ((plain, None), (protected, "käse")):
        again = DgkPrivateKey.load(path, passphrase, minimum_bits=SMALL_BITS)
        assert again.to_json() == small_dgk.to_json()
        with pytest.raises(CryptoError, match="between 1024 and 8192 bits, got 512"):
            DgkPrivateKey.load(path, passphrase)
    for wrong in (None, "kase"):
        with pytest.raises(CryptoError):
            DgkPrivateKey.load(protected, wrong, minimum_bits=SMALL_BITS)
    with pytest.raises(KeyFileError, match="must not replace"):
        small_dgk.save(plain)
    plain.write_text(" " * 30_000)
    with pytest.raises(CryptoError, match="at most 24576 characters"):
        DgkPrivateKey.load(plain, minimum_bits=SMALL_BITS)


def test_ciphertexts_survive_bytes_and_others_are_refused(small_dgk: DgkPrivateKey) -> None:
    public = small_dgk.public_key
    data = public.to_bytes(ciphertexts := small_dgk.encrypt_bits([0, 1, 1]))
    assert public.from_bytes(data, 3) == ciphertexts
    p = private_numbers(small_dgk)[0]
    width = public.ciphertext_bytes
    for number in (1, public.n - 1):
        assert public.from_bytes(number.to_bytes(width, "big"), 1) == [number]
    for wrong, message in (
        (data[1:], f"must be {3 * width} bytes, got {3 * width - 1}"),
        (data + b"\0", f"must be {3 * width} bytes, got {3 * width + 1}"),
        (bytearray(data), f"must be {3 * width} bytes, got bytearray"),
        (bytes(3 * width), r"ciphertext 0 must be in \[1, n\)"),
        (data[:width] + b"\xff" * 2 * width, r"ciphertext 1 must be in \[1, n\)"),
        (data[width:] + public.n.to_bytes(width, "big"), r"ciphertext 2 must be in \[1, n\)"),
    ):
        with pytest.raises(CryptoError, match=message):
            public.from_bytes(wrong, 3)  # type: ignore[arg-type]
    with pytest.raises(CryptoError, match="coprime"):
        public.from_bytes(public.to_bytes([ciphertexts[0], p, ciphertexts[1]]), 3)


def test_public_numbers_that_hide_nothing_are_refused(small_dgk: DgkPrivateKey) -> None:
    public = small_dgk.public_key
    n, g, h = public.n, public.g, public.h
    p = int(private_numbers(small_dgk)[0])
    half_one = int(gmpy2.invert(n // p, p) * (n // p) * (h - 1) % n + 1)  # 1 modulo q
    for wrong in (
        *(
            (n, g, 1, 257),
            (n, g, n - 1, 257),
            (n, g, p, 257),
            (n, 1, h, 257),
            (n, g, half_one, 257),
        ),
        *(
            (n, g, h, 256),
            (n, g, h, 2),
            (n, g, h, 257 * 257),
            (n, g, h, 2053),
            (n + 1, g, h, 257),
            (n * 3, g, h, 257),
        ),
    ):
        with pytest.raises(CryptoError):
            DgkPublicKey(*wrong, minimum_bits=SMALL_BITS)


@pytest.mark.parametrize("order", [8, 27, 211])
def test_masks_of_a_small_order_are_refused(order: int) -> None:
    def factor_and_element() -> tuple[int, int]:
        while not gmpy2.is_prime(p := order * 2 * secrets.randbits(246) + 1):
            pass
        while (x := int(gmpy2.powmod(secrets.randbelow(p), (p - 1) // order, p))) == 1:
            pass
        return p, x

    (p, first), (q, second) = factor_and_element(), factor_and_element()
    h = (first * q * int(gmpy2.invert(q, p)) + second * p * int(gmpy2.invert(p, q))) % (p * q)
    with pytest.raises(CryptoError, match="h must be of large order"):
        DgkPublicKey(p * q, secrets.randbelow(p * q - 3) + 2, h, minimum_bits=480)


def test_private_numbers_that_do_not_belong_together_are_refused(small_dgk: DgkPrivateKey) -> None:
    public, (p, q, v_p, v_q) = small_dgk.public_key, map(int, private_numbers(small_dgk))
    for wrong in ((q, q, v_p, v_q), (p, q, v_q, v_p), (p, q, v_p, p), (1, p * q, v_p, v_q)):
        with pytest.raises(CryptoError):
            DgkPrivateKey(public, *wrong)


def test_orders_that_are_not_the_stated_ones_are_refused(small_dgk: DgkPrivateKey) -> None:
    public, (p, q, v_p, v_q) = small_dgk.public_key, map(int, private_numbers(small_dgk))
    n, g, h = public.n, public.g, public.h

    def refused(match: str, g: int, h: int, *numbers: int) -> None:
        key = DgkPublicKey(n, g, h, public.u, minimum_bits=SMALL_BITS)
        with pytest.raises(CryptoError, match=match):
            DgkPrivateKey(key, *numbers)

    DgkPrivateKey(DgkPublicKey(n, g, h, public.u, minimum_bits=SMALL_BITS), p, q, v_p, v_q)
    orders = "g and h must be of the orders"
    refused(orders, g, g, p, q, v_p, v_q)  # h of the order u * v
    refused(orders, pow(g, public.u, n), h, p, q, v_p, v_q)  # g of the order v: it hides all
    refused(orders, 3, h, p, q, v_p, v_q)  # g of an order that u * v does not divide
    refused("p, q, v_p and v_q must be primes", g, h, p, q, 2 * v_p, 2 * v_q)


def test_the_square_of_a_prime_is_no_modulus(small_dgk: DgkPrivateKey) -> None:
    public, (p, _, v_p, _) = small_dgk.public_key, map(int, private_numbers(small_dgk))
    square = DgkPublicKey(p * p, public.g % p, public.h % p, public.u, minimum_bits=500)
    with pytest.raises(CryptoError, match="p and q must be the factors of n"):
        DgkPrivateKey(square, p, p, v_p, v_p)


def test_a_private_key_shows_and_hands_out_nothing(small_dgk: DgkPrivateKey) -> None:
    assert "8433ff2cb5f43067" in repr(small_dgk)
    assert str(json.loads(small_dgk.to_json())["p"]) not in repr(small_dgk)
    with pytest.raises(TypeError):
        pickle.dumps(small_dgk)
