from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from typing import Any

import gmpy2
import phe
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st
from small_keys import SHORT, SMALL, SMALL_BITS, short

from fl_he.crypto.encoding.canonical import integers_digest
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.key_kind import KeyKind, exponent_bytes, uniform_exponent_bytes
from fl_he.crypto.paillier.masking import Masker
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.workers import Worker


@pytest.fixture(params=list(KeyKind))
def key(request: pytest.FixtureRequest, short_key: PrivateKey, small_key: PrivateKey) -> PrivateKey:
    return short_key if request.param is KeyKind.short else small_key


def primes_of(key: PrivateKey) -> tuple[int, int]:
    return SHORT[:2] if key.public_key.key_kind is KeyKind.short else SMALL[:2]


def outside(key: PrivateKey, plaintext: int, modulo: int) -> int:
    """Return an encryption whose randomness is in the subgroup modulo the other prime only."""
    p, q = primes_of(key)
    other = p * q // modulo
    (inside,) = key.public_key.encrypt([plaintext])
    foreign = phe.PaillierPublicKey(key.public_key.n).raw_encrypt(plaintext)
    square, rest = modulo**2, other**2
    lifted = (foreign - inside) * pow(rest, -1, square) % square * rest
    return int((inside + lifted) % key.public_key.n**2)


@settings(max_examples=30)
@given(st.data())
def test_phe_and_we_decrypt_each_other(
    small_key: PrivateKey, short_key: PrivateKey, data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from([small_key, short_key]))
    public, n = key.public_key, key.public_key.n
    theirs = phe.PaillierPublicKey(n)
    opener = phe.PaillierPrivateKey(theirs, *primes_of(key))
    plaintexts = data.draw(st.lists(st.integers(-(n // 2), n // 2), min_size=1, max_size=5))
    expected = [plaintext % n for plaintext in plaintexts]
    ours = public.encrypt(plaintexts)
    assert [opener.raw_decrypt(c) for c in ours] == expected
    foreign = [theirs.raw_encrypt(plaintext % n) for plaintext in plaintexts]
    cores = data.draw(st.integers(1, 5))
    mixed = [c for pair in zip(ours, foreign, strict=True) for c in pair]
    assert key.decrypt(mixed, cores=cores) == [m for m in expected for _ in range(2)]
    sums = [public.add(a, b) for a, b in zip(ours, foreign, strict=True)]
    assert key.decrypt(sums) == [2 * m % n for m in expected]
    # Any element is a ciphertext of something, so arbitrary ones compare both decryptions.
    elements = data.draw(st.lists(st.integers(1, n**2 - 1), min_size=1, max_size=5))
    elements = [c for c in elements if gmpy2.gcd(c, n) == 1]
    assert key.decrypt(elements, cores=cores) == [opener.raw_decrypt(c) for c in elements]


@settings(max_examples=10)
@given(st.data())
def test_tno_and_we_decrypt_each_other(
    small_key: PrivateKey, short_key: PrivateKey, data: st.DataObject
) -> None:
    theirs = pytest.importorskip(
        "tno.mpc.encryption_schemes.paillier", reason="TNO's Paillier is not installed"
    )
    from tno.mpc.encryption_schemes.paillier.paillier import (  # noqa: PLC0415 - slow to import
        PaillierPublicKey,
        PaillierSecretKey,
    )

    key = data.draw(st.sampled_from([small_key, short_key]))
    (p, q), n = primes_of(key), key.public_key.n
    lam = math.lcm(p - 1, q - 1)
    scheme = theirs.Paillier(
        PaillierPublicKey(n, n + 1), PaillierSecretKey(lam, pow(lam, -1, n), n), precision=0
    )
    plaintext = data.draw(st.integers(-(2**200), 2**200))
    value = int(scheme.unsafe_encrypt(plaintext).randomize().get_value())
    assert key.decrypt([value]) == [plaintext % n]
    (ours,) = key.public_key.encrypt([plaintext])
    assert int(scheme.decrypt(theirs.PaillierCiphertext(ours, scheme))) == plaintext


def test_a_short_key_has_the_form_of_its_kind() -> None:
    key = PrivateKey.generate(1024)
    members = json.loads(key.to_json())
    p, q, p1, q1 = (phe.util.base64_to_int(members[name]) for name in ("p", "q", "p1", "q1"))
    n, h_s = key.public_key.n, key.public_key.h_s
    assert key.public_key.key_kind is KeyKind.short
    assert p * q == n
    assert gmpy2.gcd(p - 1, q - 1) == 2
    assert {p.bit_length(), q.bit_length()} == {512}
    assert {p1.bit_length(), q1.bit_length()} == {160}
    assert p1 != q1
    for prime, order in ((p, p1), (q, q1)):
        assert gmpy2.is_prime(prime)
        assert gmpy2.is_prime(order)
        assert prime % 4 == 3
        assert (prime - 1) % (2 * order) == 0
        # -1 times an element of order p1
        assert pow(h_s, 2 * order, prime**2) == 1
        assert pow(h_s, order, prime) == prime - 1
    assert PrivateKey.from_json(key.to_json()).to_json() == key.to_json()


def test_exponents_have_twice_the_length_of_a_secret_prime() -> None:
    kinds = KeyKind.short, KeyKind.djn
    lengths = {bits: [8 * exponent_bytes(kind, bits) for kind in kinds] for bits in (2048, 3072)}
    assert lengths == {2048: [448, 1024], 3072: [512, 1536]}
    # h_s is of an order below 2**449 and 2**513
    assert [8 * uniform_exponent_bytes(KeyKind.short, bits) for bits in (2048, 3072)] == [496, 560]
    assert [8 * uniform_exponent_bytes(KeyKind.djn, bits) for bits in (2048, 3072)] == [2088, 3112]


def test_a_short_key_draws_short_exponents(
    short_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[int] = []
    token_bytes = secrets.token_bytes

    def keep(count: int) -> bytes:
        requested.append(count)
        return token_bytes(count)

    public = short_key.public_key
    monkeypatch.setattr(secrets, "token_bytes", keep)
    public.encrypt([1, 2])
    public.owner_masker.encrypt([1])
    # p1 and q1 have 128 bits each in this key
    assert requested == [2 * 256 // 8, -(-257 // 8) + 5]


def test_a_worker_draws_exponents_of_the_keys_kind(short_key: PrivateKey) -> None:
    """Exponents of one byte give one of 256 ciphertexts, in the child too."""
    public = short_key.public_key
    narrow = Masker(public.n, public.h_s, 1)
    with Worker(narrow, 1) as worker:
        (ciphertext,) = worker.encrypt([5])
    powers = {(1 + 5 * public.n) * pow(public.h_s, r, public.n**2) for r in range(256)}
    assert ciphertext in {power % public.n**2 for power in powers}


def exponents_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note the exponent and the number of bases of each power modulo the square of a prime."""
    noted: list[tuple[int, int]] = []
    powers = gmpy2.powmod_base_list

    def note(bases: Sequence[mpz], exponent: mpz, modulus: mpz) -> Any:
        noted.append((int(exponent), len(bases)))
        return powers(bases, exponent, modulus)

    monkeypatch.setattr(gmpy2, "powmod_base_list", note)
    return noted


def test_own_ciphertexts_take_the_short_orders(
    short_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = exponents_of(monkeypatch)
    public = short_key.public_key
    assert short_key.decrypt(public.encrypt([5, 6]), cores=1) == [5, 6]
    assert noted == [(2 * order, 2) for order in SHORT[2:4]]


@pytest.mark.parametrize("modulo", [*SHORT[:2], SHORT[0] * SHORT[1]])
def test_a_foreign_ciphertext_takes_the_full_exponents_modulo_both_primes(
    short_key: PrivateKey, monkeypatch: pytest.MonkeyPatch, modulo: int
) -> None:
    public = short_key.public_key
    foreign = outside(short_key, 7, modulo)
    noted = exponents_of(monkeypatch)
    assert short_key.decrypt([*public.encrypt([5]), foreign], cores=1) == [5, 7]
    quick = [(2 * order, 2) for order in SHORT[2:4]]
    assert noted == quick + [(prime - 1, 1) for prime in SHORT[:2]]


def test_vectors_with_foreign_ciphertexts_decrypt(short_key: PrivateKey) -> None:
    public, packing = short_key.public_key, Packing()
    vector = EncryptedVector.encrypt(public, packing, [1.5, -2.0])
    zero = phe.PaillierPublicKey(public.n).raw_encrypt(0)
    body = public.to_bytes([public.add(c, zero) for c in vector.to_integers()])
    foreign = EncryptedVector(public, packing, 2, bytearray(body))
    assert short_key.decrypt_vector(foreign).tolist() == [1.5, -2.0]


def test_the_kind_is_part_of_published_key_and_fingerprint(
    short_key: PrivateKey, small_key: PrivateKey
) -> None:
    public = short_key.public_key
    digest = integers_digest(b"fl-he short Paillier public key 1\0", public.n, public.h_s)
    assert public.fingerprint == digest
    # Nodes pin it.
    assert digest == "792beb78a966ef4d52ce0cb36254f3550aa25ad638beaaad601c1d759136ef4a"
    members = json.loads(public.to_json())
    assert members["key_kind"] == "short"
    assert PublicKey.from_json(public.to_json(), minimum_bits=SMALL_BITS) == public
    without = {name: value for name, value in members.items() if name != "key_kind"}
    with pytest.raises(CryptoError, match="kid must be"):
        PublicKey.from_json(json.dumps(without), minimum_bits=SMALL_BITS)
    other = PublicKey(public.n, public.h_s, minimum_bits=SMALL_BITS)
    assert other != public
    assert other.fingerprint != public.fingerprint
    # A key without a kind, as all of before, is djn, and has one text only.
    members = json.loads(small_key.public_key.to_json())
    assert "key_kind" not in members
    assert PublicKey.from_json(json.dumps(members), minimum_bits=512).key_kind is KeyKind.djn
    for kind, words in (("djn", "key_kind must be left out if it is djn"), ("x", "one of")):
        with pytest.raises(CryptoError, match=words):
            PublicKey.from_json(json.dumps(members | {"key_kind": kind}), minimum_bits=512)


def test_private_numbers_that_do_not_fit_their_kind_are_refused(
    short_key: PrivateKey, small_key: PrivateKey
) -> None:
    public, (p, q, p1, q1) = short_key.public_key, SHORT[:4]
    djn = small_key.public_key
    with pytest.raises(
        CryptoError, match="p1 and q1 must have 128 bits each in a key of kind short"
    ):
        PrivateKey(public, p, q)
    with pytest.raises(
        CryptoError, match="p1 and q1 must have 128 bits each in a key of kind short"
    ):
        PrivateKey(public, p, q, p1=p1, q1=2 * q1)
    with pytest.raises(CryptoError, match="p1 and q1 must have 0 bits each in a key of kind djn"):
        PrivateKey(djn, *SMALL[:2], p1=p1, q1=q1)
    with pytest.raises(CryptoError, match="must divide p - 1 and q - 1"):
        PrivateKey(public, p, q, p1=q1, q1=p1)
    # A base of the full order, in a key that says short.
    full = PublicKey(
        public.n, pow(4, public.n, public.n**2), key_kind=KeyKind.short, minimum_bits=512
    )
    with pytest.raises(CryptoError, match="of order 2 \\* p1 \\* q1"):
        PrivateKey(full, p, q, p1=p1, q1=q1)
    lifted = PublicKey(
        public.n,
        public.h_s * (1 + public.n) % public.n**2,
        key_kind=KeyKind.short,
        minimum_bits=512,
    )
    with pytest.raises(CryptoError, match="h_s must be an n-th power"):
        PrivateKey(lifted, p, q, p1=p1, q1=q1)


def test_a_composite_order_is_refused() -> None:
    p = 0xC02C1D4CC3A3DEE79D899428E2841FDD22777CA90A7F2CDA0AAA530311114C3B
    p1 = 0xD604277378DFFED1 * 0xEDBE2285126AA2A9
    with pytest.raises(CryptoError, match="must be primes, and p1 and q1 in a key of kind short"):
        short(p, SHORT[1], p1, *SHORT[3:])
