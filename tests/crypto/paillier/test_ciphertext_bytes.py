from __future__ import annotations

import pytest

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey


def test_ciphertexts_survive_and_are_big_endian(small_key: PrivateKey) -> None:
    public = small_key.public_key
    ciphertexts = [*public.encrypt([5, -7, 0]), 1, 258]
    data = public.to_bytes(ciphertexts)
    assert len(data) == 5 * 128
    assert data[-128:] == bytes(126) + b"\1\2"
    assert public.from_bytes(data, 5) == ciphertexts
    assert public.from_bytes(b"", 0) == []


def test_others_are_refused(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    public = small_key.public_key
    data = public.to_bytes(public.encrypt([5, -7]))
    for wrong, count in ((data, 1), (data, 3), (data[:-1], 2), (data + b"\0", 2)):
        with pytest.raises(CryptoError, match=f"{count} ciphertexts must be {128 * count} bytes"):
            public.from_bytes(wrong, count)
    for spoilt in (bytes(128), b"\xff" * 128, small_primes[0].to_bytes(128, "big")):
        with pytest.raises(CryptoError, match="ciphertext 1 must be"):
            public.from_bytes(data[:128] + spoilt, 2)
