"""Our comparison against TNO's, whose step functions follow the same paper, with the same keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from argmax_roles import winners
from dgk_decryption import private_numbers

from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.paillier.private_key import PrivateKey

BITS = 8
SMALL_BITS = 512


def tno_schemes(
    paillier: PrivateKey, primes: tuple[int, int], dgk: DgkPrivateKey
) -> tuple[Any, Any]:
    from tno.mpc.encryption_schemes.dgk import DGK  # noqa: PLC0415
    from tno.mpc.encryption_schemes.dgk.dgk import DGKPublicKey, DGKSecretKey  # noqa: PLC0415
    from tno.mpc.encryption_schemes.paillier import Paillier  # noqa: PLC0415
    from tno.mpc.encryption_schemes.paillier.paillier import (  # noqa: PLC0415
        PaillierPublicKey,
        PaillierSecretKey,
    )

    n, order = paillier.public_key.n, math.lcm(primes[0] - 1, primes[1] - 1)
    public = dgk.public_key
    p, q, v_p, v_q = map(int, private_numbers(dgk))
    return (
        Paillier(PaillierPublicKey(n, n + 1), PaillierSecretKey(order, pow(order, -1, n), n)),
        DGK(
            DGKPublicKey(public.g, public.h, public.u, public.n, 160),
            DGKSecretKey(v_p, v_q, p, q),
            full_decryption=False,
        ),
    )


def tno_at_most(paillier: Any, dgk: Any, x: int, y: int) -> int:
    """Return ``x <= y`` by TNO's steps."""
    from tno.mpc.protocols.secure_comparison import (  # noqa: PLC0415 - lazy: a second to import
        Initiator,
        KeyHolder,
    )

    alice, bob = Initiator, KeyHolder
    z, r = alice.step_1(paillier.unsafe_encrypt(x), paillier.unsafe_encrypt(y), BITS, paillier)
    alpha = alice.step_3(r, BITS)
    z_plain, beta = bob.step_2(z, BITS, paillier)
    d = alice.step_4c(bob.step_4a(z_plain, dgk, paillier, BITS), r, dgk, paillier)
    beta_bits = bob.step_4b(beta, BITS, dgk)
    w, alpha_tilde = alice.step_4e(r, alpha, alice.step_4d(alpha, beta_bits), d, paillier)
    s, delta_a = alice.step_4g()
    c = alice.step_4h(s, alpha, alpha_tilde, d, beta_bits, alice.step_4f(w), delta_a, dgk)
    delta_b = bob.step_4j(alice.step_4i(c, dgk), dgk)
    zeta_1, zeta_2, delta = bob.step_5(z_plain, BITS, delta_b, paillier)
    result = alice.step_7(zeta_1, zeta_2, r, BITS, alice.step_6(delta_a, delta), paillier)
    return int(paillier.decrypt(result))


@pytest.mark.filterwarnings("ignore")
def test_both_order_two_numbers_alike(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    # TNO's protocol wants a prime above 2**(BITS + 2)
    dgk = DgkPrivateKey.generate(SMALL_BITS, primes=(1031,), minimum_bits=SMALL_BITS)
    schemes = tno_schemes(small_key, small_primes, dgk)
    values = [(3, 5), (5, 3), (0, 255), (255, 0), (128, 127), (254, 255), (17, 16)]
    won, kept, _ = winners(small_key, dgk, np.array(values))
    for (x, y), position, order in zip(values, won, kept.permutations, strict=True):
        assert order[position] == tno_at_most(*schemes, x, y)
