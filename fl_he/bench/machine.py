"""What the figures were measured on: hardware and versions, nothing that names the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fl_he.crypto.threads import available_cores

_LIBRARIES = ("flwr", "ray", "phe", "gmpy2", "numpy", "tenseal")
_CPUINFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, Python and library versions.

    Returns
    -------
    dict
        ``libraries`` maps names to versions, None where one is not installed. ``load_average``
        is that of the last minute: above about 0.3 other jobs were running.
    """
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
