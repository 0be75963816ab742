"""DGK ciphertexts opened by the scheme's definition, which fl-he never does."""

from __future__ import annotations

import base64
import json

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey


def private_numbers(key: DgkPrivateKey) -> list[mpz]:
    """Return p, q, v_p and v_q."""
    members = json.loads(key.to_json())
    texts = [members[name] for name in ("p", "q", "v_p", "v_q")]
    padded = [text + "=" * (-len(text) % 4) for text in texts]
    return [mpz(int.from_bytes(base64.urlsafe_b64decode(text), "big")) for text in padded]


def slot_numbers(key: DgkPrivateKey, ciphertext: mpz) -> dict[int, int]:
    """Return the number in each slot, by the slot's prime."""
    p, _, v_p, _ = private_numbers(key)
    u, found = key.public_key.u, {}
    for prime in key.public_key.primes:
        wanted, base = (
            gmpy2.powmod(number, v_p * (u // prime), p) for number in (ciphertext, key.public_key.g)
        )
        found[prime] = next(m for m in range(prime) if gmpy2.powmod(base, m, p) == wanted)
    return found


def decrypted(key: DgkPrivateKey, ciphertext: mpz) -> int:
    """Return the logarithm of c**v_p to the base g**v_p modulo p."""
    p, _, v_p, _ = private_numbers(key)
    wanted, base = (gmpy2.powmod(number, v_p, p) for number in (ciphertext, key.public_key.g))
    return next(m for m in range(key.public_key.u) if gmpy2.powmod(base, m, p) == wanted)
