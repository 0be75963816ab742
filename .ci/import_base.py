"""Import all of an installed fl-he without its extras, and its parts without each other.

Run by `.ci/check-release` in an environment that has no extra, and by tests/test_extras.py in one
where they are out of reach.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from importlib.util import find_spec

#: Packages that only extras bring; every module imports without them.
EXTRAS = ("dp_accounting", "skops", "tenseal", "heu", "mlflow", "mlxtend", "tensorboard", "torch")


def main() -> None:
    """Import everything; ends with an error that names what could not be imported."""
    present = [name for name in EXTRAS if _reachable(name)]
    if present:
        sys.exit(f"no extra must be there, got {', '.join(present)}")
    import fl_he  # noqa: PLC0415

    for name in fl_he.__all__:
        getattr(fl_he, name)
    modules = sorted(module.name for module in pkgutil.walk_packages(fl_he.__path__, "fl_he."))
    for name in modules:
        importlib.import_module(name)
    print(len(modules), "modules of", fl_he.__file__)
    for layer, unknown in (("crypto", "flwr sklearn pyarrow matplotlib"), ("learning", "flwr phe")):
        names = [name for name in modules if f"{name}.".startswith(f"fl_he.{layer}.")]
        _import_apart(names, unknown.split())
        print(f"fl_he.{layer} knows nothing of", unknown.replace(" ", ", "))


def _reachable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def _import_apart(modules: list[str], unknown: list[str]) -> None:
    """Import some modules in a process of their own; refuse what must not come along."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"print(*sorted(set({unknown}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if done.stdout.strip():
        sys.exit(f"{modules[0]} and its neighbours must not import {done.stdout.strip()}")


if __name__ == "__main__":
    main()
