"""Keys for the crypto tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_keys

from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.paillier.private_key import PrivateKey


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test keys are short on purpose."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
            )


@pytest.fixture(scope="session")
def small_key() -> PrivateKey:
    return small_keys.paillier(*small_keys.SMALL)


@pytest.fixture(scope="session")
def small_primes() -> tuple[int, int]:
    return small_keys.SMALL[:2]


@pytest.fixture(scope="session")
def other_small_key() -> PrivateKey:
    return small_keys.paillier(*small_keys.OTHER_SMALL)


@pytest.fixture(scope="session")
def short_key() -> PrivateKey:
    return small_keys.short(*small_keys.SHORT)


@pytest.fixture(scope="session")
def small_dgk() -> DgkPrivateKey:
    return small_keys.dgk()


@pytest.fixture(scope="session")
def large_key() -> PrivateKey:
    """A key of the default length."""
    return PrivateKey.generate()
