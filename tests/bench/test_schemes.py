from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import gmpy2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_he.bench.schemes import (
    BFV_MODULUS,
    Scheme,
    UnitRun,
    Vector,
    bfv_scheme,
    ckks_scheme,
    example_updates,
    heu_scheme,
    largest_error,
    packed_scheme,
    phe_scheme,
    run_unit,
    ticketed_scheme,
)
from fl_he.crypto.masks.masked_vector import MaskedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.opening import TicketError
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

KEY = PrivateKey.generate(256, minimum_bits=256)
LONG_KEY = PrivateKey.generate(512, minimum_bits=512)  # with room for tags
STEP = 2.0**-24  # of the default packing


def all_schemes() -> list[tuple[str, Scheme, float]]:
    """Return each scheme with the error that it may make."""
    return [
        ("phe", phe_scheme(256), 1e-15),
        ("packed", packed_scheme(KEY, 1), 1.5 * STEP),
        ("masks", ticketed_scheme(KEY, "masks", manifest=False), 1.5 * STEP),
        ("masks, tags", ticketed_scheme(KEY, "masks", manifest=True), 1.5 * STEP),
        ("packed, tags", ticketed_scheme(LONG_KEY, "paillier", manifest=True), 1.5 * STEP),
    ]


@pytest.mark.parametrize(("name", "scheme", "error"), all_schemes())
@pytest.mark.parametrize("length", [1, 9])
def test_a_unit_sums_three_updates(name: str, scheme: Scheme, error: float, length: int) -> None:
    updates = example_updates(length)
    run = run_unit(scheme, updates)
    assert run.result.shape == (length,)
    np.testing.assert_allclose(run.result, sum(updates), rtol=0, atol=error + 1e-15)
    assert min(run.encrypt, run.add, run.decrypt) > 0


def test_ckks_sums_in_chunks() -> None:
    pytest.importorskip("tenseal")
    scheme = ckks_scheme()
    updates = example_updates(5000)
    run = run_unit(scheme, updates)
    np.testing.assert_allclose(run.result, sum(updates), rtol=0, atol=1e-5)
    assert largest_error([run.result], updates) > 0, "CKKS is approximate"
    assert len(scheme.encrypt(updates[0])) == 2
    # Two polynomials of 8,192 coefficients modulo 100 bits, for each of two chunks; a little less
    # once compressed.
    assert 0.8 < run.bytes / (2 * 2 * 8192 * 13) < 1.3


def sum_of_all(values: Vector) -> Vector:
    """Return the total of as many hospitals as a packing has room for."""
    packing = Packing()
    return packing.decode(packing.max_contributors * packing.encode(values))


@pytest.mark.parametrize("length", [9, 5000])
def test_bfv_sums_exactly_in_chunks(length: int) -> None:
    pytest.importorskip("tenseal")
    scheme, packing, updates = bfv_scheme(), Packing(), example_updates(length)
    run = run_unit(scheme, updates)
    sums = packing.decode(sum(map(packing.encode, updates), np.zeros(length, np.int64)))
    np.testing.assert_array_equal(run.result, sums)
    chunks = -(-length // 4096)
    assert len(scheme.encrypt(updates[0])) == chunks
    # Two polynomials of 4,096 coefficients modulo 80 bits for each chunk, compressed.
    assert 0.8 < run.bytes / (chunks * 2 * 4096 * 10) < 1.3


def test_bfv_has_room_for_all_contributors_of_the_packing() -> None:
    pytest.importorskip("tenseal")
    scheme, packing = bfv_scheme(), Packing()
    edge = np.array([packing.maximum, -packing.maximum, 0.0] * 1365)
    total = scheme.encrypt(edge)
    for _ in range(packing.headroom):  # the same noise again and again adds up fastest
        total = scheme.add(total, [chunk.copy() for chunk in total])
    np.testing.assert_array_equal(scheme.decrypt(total), sum_of_all(edge))


def test_bfv_has_128_bit_security(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tenseal")
    assert gmpy2.is_prime(BFV_MODULUS)
    assert BFV_MODULUS % (2 * 4096) == 1
    assert 2 ** Packing().slot_bits < BFV_MODULUS
    # SEAL has the standard's table and refuses one bit more.
    monkeypatch.setattr("fl_he.bench.schemes._BFV_PRIMES", (40, 40, 30))
    with pytest.raises(ValueError, match="parameters"):
        bfv_scheme()


@pytest.mark.parametrize("length", [1, 8, 9])
def test_heu_sums_pairs_of_values(length: int) -> None:
    pytest.importorskip("heu")
    scheme, packing, updates = heu_scheme(512), Packing(), example_updates(length)
    run = run_unit(scheme, updates)
    sums = packing.decode(sum(map(packing.encode, updates), np.zeros(length, np.int64)))
    np.testing.assert_array_equal(run.result, sums)
    ciphertexts = (length + 1) // 2
    assert ciphertexts * 128 <= run.bytes <= ciphertexts * 140 + 20


def test_heu_has_room_for_all_contributors_of_the_packing() -> None:
    pytest.importorskip("heu")
    scheme, packing = heu_scheme(512), Packing()
    edge = np.array([packing.maximum, -packing.maximum, packing.maximum])
    total = scheme.encrypt(edge)
    for _ in range(packing.headroom):
        total = scheme.add(total, total)
    np.testing.assert_array_equal(scheme.decrypt(total), sum_of_all(edge))


def test_bytes_are_those_that_travel() -> None:
    updates = example_updates(9)
    assert run_unit(phe_scheme(256), updates).bytes == 9 * 64
    packed = packed_scheme(KEY, 1)
    vector = packed.encrypt(updates[0])
    assert run_unit(packed, updates).bytes == len(vector.to_bytes())
    # 8 bytes for each value, a header, and a ticket that is signed with a manifest.
    for manifest, signature in ((False, 0), (True, 64)):
        size = run_unit(ticketed_scheme(KEY, "masks", manifest=manifest), updates).bytes
        assert size == 9 * 8 + 98 + 15 + 4 + 4 + 5 * 4 + len("hospital-0") + 32 + 1168 + signature


@pytest.mark.parametrize("manifest", [False, True])
def test_masks_have_all_their_checks(manifest: bool) -> None:
    scheme, another = (ticketed_scheme(KEY, "masks", manifest=manifest) for _ in range(2))
    update = example_updates(9)[0]
    with pytest.raises(TicketError):  # one hospital twice
        scheme.decrypt(scheme.add(scheme.encrypt(update), another.encrypt(update)))
    if manifest:
        with pytest.raises(TicketError):  # signed by others
            scheme.decrypt(another.encrypt(update))
        total = scheme.encrypt(update)
        own = total.vector.header
        changed = MaskedVector(own, bytearray(9 * 8))
        with pytest.raises(TicketError):  # the tag does not fit
            scheme.decrypt(TicketedSum(changed, total.tickets))


def test_updates_are_always_the_same() -> None:
    first, again = example_updates(50), example_updates(50)
    assert len(first) == 3
    np.testing.assert_array_equal(first, again)
    assert len({values.tobytes() for values in first}) == 3


VECTORS = arrays(np.float64, (3, 4), elements=st.floats(-1e9, 1e9))


@given(VECTORS, st.integers(0, 3), st.floats(-1e6, 1e6))
def test_the_error_is_the_largest_difference(updates: Any, index: int, off: float) -> None:
    exact = [sum(Fraction(value) for value in column) for column in updates.T.tolist()]
    result = np.array([float(value) for value in exact])
    assert largest_error([result], updates) == 0.0
    shifted = result.copy()
    shifted[index] += off
    assert largest_error([result, shifted, result], updates) == abs(shifted[index] - result[index])


class Clockwork:
    """A scheme whose operations take stated times, on a separate clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def encrypt(self, values: Vector) -> Vector:
        self.now += 100.0
        return values

    def add(self, total: Vector, update: Vector) -> Vector:
        self.now += 10.0
        return total + update

    def decrypt(self, total: Vector) -> Vector:
        self.now += 1.0
        return total

    def size(self, update: Vector) -> int:
        self.now += 1000.0  # to serialise is no part of the unit
        return update.nbytes


def test_each_step_is_timed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = Clockwork()
    monkeypatch.setattr("fl_he.bench.schemes.perf_counter", lambda: clockwork.now)
    monkeypatch.setattr("fl_he.bench.schemes.process_time", lambda: 3 * clockwork.now)
    children = SimpleNamespace(ru_utime=0.0, ru_stime=0.0)
    monkeypatch.setattr("resource.getrusage", lambda _: children)
    steps = (clockwork.encrypt, clockwork.add, clockwork.decrypt, clockwork.size)
    run = run_unit(Scheme(*steps), example_updates(4))
    assert (run.encrypt, run.add, run.decrypt, run.total) == (100.0, 10.0, 1.0, 321.0)
    assert run.cpu == 3 * run.total
    assert run.bytes == 32


def test_cpu_time_has_that_of_children_that_ended() -> None:
    def encrypt(values: Vector) -> Vector:
        subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
        return values

    scheme = Scheme(encrypt, lambda total, _: total, lambda total: total, lambda _: 0)
    assert run_unit(scheme, example_updates(4)).cpu > 0.05


def test_a_unit_is_three_two_and_one() -> None:
    run = UnitRun(encrypt=100.0, add=10.0, decrypt=1.0, bytes=0, result=np.zeros(1))
    assert run.total == 321.0
