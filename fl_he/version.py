"""Version of fl-he, and the versions of Python and of the packages a run used."""

from __future__ import annotations

import platform

__version__ = "0.2.0"

#: What a run's figures depend on.
_PACKAGES = ("flwr", "phe", "gmpy2", "cryptography", "numpy", "scikit-learn", "dp-accounting")


def software_versions() -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    found = {"python": platform.python_version()}
    found |= {name: known for name in _PACKAGES if (known := installed_version(name))}
    return found


def installed_version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    from importlib.metadata import (  # noqa: PLC0415 - lazy: only reports need it
        PackageNotFoundError,
        version,
    )

    try:
        return version(package)
    except PackageNotFoundError:  # of an extra
        return None
