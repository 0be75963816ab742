"""Keys for the crypto tests.

The small keys are written down here so that tests are fast and repeatable. They are public by
that, and far too short: test only.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_he.crypto.private_key import PrivateKey
from fl_he.crypto.public_key import PublicKey

SMALL_BITS = 512
_SMALL = (
    0xCC086AAF9D8D0A794AFF9E395034F06928560CB9710AB634EEF3A9C0253435AB,
    0xE592769021928972E44FEA5193399398B405C268C46377D04EA63413C69353CF,
    0x1234567,
)
_OTHER_SMALL = (
    0xC4A69C7EAFFA479D367439148A41F204D491ED8E924530E12D4471C968FF8623,
    0xEDDB82BD58CACAEBCD86CE752E8668626ACFC2E243C2A4711944A00B73124337,
    0x7654321,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test keys are short on purpose."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
            )


def _key(p: int, q: int, x: int) -> PrivateKey:
    n = p * q
    h_s = pow(-x * x % n, n, n * n)
    return PrivateKey(PublicKey(n, h_s, minimum_bits=SMALL_BITS), p, q)


@pytest.fixture(scope="session")
def small_key() -> PrivateKey:
    return _key(*_SMALL)


@pytest.fixture(scope="session")
def small_primes() -> tuple[int, int]:
    return _SMALL[0], _SMALL[1]


@pytest.fixture(scope="session")
def other_small_key() -> PrivateKey:
    return _key(*_OTHER_SMALL)


@pytest.fixture(scope="session")
def large_key() -> PrivateKey:
    """A key of the default length."""
    return PrivateKey.generate()
