from __future__ import annotations

import hashlib
import json
import pickle
import secrets

import phe
import phe.command_line
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.encoding.canonical import integers_digest
from fl_he.crypto.errors import CryptoError, ShortKeyWarning
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey


def phe_private(primes: tuple[int, int]) -> phe.PaillierPrivateKey:
    return phe.PaillierPrivateKey(phe.PaillierPublicKey(primes[0] * primes[1]), *primes)


@settings(max_examples=30)
@given(st.data())
def test_phe_decrypts_what_we_encrypt(
    small_key: PrivateKey, small_primes: tuple[int, int], data: st.DataObject
) -> None:
    public = small_key.public_key
    half = public.n // 2
    plaintexts = data.draw(st.lists(st.integers(-half, half), min_size=1, max_size=5))
    ciphertexts = public.encrypt(plaintexts)
    theirs = phe_private(small_primes)
    assert [theirs.raw_decrypt(c) for c in ciphertexts] == [m % public.n for m in plaintexts]


def test_the_largest_plaintexts(small_key: PrivateKey) -> None:
    public = small_key.public_key
    half = public.n // 2
    assert small_key.decrypt(public.encrypt([half, -half])) == [half, public.n - half]
    for plaintext in (half + 1, -half - 1, public.n):
        with pytest.raises(CryptoError, match="plaintext 1 must be at most n // 2 in size"):
            public.encrypt([0, plaintext])


def test_addition_and_rerandomisation(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    public = small_key.public_key
    theirs = phe_private(small_primes)
    [first, second] = public.encrypt([-30, 12])
    total = public.add(first, second)
    assert type(total) is int
    assert theirs.raw_decrypt(total) == public.n - 18
    [again, other] = public.rerandomise([total, second])
    assert again != total
    assert [theirs.raw_decrypt(again), theirs.raw_decrypt(other)] == [public.n - 18, 12]
    # phe's ciphertexts add to ours.
    mixed = public.add(phe.PaillierPublicKey(public.n).raw_encrypt(5), second)
    assert small_key.decrypt([mixed]) == [17]


def test_ciphertexts_are_fresh_and_in_range(small_key: PrivateKey) -> None:
    public = small_key.public_key
    ciphertexts = public.encrypt([0] * 30)
    assert len(set(ciphertexts)) == 30
    assert all(
        type(c) is int and c.bit_length() <= 8 * public.ciphertext_bytes for c in ciphertexts
    )
    public.check(ciphertexts)


def test_check_refuses_what_is_no_ciphertext(
    small_key: PrivateKey, small_primes: tuple[int, int]
) -> None:
    public = small_key.public_key
    good = public.encrypt([1, 2])
    public.check([])
    public.check([1, public.n**2 - 1])
    for bad in (0, -1, public.n**2, public.n**2 + 1):
        with pytest.raises(CryptoError, match=r"ciphertext 2 must be in \[1, n\*\*2\)"):
            public.check([*good, bad])
    for bad in (small_primes[0], small_primes[1] * 5, public.n):
        with pytest.raises(CryptoError, match="ciphertext 1 must be coprime to n"):
            public.check([good[0], bad, good[1]])


def test_prepare_builds_the_table(small_key: PrivateKey) -> None:
    small_key.public_key.masker.prepare(10_000)
    assert small_key.public_key.masker.window >= 4


def test_the_fingerprint_depends_on_both_numbers(
    small_key: PrivateKey, other_small_key: PrivateKey
) -> None:
    public = small_key.public_key
    changed = PublicKey(public.n, pow(public.h_s, 3, public.n**2), minimum_bits=512)
    assert len(public.fingerprint) == 64
    assert int(public.fingerprint, 16) >= 0
    assert (
        len({public.fingerprint, changed.fingerprint, other_small_key.public_key.fingerprint}) == 3
    )
    same = PublicKey(public.n, public.h_s, minimum_bits=512)
    assert same.fingerprint == public.fingerprint
    assert same == public
    assert hash(same) == hash(public)
    assert len({public, same, changed}) == 2
    assert hash(changed) != hash(public)
    assert changed != public
    assert public != object()


def test_the_fingerprint_stays_what_it_is(small_key: PrivateKey) -> None:
    # Nodes pin it, so a change breaks them: it needs a new domain string.
    public = small_key.public_key
    assert public.fingerprint == "53b8f535bb318db8bf574adac2f5602cbe85ecfb472b3db4a99d6a0dec63c67a"
    n, h_s = public.n.to_bytes(64, "big"), public.h_s.to_bytes(128, "big")
    hashed = b"fl-he Paillier public key 1\0" + b"\0\0\0\x40" + n + b"\0\0\0\x80" + h_s
    assert hashlib.sha256(hashed).hexdigest() == public.fingerprint


def test_phe_reads_our_json(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    public = small_key.public_key
    theirs = phe.command_line.load_public_key(json.loads(public.to_json()))
    assert theirs.n == public.n
    assert theirs == phe.PaillierPublicKey(public.n)
    encrypted = theirs.encrypt(3)
    assert phe_private(small_primes).decrypt(encrypted) == 3


def test_json_round_trip(small_key: PrivateKey) -> None:
    public = small_key.public_key
    again = PublicKey.from_json(public.to_json(), minimum_bits=512)
    assert (again.n, again.h_s, again.key_bits) == (public.n, public.h_s, 512)
    assert again == public


def test_short_keys_are_refused_or_warned_of(small_key: PrivateKey) -> None:
    public = small_key.public_key
    with pytest.raises(CryptoError, match="between 1024 and 8192 bits, got 512"):
        PublicKey.from_json(public.to_json())
    with pytest.raises(CryptoError, match="between 1024 and 8192 bits, got 512"):
        PublicKey(public.n, public.h_s)
    with pytest.warns(ShortKeyWarning, match="got 512"):
        PublicKey.from_json(public.to_json(), minimum_bits=512)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kty", "RSA"),
        ("kty", None),
        ("alg", "PAI-GN2"),
        ("key_ops", ["decrypt"]),
        ("key_ops", "encrypt"),
        ("n", ""),
        ("n", 12345),
        ("n", True),
        ("n", "AQ"),
        ("n", "A" * 5000),
        ("h_s", "AQ"),
        ("h_s", "AA"),
        ("h_s", []),
        ("h_s", "_" * 3000),
        ("kid", "0" * 64),
        ("kid", None),
    ],
)
def test_a_wrong_member_is_refused(small_key: PrivateKey, member: str, value: object) -> None:
    members = json.loads(small_key.public_key.to_json())
    with pytest.raises(CryptoError, match=member):
        PublicKey.from_json(json.dumps(members | {member: value}), minimum_bits=512)


def test_a_missing_or_unknown_member_is_refused(small_key: PrivateKey) -> None:
    members = json.loads(small_key.public_key.to_json())
    for name in members:
        fewer = {key: value for key, value in members.items() if key != name}
        with pytest.raises(CryptoError, match=f"missing \\['{name}'\\]"):
            PublicKey.from_json(json.dumps(fewer), minimum_bits=512)
    with pytest.raises(CryptoError, match="1 unknown"):
        PublicKey.from_json(json.dumps(members | {"g": 1}), minimum_bits=512)
    with pytest.raises(CryptoError, match="at most 8192 characters"):
        PublicKey.from_json(" " * 9000)


def test_a_key_that_switches_encryption_off_is_refused_even_with_a_matching_kid(
    small_key: PrivateKey,
) -> None:
    public = small_key.public_key
    for h_s in (1, public.n + 1, public.n**2 - 1):
        with pytest.raises(CryptoError, match="h_s must be"):
            PublicKey(public.n, h_s, minimum_bits=512)


@given(st.data())
def test_mutated_json_is_refused(small_key: PrivateKey, data: st.DataObject) -> None:
    original = small_key.public_key.to_json()
    text = list(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=3))
    mutated = "".join(text)
    try:
        key = PublicKey.from_json(mutated, minimum_bits=512)
    except CryptoError:
        return
    assert json.loads(mutated) == json.loads(original)  # only blanks or escapes were changed
    assert key == small_key.public_key


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_json_value_is_refused_as_a_number(small_key: PrivateKey, value: object) -> None:
    members = json.loads(small_key.public_key.to_json())
    with pytest.raises(CryptoError):
        PublicKey.from_json(json.dumps(members | {"n": value}), minimum_bits=512)


def test_a_public_key_can_be_pickled(small_key: PrivateKey) -> None:
    public = small_key.public_key
    again = pickle.loads(pickle.dumps(public))  # noqa: S301 - our own bytes
    assert again == public
    assert small_key.decrypt(again.encrypt([9])) == [9]


def test_repr_is_short(small_key: PrivateKey) -> None:
    public = small_key.public_key
    assert repr(public) == f"PublicKey(512 bits, {public.fingerprint[:16]})"


def test_default_length_interoperates_with_phe(large_key: PrivateKey) -> None:
    public = large_key.public_key
    assert public.key_bits == 2048
    members = json.loads(large_key.to_json())
    primes = [phe.util.base64_to_int(members[name]) for name in "pq"]
    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(public.n), *primes)
    plaintext = secrets.randbelow(public.n // 2)
    [ours] = public.encrypt([plaintext])
    assert theirs.raw_decrypt(ours) == plaintext
    assert large_key.decrypt([phe.PaillierPublicKey(public.n).raw_encrypt(plaintext)]) == [
        plaintext
    ]


def test_only_the_very_key_that_is_known_is_not_checked_again(small_key: PrivateKey) -> None:
    public = small_key.public_key
    read = PublicKey.from_json(
        public.to_json(), minimum_bits=public.key_bits, known=public.fingerprint
    )
    assert read == public
    # Were it not for `known`, this one could not be made: it shows that the checks are left out.
    unusable = public.n, 1
    with pytest.raises(CryptoError, match="h_s must be in"):
        PublicKey(*unusable, minimum_bits=public.key_bits, known=public.fingerprint)
    with pytest.raises(CryptoError, match="n must be 1 modulo 4"):
        PublicKey(public.n + 2, public.h_s, minimum_bits=512, known=public.fingerprint)
    PublicKey(
        *unusable, minimum_bits=public.key_bits, known=integers_digest(PublicKey.LABEL, *unusable)
    )
