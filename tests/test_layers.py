"""Imports run one way, between the rooms of design.md section 3; the rules are in this file."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fl_he"

#: Top places of fl_he, files and folders, from the top down. A place imports only from places below
#: its line; places of one line do not import each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("__init__",),
    ("cli",),
    ("commands",),
    ("bench",),
    ("simulation",),
    ("client_app", "server_app"),
    ("capc",),
    ("supernode", "terminal"),
    ("experiment",),
    ("clients", "strategies"),
    ("wire",),
    ("learning",),
    ("report",),
    ("config",),
    ("run_files",),
    ("crypto",),
)
#: Imported from anywhere; they import no module of fl_he.
ANYWHERE = {"version", "errors", "atomic"}
LINE = {place: line for line, places in enumerate(ORDER) for place in places}
#: Imports that the order would allow, and the design forbids.
APART = {("learning", "crypto"), ("report", "crypto"), ("config", "crypto"), ("learning", "report")}
#: The same inside a room: the coordinator's half of CaPC does not import a node's.
APART_INSIDE = {("capc.coordinator", "capc.node")}

#: "The server cannot decrypt": nobody else may import a private key.
PRIVATE_KEYS = (
    "fl_he.crypto.paillier.private_key",
    "fl_he.crypto.comparison.dgk_private_key",
    "fl_he.crypto.tickets.opening",
)
MAY_DECRYPT = (
    *("clients.opening", "capc.node.keys"),
    "commands.keygen",
    "bench",  # plays all parts, with keys that die with it
)

#: Modules that open and sign envelopes. The coordinator only routes envelopes.
SEALED = tuple(
    f"fl_he.crypto.{name}"
    for name in (
        *("envelopes.identity", "envelopes.sealing.", "envelopes.sealing_key"),
        "key_files",
    )
)
COORDINATOR = ("server_app", "strategies", "experiment.run", "capc.run", "capc.coordinator")

#: Other people's packages that only some places may know.
EXTERNAL: dict[str, tuple[str, ...]] = {
    "hydra": ("config", "experiment.jobs"),
    "omegaconf": ("config", "experiment.jobs"),
    "docstring_parser": ("config",),
    "typer": ("cli", "terminal", "commands"),
    "matplotlib": ("report",),
    "mlflow": ("experiment.tracking",),
    "tensorboard": ("experiment.tracking",),
    "jinja2": ("report.page",),
    "markupsafe": ("report.page",),
    "phe": ("crypto", "bench"),
    "gmpy2": ("crypto",),
    "cryptography": ("crypto",),
    "sklearn": ("learning",),
    "skops": ("learning",),
    "safetensors": ("capc.networks",),
    "pyarrow": ("learning",),
    "pydantic": ("learning.tables.schema",),
    "yaml": ("learning.tables.schema",),
    "dp_accounting": ("learning",),
    "ray": ("experiment.ray_engine",),
    "tenseal": ("bench",),
    "heu": ("bench",),
    "flwr": (
        *("wire", "clients", "strategies", "supernode", "experiment", "capc", "bench"),
        *("client_app", "server_app", "simulation"),
    ),
}


def inside(module: str, places: tuple[str, ...] | str) -> bool:
    """Tell whether a dotted name of fl_he is one of some places, or in one."""
    places = (places,) if isinstance(places, str) else places
    return any(f"{module}.".startswith(f"fl_he.{place}.") for place in places)


def place_of(module: str) -> str:
    """Return the top place of a dotted module name: its second part."""
    return module.partition(".")[2].partition(".")[0]


def imports(module: str, source: str) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and line of everything that a module imports, at any depth."""
    package = module.split(".")[:-1]
    tree = ast.parse(source)
    if module == "fl_he.__init__":  # imports for type checkers only are not loaded
        tree.body = [node for node in tree.body if not _is_type_checking(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in {"import_module", "__import__"}:
                yield f"<{name}>", node.lineno


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def refused(module: str, target: str) -> bool:
    """Tell whether a module of fl_he must not import a dotted name."""
    root = target.partition(".")[0]
    if target.startswith("<"):  # only the package itself may hide imports: it loads names lazily
        return place_of(module) != "__init__"
    if root != "fl_he":
        return root in EXTERNAL and not inside(module, EXTERNAL[root])
    if target.startswith(PRIVATE_KEYS) or target.endswith((".PrivateKey", ".DgkPrivateKey")):
        return not inside(module, ("crypto", *MAY_DECRYPT))
    if inside(module, COORDINATOR) and f"{target}.".startswith(SEALED):
        return True
    return _refused_place(module, target)


def _refused_place(module: str, target: str) -> bool:
    own, other = place_of(module), place_of(target)
    if other in ANYWHERE:
        return own in ANYWHERE
    if own == other:
        return any(inside(module, a) and inside(target, b) for a, b in APART_INSIDE)
    # The package itself is loaded by every client and server alike.
    if own == "__init__" or own in ANYWHERE or other not in LINE or (own, other) in APART:
        return True
    return LINE[own] >= LINE[other]


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return the forbidden imports of modules, given as dotted name -> source.

    The file of a package is named as such: ``fl_he.crypto.__init__``.
    """
    known = LINE.keys() | ANYWHERE
    found = [f"{module} has no place" for module in sources if place_of(module) not in known]
    found += [
        f"{module}:{line} must not import {target}"
        for module, source in sources.items()
        if place_of(module) in known
        for target, line in imports(module, source)
        if refused(module, target)
    ]
    return found


def circle(sources: Mapping[str, str]) -> list[str]:
    """Return modules that import each other in a circle, or nothing."""
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for module, source in sources.items():
        for target, _ in imports(module, source):
            for name in (target, target.rpartition(".")[0]):
                found = {name, f"{name}.__init__"} & graph.keys() - {module}
                if found:
                    graph[module] |= found
                    break
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def project() -> dict[str, str]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path.read_text("utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_imports_run_one_way() -> None:
    sources = project()
    assert {"fl_he.__init__", "fl_he.cli", "fl_he.wire.encrypted_sum"} <= sources.keys()
    assert violations(sources) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(project()) == []


def test_a_circle_is_found() -> None:
    sources = {
        "fl_he.crypto.a": "def f():\n    from fl_he.crypto.b import g",
        "fl_he.crypto.b": "from fl_he.crypto import c",
        "fl_he.crypto.c.__init__": "import fl_he.crypto.a",
    }
    assert set(circle(sources)) == sources.keys()
    sources["fl_he.crypto.c.__init__"] = ""
    assert circle(sources) == []


def test_every_place_of_the_rules_exists() -> None:
    assert {place_of(module) for module in project()} == LINE.keys() | ANYWHERE


def test_eight_modules_at_most_are_loose() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fl_he.strategies.fold", "from fl_he.crypto.paillier.private_key import PrivateKey"),
        ("fl_he.strategies.fold", "from fl_he.crypto.paillier import private_key"),
        ("fl_he.strategies.fold", "import fl_he.crypto.paillier.private_key as k"),
        ("fl_he.strategies.fold", "from ..crypto.paillier import private_key"),
        ("fl_he.strategies.fold", "from fl_he import PrivateKey"),
        (
            "fl_he.capc.coordinator.rounds",
            "from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey",
        ),
        (
            "fl_he.capc.coordinator.rounds",
            "from fl_he.crypto.comparison.comparison import DgkPrivateKey",
        ),
        ("fl_he.capc.node.answering", "from fl_he.crypto.comparison import dgk_private_key"),
        ("fl_he.capc.coordinator.rounds", "from fl_he.capc.node import steps"),
        ("fl_he.experiment.run", "from fl_he.capc import run"),
        ("fl_he.experiment.run", "from fl_he.terminal import show"),
        ("fl_he.learning.tables.data", "from fl_he.crypto import errors"),
        ("fl_he.errors", "from fl_he.crypto.errors import CryptoError"),
        ("fl_he.strategies.fold", "from fl_he.crypto.paillier.public_key import PrivateKey"),
        ("fl_he.strategies.fold", "import fl_he"),
        ("fl_he.strategies.fold", "from fl_he.clients import hospital"),
        ("fl_he.strategies.fold", "def f():\n    from fl_he.clients.hospital import train"),
        ("fl_he.strategies.fold", "if TYPE_CHECKING:\n    from fl_he.clients.hospital import T"),
        ("fl_he.strategies.fold", "import importlib\nimportlib.import_module(name)"),
        ("fl_he.strategies.fold", "__import__('fl_he.crypto.paillier.private_key')"),
        ("fl_he.server_app", "from fl_he.crypto.paillier.private_key import generate"),
        ("fl_he.clients.hospital", "from fl_he.crypto.paillier.private_key import generate"),
        ("fl_he.clients.hospital", "from fl_he.strategies.fold import add"),
        ("fl_he.clients.__init__", "from fl_he.clients.key_holder import PrivateKey"),
        ("fl_he.strategies.fold", "from fl_he.crypto.envelopes.identity import Identity"),
        ("fl_he.strategies.fold", "from fl_he.crypto.envelopes import sealing_key"),
        ("fl_he.server_app", "from fl_he.crypto.key_files import load_secret"),
        ("fl_he.crypto.paillier.packing", "from fl_he.wire.encrypted_sum import ProtocolError"),
        ("fl_he.crypto.paillier.packing", "from fl_he.learning.errors import DataError"),
        ("fl_he.crypto.paillier.packing", "import flwr.app"),
        ("fl_he.learning.tables.data", "from flwr.app import Array"),
        ("fl_he.learning.tables.data", "import phe"),
        ("fl_he.config.run", "from fl_he.report.files import REPORT"),
        ("fl_he.config", "from fl_he.crypto.paillier.packing import Packing"),
        ("fl_he.server_app", "from omegaconf import OmegaConf"),
        ("fl_he.cli", "import hydra.core.utils"),
        ("fl_he.server_app", "from fl_he.cli import app"),
        ("fl_he.__init__", "from fl_he.wire.encrypted_sum import ProtocolError"),
        ("fl_he.unheard_of", ""),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(violations({module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fl_he.clients.opening", "from fl_he.crypto.paillier.private_key import PrivateKey"),
        (
            "fl_he.capc.node.keys",
            "from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey",
        ),
        (
            "fl_he.crypto.paillier.private_key",
            "from fl_he.crypto.paillier.public_key import PublicKey",
        ),
        ("fl_he.strategies.fold", "from fl_he.crypto.paillier.public_key import PublicKey"),
        ("fl_he.strategies.fold", "from fl_he.version import __version__\nimport numpy as np"),
        (
            "fl_he.wire.encrypted_sum",
            "from fl_he.crypto.paillier.encrypted_vector import EncryptedVector",
        ),
        ("fl_he.learning.tables.table", "from .data import Dataset"),
        ("fl_he.__init__", "from importlib import import_module\nimport_module(name)"),
        ("fl_he.__init__", "if TYPE_CHECKING:\n    from fl_he.clients import encryption_mod"),
        ("fl_he.clients.__init__", "from fl_he.clients.encryption import encryption_mod"),
    ],
)
def test_an_allowed_import_is_not_found(module: str, source: str) -> None:
    assert violations({module: source}) == []


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("fl_he.server_app, fl_he.strategies.encrypted_sum", PRIVATE_KEYS[0]),
        ("fl_he.capc.coordinator.rounds, fl_he.capc.terms", PRIVATE_KEYS[1]),
        ("fl_he.server_app, fl_he.strategies.sealed.router", "fl_he.crypto.envelopes.identity"),
        ("fl_he", "fl_he.wire.encrypted_sum"),
        ("fl_he.crypto.paillier.encrypted_vector, fl_he.learning.regression.logistic", "flwr"),
        ("fl_he.cli", "fl_he.config"),
        # A deployed node starts a process for each message.
        *(("fl_he.client_app", name) for name in ("pyarrow", "sklearn", "scipy", "hydra", "ray")),
        # Nor does a simulation without Ray load Flower's engine, which loads a database.
        *(("fl_he.simulation", name) for name in ("ray", "sqlalchemy", "sklearn", "matplotlib")),
    ],
)
def test_a_running_process_has_not_loaded_it(modules: str, absent: str) -> None:
    assert absent not in _loaded_by(modules)


@functools.cache
def _loaded_by(modules: str) -> frozenset[str]:
    code = f"import sys, {modules}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True, text=True)
    loaded = frozenset(result.stdout.split())
    assert "fl_he" in loaded
    return loaded
