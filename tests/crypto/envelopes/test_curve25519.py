from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fl_he.crypto.envelopes.curve25519 import check_ed25519, check_x25519
from fl_he.crypto.errors import CryptoError

# Edwards25519 in plain integers: -x**2 + y**2 = 1 + d x**2 y**2, of order 8 L.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
L = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]


def add(first: Point, second: Point) -> Point:
    (a, b), (c, e) = first, second
    product = D * a * b * c * e % P
    x = (a * e + b * c) * pow(1 + product, -1, P) % P
    return x, (b * e + a * c) * pow(1 - product, -1, P) % P


def multiply(number: int, point: Point) -> Point:
    result = (0, 1)
    for bit in bin(number)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def point_with(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for root in (x, x * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return root, y
    return None


def small_order_points() -> set[Point]:
    points = (multiply(L, point) for y in range(2, 20) if (point := point_with(y)))
    generator = next(p for p in points if multiply(4, p) != (0, 1))
    return {multiply(number, generator) for number in range(8)}


def encode(number: int) -> bytes:
    return number.to_bytes(32, "little")


SMALL = sorted(small_order_points())


def test_there_are_eight_points_of_small_order() -> None:
    assert len(SMALL) == 8
    assert all(multiply(8, point) == (0, 1) for point in SMALL)


@pytest.mark.parametrize("point", SMALL)
def test_points_of_small_order_are_no_keys(point: Point) -> None:
    y = point[1]
    for sign in (0, 2**255):
        with pytest.raises(CryptoError, match="it must be a point of large order"):
            check_ed25519(encode(y | sign), "it")
    if y != 1:
        with pytest.raises(CryptoError, match="it must be a point of large order"):
            check_x25519(encode((1 + y) * pow(1 - y, -1, P) % P), "it")


def test_coordinates_have_one_spelling() -> None:
    for check, what in ((check_ed25519, "y"), (check_x25519, "u")):
        message = re.escape(f"it must be a {what}-coordinate below 2**255 - 19")
        for number in (P, P + 9, 2**255 - 1):
            with pytest.raises(CryptoError, match=message):
                check(encode(number), "it")
    check_x25519(encode(9), "it")
    with pytest.raises(CryptoError, match="u-coordinate"):
        check_x25519(encode(9 | 2**255), "it")  # X25519 takes it for 9


def test_real_keys_are_accepted() -> None:
    for _ in range(20):
        check_ed25519(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), "it")
        check_x25519(X25519PrivateKey.generate().public_key().public_bytes_raw(), "it")
