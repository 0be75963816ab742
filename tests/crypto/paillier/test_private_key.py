from __future__ import annotations

import copy
import json
import pickle
import re
import traceback
from pathlib import Path

import gmpy2
import numpy as np
import phe
import phe.command_line
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.errors import CryptoError, KeyFileError, ShortKeyWarning
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey


def primes_of(key: PrivateKey) -> tuple[int, int]:
    members = json.loads(key.to_json())
    return phe.util.base64_to_int(members["p"]), phe.util.base64_to_int(members["q"])


@settings(max_examples=30)
@given(st.data())
def test_we_decrypt_as_phe_does(
    small_key: PrivateKey, small_primes: tuple[int, int], data: st.DataObject
) -> None:
    public = small_key.public_key
    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(public.n), *small_primes)
    # Any element is a ciphertext of something, so arbitrary ones compare both decryptions.
    elements = data.draw(st.lists(st.integers(1, public.n**2 - 1), min_size=1, max_size=5))
    elements = [c for c in elements if gmpy2.gcd(c, public.n) == 1]
    cores = data.draw(st.integers(1, 9))
    expected = [theirs.raw_decrypt(c) for c in elements]
    assert small_key.decrypt(elements, cores=cores) == expected
    plaintexts = data.draw(st.lists(st.integers(0, public.n - 1), max_size=3))
    encrypted = [phe.PaillierPublicKey(public.n).raw_encrypt(m) for m in plaintexts]
    assert small_key.decrypt(encrypted) == plaintexts


@pytest.mark.parametrize("cores", [1, 2, 4, 7])
def test_the_order_is_kept_on_any_number_of_cores(small_key: PrivateKey, cores: int) -> None:
    plaintexts = list(range(11))
    ciphertexts = small_key.public_key.encrypt(plaintexts)
    assert small_key.decrypt(ciphertexts, cores=cores) == plaintexts


def test_decrypt_refuses_what_is_no_ciphertext(
    small_key: PrivateKey, small_primes: tuple[int, int]
) -> None:
    assert small_key.decrypt([]) == []
    for bad in (0, small_key.public_key.n**2, small_primes[0]):
        with pytest.raises(CryptoError, match="ciphertext 0 must be"):
            small_key.decrypt([bad])


@pytest.mark.parametrize("key_bits", [512, 514, 1024])
def test_a_generated_key_has_the_form_that_the_base_needs(key_bits: int) -> None:
    key = PrivateKey.generate(key_bits, minimum_bits=512)
    p, q = primes_of(key)
    public = key.public_key
    assert public.key_bits == key_bits
    assert (p * q, p != q) == (public.n, True)
    assert (p % 4, q % 4) == (3, 3)
    assert gmpy2.gcd(p - 1, q - 1) == 2
    assert gmpy2.is_prime(p)
    assert gmpy2.is_prime(q)
    assert p.bit_length() == q.bit_length() == key_bits // 2
    # h_s = h**n mod n**2 with h = -x**2: an n-th power, and no square modulo either prime.
    assert key.decrypt([public.h_s]) == [0]
    assert gmpy2.jacobi(public.h_s, p) == gmpy2.jacobi(public.h_s, q) == -1


def test_keys_differ() -> None:
    first, second = (PrivateKey.generate(512, minimum_bits=512).public_key for _ in range(2))
    assert first.n != second.n


def test_lengths_are_checked() -> None:
    for bits in (512, 1022, 9000, 0, -2048):
        with pytest.raises(CryptoError, match=f"between 1024 and 8192 bits, got {bits}"):
            PrivateKey.generate(bits)
    with pytest.raises(CryptoError, match="key_bits must be a multiple of 2, got 2049"):
        PrivateKey.generate(2049)
    with pytest.warns(ShortKeyWarning, match="got 1024"):
        PrivateKey.generate(1024)


def test_numbers_that_are_no_key_are_refused(
    small_key: PrivateKey, small_primes: tuple[int, int], other_small_key: PrivateKey
) -> None:
    p, q = small_primes
    public = small_key.public_key
    PrivateKey(public, q, p)  # in any order
    for pair in ((p, q + 4), (1, p * q), (p * q, 1), (-p, -q), primes_of(other_small_key)):
        with pytest.raises(CryptoError, match="factors of n of 256 bits each"):
            PrivateKey(public, *pair)


def test_a_base_that_is_no_nth_power_is_refused(
    small_key: PrivateKey, small_primes: tuple[int, int]
) -> None:
    public = small_key.public_key
    shifted = public.h_s * (1 + public.n) % public.n**2
    with pytest.raises(CryptoError, match="h_s must be an n-th power"):
        PrivateKey(PublicKey(public.n, shifted, minimum_bits=512), *small_primes)


def test_composite_or_unsuitable_factors_are_refused(small_key: PrivateKey) -> None:
    def prime(start: int, remainder: int) -> int:
        while not (gmpy2.is_prime(start) and start % 4 == remainder):
            start += 1
        return start

    def with_divisor(of_both: int, above: int) -> int:
        """Return a prime that is 3 modulo 4 and 1 modulo the divisor."""
        while (found := prime(above, 3)) % of_both != 1:
            above = found + 1
        return found

    low = (3 << 254) + (1 << 200)
    first, second = prime(low, 1), prime(low + 10**6, 1)
    composite = prime(15 << 124, 3) * prime(15 << 124, 1)
    assert composite.bit_length() == 256
    third = prime(low, 3)
    while gmpy2.gcd(composite - 1, third - 1) != 2:
        third = prime(third + 1, 3)
    for p, q, message in (
        (first, second, "3 modulo 4"),
        (with_divisor(5, low), with_divisor(5, low + 10**6), r"gcd\(p - 1, q - 1\) = 2"),
        (composite, third, "must be primes"),
    ):
        n = p * q
        base = next(x for x in range(2, 99) if gmpy2.jacobi(x, n) == 1)
        public = PublicKey(n, pow(base, n, n * n), minimum_bits=512)
        with pytest.raises(CryptoError, match=message):
            PrivateKey(public, p, q)


def test_vectors_of_another_key_are_refused(
    small_key: PrivateKey, other_small_key: PrivateKey
) -> None:
    vector = EncryptedVector.encrypt(small_key.public_key, Packing(), np.ones(3))
    assert small_key.decrypt_vector(vector).tolist() == [1.0, 1.0, 1.0]
    expected = other_small_key.public_key.fingerprint
    with pytest.raises(CryptoError, match=f"the key must be {expected}"):
        other_small_key.decrypt_vector(vector)


def test_progress_of_a_long_vector(small_key: PrivateKey) -> None:
    packing = Packing()
    length = 300 * packing.slots_per_ciphertext(512) - 1
    values = np.arange(length, dtype=np.float64) - 7
    vector = EncryptedVector.encrypt(small_key.public_key, packing, values)
    seen: list[tuple[int, int]] = []
    decrypted = small_key.decrypt_vector(vector, progress=lambda *step: seen.append(step))
    assert decrypted.tolist() == values.tolist()
    assert seen == [(256 * packing.slots_per_ciphertext(512), length), (length, length)]


def test_slots_that_fill_a_plaintext_to_its_sign(other_small_key: PrivateKey) -> None:
    packing = Packing(fraction_bits=0, integer_bits=6, max_contributors=1)
    slots = packing.slots_per_ciphertext(512)
    assert slots * packing.slot_bits == 511  # no bit is left over, for any modulus
    values = np.repeat([63.0, -63.0], slots)
    vector = EncryptedVector.encrypt(other_small_key.public_key, packing, values)
    assert other_small_key.decrypt_integers(vector).tolist() == values.tolist()


def test_a_total_of_too_many_contributors_is_refused(small_key: PrivateKey) -> None:
    public = small_key.public_key
    packing = Packing(fraction_bits=0, integer_bits=8, max_contributors=3)
    vector = EncryptedVector.encrypt(public, packing, np.array([255.0, -255.0]))
    total = vector.add(vector, public).add(vector, public)
    assert small_key.decrypt_integers(total).tolist() == [765, -765]
    with pytest.raises(CryptoError, match="a larger number than a sum of 3 contributors"):
        small_key.decrypt_vector(total.add(vector, public))


def test_phe_reads_our_private_json(small_key: PrivateKey, tmp_path: Path) -> None:
    # phe's own command line: extract the public key, encrypt with it, decrypt.
    key_file, public_file, number = (tmp_path / name for name in ("key", "public", "number"))
    key_file.write_text(small_key.to_json())
    runner = CliRunner()
    for arguments in (
        ["extract", str(key_file), str(public_file)],
        ["encrypt", str(public_file), "12.5", "--output", str(number)],
    ):
        assert runner.invoke(phe.command_line.cli, arguments).exit_code == 0
    assert public_file.read_text().strip() == json.dumps(json.loads(small_key.public_key.to_json()))
    result = runner.invoke(phe.command_line.cli, ["decrypt", str(key_file), str(number)])
    assert result.exit_code == 0
    assert "12.5" in result.output


def test_json_round_trip(small_key: PrivateKey) -> None:
    again = PrivateKey.from_json(small_key.to_json(), minimum_bits=512)
    assert again.public_key == small_key.public_key
    assert again.decrypt(small_key.public_key.encrypt([42])) == [42]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kty", "RSA"),
        ("key_ops", ["encrypt"]),
        ("p", ""),
        ("p", "AQ"),
        ("p", 7),
        ("q", None),
        ("q", "A" * 4000),
        ("pub", None),
        ("pub", {}),
        ("pub", []),
        ("kid", "x"),
    ],
)
def test_a_wrong_member_is_refused(small_key: PrivateKey, member: str, value: object) -> None:
    members = json.loads(small_key.to_json())
    with pytest.raises(CryptoError):
        PrivateKey.from_json(json.dumps(members | {member: value}), minimum_bits=512)


@settings(max_examples=60)
@given(st.data())
def test_mutated_json_is_refused_without_showing_it(
    small_key: PrivateKey, data: st.DataObject
) -> None:
    original = small_key.to_json()
    text = list(original)
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=2))
    mutated = "".join(text)
    try:
        PrivateKey.from_json(mutated, minimum_bits=512)
    except CryptoError as error:
        refusal = error
    else:
        assert json.loads(mutated) == json.loads(original)
        return
    assert not _shows(refusal, small_key)


def _shows(error: BaseException, key: PrivateKey) -> bool:
    """Return if an exception shows a prime factor, or hides another exception that could."""
    members = json.loads(key.to_json())
    secrets = [members["p"], members["q"], *map(str, primes_of(key))]
    seen = "".join(traceback.format_exception(error)) + repr(error.args) + repr(vars(error))
    chained = error.__context__ or error.__cause__
    return any(secret in seen for secret in secrets) or chained is not None


def test_the_key_is_in_no_repr_and_cannot_be_copied(small_key: PrivateKey) -> None:
    secrets = [str(prime) for prime in primes_of(small_key)]
    secrets += [f"{prime:x}" for prime in primes_of(small_key)]
    fingerprint = small_key.public_key.fingerprint
    assert repr(small_key) == str(small_key) == f"PrivateKey(512 bits, {fingerprint[:16]})"
    assert not hasattr(small_key, "__dict__")
    shown = "".join(repr(getattr(small_key, name)) for name in dir(small_key))
    assert not any(secret in shown for secret in secrets)
    assert not re.search(r"\d{40}", shown)  # no number that could be another private one
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="must not be copied or pickled"):
            copying(small_key)


def test_save_and_load(small_key: PrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    small_key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert PrivateKey.load(path, minimum_bits=512).public_key == small_key.public_key
    with pytest.raises(KeyFileError, match="must not replace another file"):
        PrivateKey.generate(512, minimum_bits=512).save(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="owner only"):
        PrivateKey.load(path)


def test_files_that_are_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    for content in (b"", b"\xff\xfe", b"{}"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(CryptoError, match="private key must"):
            PrivateKey.load(path)


def test_a_known_key_is_read_without_its_checks_but_for_the_product(small_key: PrivateKey) -> None:
    public = small_key.public_key
    p, q = primes_of(small_key)
    text, bits = small_key.to_json(), public.key_bits
    read = PrivateKey.from_json(text, minimum_bits=bits, known=public.fingerprint)
    assert read.decrypt(public.encrypt([7])) == [7]
    with pytest.raises(CryptoError, match="p and q must be factors of n"):
        PrivateKey(public, p, q - 2, known=public.fingerprint)
    # The known key must be this one; otherwise a base that is not an n-th power is found.
    wrong = PublicKey(public.n, public.h_s + public.n * 4, minimum_bits=bits)
    with pytest.raises(CryptoError, match="h_s must be an n-th power"):
        PrivateKey(wrong, p, q, known=public.fingerprint)
    PrivateKey(wrong, p, q, known=wrong.fingerprint)
