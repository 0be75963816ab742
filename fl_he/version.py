"""Version of fl-he, and the versions of Python and of the packages a run used."""

from __future__ import annotations

import platform

__version__ = "0.1.0"

#: What a run's figures depend on.
_PACKAGES = ("flwr", "phe", "gmpy2", "cryptography", "numpy", "scikit-learn", "dp-accounting")


def software_versions() -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    from importlib.metadata import (  # noqa: PLC0415 - lazy: only reports need it
        PackageNotFoundError,
        version,
    )

    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # of an extra
            continue
    return versions
