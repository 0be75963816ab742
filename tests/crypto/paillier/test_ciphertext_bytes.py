from __future__ import annotations

import pytest

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.ciphertext_bytes import ciphertexts_from_bytes, ciphertexts_to_bytes
from fl_he.crypto.paillier.private_key import PrivateKey


def test_ciphertexts_survive_and_are_big_endian(small_key: PrivateKey) -> None:
    public = small_key.public_key
    ciphertexts = [*public.encrypt([5, -7, 0]), 1, 258]
    data = ciphertexts_to_bytes(public, ciphertexts)
    assert len(data) == 5 * 128
    assert data[-128:] == bytes(126) + b"\1\2"
    assert ciphertexts_from_bytes(public, data, 5) == ciphertexts
    assert ciphertexts_from_bytes(public, b"", 0) == []


def test_others_are_refused(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    public = small_key.public_key
    data = ciphertexts_to_bytes(public, public.encrypt([5, -7]))
    for wrong, count in ((data, 1), (data, 3), (data[:-1], 2), (data + b"\0", 2)):
        with pytest.raises(CryptoError, match=f"{count} ciphertexts must be {128 * count} bytes"):
            ciphertexts_from_bytes(public, wrong, count)
    for spoilt in (bytes(128), b"\xff" * 128, small_primes[0].to_bytes(128, "big")):
        with pytest.raises(CryptoError, match="ciphertext 1 must be"):
            ciphertexts_from_bytes(public, data[:128] + spoilt, 2)
