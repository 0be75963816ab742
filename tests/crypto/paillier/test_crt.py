from __future__ import annotations

import copy
import json
import pickle

import gmpy2
import phe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.encoding.strict_json import integer_to_base64url
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey


def pair(primes: tuple[int, int]) -> tuple[phe.PaillierPrivateKey, PrivateKey]:
    n = primes[0] * primes[1]
    key = phe.PaillierPrivateKey(phe.PaillierPublicKey(n), *primes)
    h_s = int(gmpy2.powmod(-4, n, n * n))
    return key, PrivateKey(PublicKey(n, h_s, minimum_bits=n.bit_length()), *primes)


@settings(max_examples=40)
@given(st.data())
def test_any_element_is_decrypted_as_phe_does(
    small_primes: tuple[int, int], data: st.DataObject
) -> None:
    phe_key, ours = pair(small_primes)
    n = phe_key.public_key.n
    elements = data.draw(st.lists(st.integers(1, n**2 - 1), max_size=6))
    elements = [element for element in elements if gmpy2.gcd(element, n) == 1]
    cores = data.draw(st.integers(1, 9))
    assert ours.decrypt(elements, cores=cores) == [phe_key.raw_decrypt(c) for c in elements]


def test_the_primes_in_any_order(small_primes: tuple[int, int]) -> None:
    _, ours = pair(small_primes)
    _, swapped = pair((small_primes[1], small_primes[0]))
    members = json.loads(ours.to_json())
    assert swapped.to_json() == ours.to_json()
    assert [members["p"], members["q"]] == [integer_to_base64url(p) for p in sorted(small_primes)]


def test_the_numbers_are_not_shown_or_copied(small_primes: tuple[int, int]) -> None:
    _, ours = pair(small_primes)
    for holder in (ours, ours._PrivateKey__p):  # type: ignore[attr-defined]
        assert not hasattr(holder, "__dict__")
        assert str(small_primes[0]) not in repr(holder)
        for copying in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="must not be copied or pickled"):
                copying(holder)
