"""Imports run one way. The rules are section "Layers" of the design, read from the source here."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fl_he"

#: Which layer may import which. A layer is a file or a folder of fl_he; siblings in one folder may
#: always import each other. Composition roots come first, what knows nothing of fl_he last.
ALLOWED: dict[str, set[str]] = {
    "cli": {
        *("simulation", "report", "show", "metrics_file"),
        *("jobs", "config_schema", "progress", "interrupt", "bench", "commands"),
    },
    "show": {"report", "capc_report", "metrics_file", "divergence"},
    "commands": {"capc_agreement", "crypto", "learning"},
    "bench": {
        *("simulation", "client_app", "simulated_data", "config", "config_schema", "metrics_file"),
        *("strategies", "clients", "messages", "model_messages", "learning_messages", "crypto"),
    },
    "simulation": {
        *("client_app", "server_app", "capc_run", "capc_plain"),
        *("simulated_data", "declared_ranges", "privacy_statement"),
        *("strategies", "hop", "tracking", "config_schema"),
    },
    "sealed_run": {
        *("run_figures", "privacy_statement", "privacy_terms", "declared_ranges"),
        *("strategies", "crypto", "comparison", "metrics_file", "checkpoint", "config_schema"),
        *("report", "hop"),
    },
    "server_app": {
        *("sealed_run", "capc_run", "strategies", "learning", "messages", "model_messages"),
        "crypto",
        *("comparison", "report", "metrics_file", "checkpoint", "hop", "tracking"),
        *("run_figures", "run_folder", "run_state", "divergence", "config", "config_schema"),
        *("privacy_statement", "privacy_terms", "learning_messages"),
    },
    "declared_ranges": {"learning", "learning_messages", "config_schema"},
    "run_state": {
        *("strategies", "learning", "messages", "model_messages", "learning_messages"),
        *("declared_ranges", "privacy_statement", "privacy_terms"),
        *("checkpoint", "config_schema"),
    },
    "client_app": {
        *("clients", "crypto", "learning", "messages", "simulated_data", "capc_simulation"),
        *("run_figures", "privacy_statement", "config", "config_schema"),
    },
    "privacy_statement": {"learning", "config_schema"},
    "privacy_terms": {"learning", "records"},
    "run_figures": {"crypto", "metrics_file", "software", "config_schema"},
    "software": set(),
    "comparison": {"simulated_data", "learning", "metrics_file", "config_schema"},
    "simulated_data": {"learning", "config_schema"},
    "strategies": {
        *("messages", "records", "model_messages", "learning_messages"),
        *("session_messages", "sealed_messages"),
        *("capc_messages", "capc_agreement"),
        *("update_layout", "selection", "crypto", "learning", "hop"),
    },
    "clients": {
        *("messages", "records", "model_messages", "learning_messages"),
        *("session_messages", "sealed_messages"),
        *("capc_messages", "capc_terms", "capc_agreement"),
        *("update", "update_layout", "selection", "privacy_terms"),
        *("learning", "crypto"),
    },
    "selection": {"messages"},
    "update": {"update_layout", "messages"},
    "update_layout": {"messages"},
    "sealed_messages": {"session_messages", "envelope_records", "records"},
    "session_messages": {"envelope_records", "records"},
    "envelope_records": {"records"},
    "learning_messages": {"messages", "records"},
    "model_messages": {"messages"},
    "capc_plain": {
        *("capc_run", "capc_data", "capc_simulation", "learning", "config_schema"),
    },
    "capc_run": {
        *("strategies", "learning", "capc_agreement", "capc_report", "records"),
        *("report", "run_figures", "hop"),
        *("metrics_file", "config_schema"),
    },
    "capc_simulation": {
        *("capc_data", "capc_terms", "clients", "learning", "crypto", "config_schema"),
    },
    "capc_data": {"simulated_data", "learning", "config_schema"},
    "capc_report": {"metrics_file", "report"},
    "capc_messages": {"records"},
    "capc_terms": {"crypto"},
    "capc_agreement": {"capc_terms", "crypto"},
    "messages": {"records", "numpy_bytes"},
    "records": set(),
    "numpy_bytes": set(),
    "report": {"metrics_file", "divergence"},
    "divergence": set(),
    "jobs": {"config", "config_schema", "run_folder"},
    "run_folder": {"config_schema", "metrics_file", "checkpoint"},
    "config": {"config_schema", "checkpoint"},
    "config_schema": set(),
    "metrics_file": set(),
    "checkpoint": set(),
    "progress": {"hop", "live_view"},
    "live_view": {"hop"},
    "interrupt": set(),
    "hop": set(),
    "tracking": {"config_schema"},
    "learning": set(),
    "crypto": set(),
    "__init__": set(),
}

#: "The server cannot decrypt": nobody else may import the private key.
PRIVATE_KEY = "fl_he.crypto.paillier.private_key"
DGK_PRIVATE_KEY = "fl_he.crypto.comparison.dgk_private_key"
MAY_DECRYPT = {
    *("fl_he.clients.key_holder", "fl_he.clients.node.private_key_file", "fl_he.capc.node.keys"),
    "fl_he.commands.keygen",
    # The benchmark plays all parts, with keys that die with it.
    *(f"fl_he.bench.{name}" for name in ("argmax", "packed_scheme", "cold_scheme", "jobs")),
    *(f"fl_he.bench.{name}" for name in ("contestants", "kernel", "long_vector")),
}

#: What opens and signs envelopes. The coordinator routes them, and may import none of it.
SEALED = tuple(
    f"fl_he.crypto.{name}" for name in ("identity", "sealing", "sealing_key", "protected_file")
)
COORDINATOR = {"server_app", "run_state", "sealed_run", "capc_run", "strategies"}

#: Other people's packages that only some layers may know.
EXTERNAL: dict[str, set[str]] = {
    "hydra": {"config", "jobs"},
    "omegaconf": {"config", "jobs"},
    "docstring_parser": {"config_schema"},
    "typer": {"cli", "show", "commands"},
    "matplotlib": {"report", "capc_report"},
    "mlflow": {"tracking"},
    "tensorboard": {"tracking"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "phe": {"crypto", "bench"},
    "gmpy2": {"crypto"},
    "cryptography": {"crypto"},
    "sklearn": {"learning"},
    "skops": {"learning"},
    "polars": {"learning"},
    "dp_accounting": {"learning"},
    "ray": set(),
    "tenseal": {"bench"},
    "flwr": {
        *("records", "messages", "model_messages", "learning_messages"),
        *("envelope_records", "session_messages", "sealed_messages"),
        *("capc_messages", "update", "update_layout", "clients", "strategies", "privacy_terms"),
        *("client_app", "server_app", "run_state", "sealed_run", "capc_run"),
        *("simulation", "bench"),
    },
}


def layer(module: str) -> str:
    """Return the layer of a dotted module name: its second part."""
    return module.partition(".")[2].partition(".")[0]


def imports(module: str, source: str) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and line of everything that a module imports, at any depth."""
    package = module.split(".")[:-1]
    tree = ast.parse(source)
    if module == "fl_he.__init__":  # what only type checkers see is loaded by nobody
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
    own, root = layer(module), target.partition(".")[0]
    if target.startswith("<"):  # only the package itself may hide imports: it loads names lazily
        return own != "__init__"
    if root != "fl_he":
        return own not in EXTERNAL.get(root, {own})
    private = (".PrivateKey", ".DgkPrivateKey")
    if target.startswith((PRIVATE_KEY, DGK_PRIVATE_KEY)) or target.endswith(private):
        return own != "crypto" and module not in MAY_DECRYPT
    # The package itself is loaded by every client and server alike.
    if module == "fl_he.__init__" or (own in COORDINATOR and target.startswith(SEALED)):
        return True
    if own == "messages" and layer(target) == "crypto":
        return not target.startswith("fl_he.crypto.paillier.encrypted_vector")
    return target != "fl_he.__version__" and layer(target) not in {own, *ALLOWED[own]}


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return the forbidden imports of modules, given as dotted name -> source.

    The file of a package is named as such: ``fl_he.crypto.__init__``.
    """
    found = [
        f"{module} has no place in the layers" for module in sources if layer(module) not in ALLOWED
    ]
    found += [
        f"{module}:{line} must not import {target}"
        for module, source in sources.items()
        if layer(module) in ALLOWED
        for target, line in imports(module, source)
        if refused(module, target)
    ]
    return found


def project() -> dict[str, str]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path.read_text("utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_the_project_keeps_its_layers() -> None:
    sources = project()
    assert {
        "fl_he.__init__",
        "fl_he.cli",
        "fl_he.wire.encrypted_sum",
        "fl_he.terminal.progress",
    } <= sources.keys()
    assert violations(sources) == []


def test_every_layer_of_the_rules_exists() -> None:
    assert {layer(module) for module in project()} == ALLOWED.keys()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fl_he.strategies.fold", "from fl_he.crypto.paillier.private_key import PrivateKey"),
        ("fl_he.strategies.fold", "from fl_he.crypto import private_key"),
        ("fl_he.strategies.fold", "import fl_he.crypto.paillier.private_key as k"),
        ("fl_he.strategies.fold", "from ..crypto import private_key"),
        ("fl_he.strategies.fold", "from fl_he import PrivateKey"),
        (
            "fl_he.capc.coordinator.rounds",
            "from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey",
        ),
        (
            "fl_he.capc.coordinator.rounds",
            "from fl_he.crypto.comparison.comparison import DgkPrivateKey",
        ),
        ("fl_he.capc.node.answering", "from fl_he.crypto import dgk_private_key"),
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
        ("fl_he.strategies.fold", "from fl_he.crypto import sealing"),
        ("fl_he.server_app", "from fl_he.crypto.key_files.protected_file import load_secret"),
        ("fl_he.wire.encrypted_sum", "from fl_he.crypto.paillier.packing import Packing"),
        ("fl_he.wire.encrypted_sum", "from fl_he.wire.update import flatten"),
        ("fl_he.crypto.paillier.packing", "from fl_he.wire.encrypted_sum import ProtocolError"),
        ("fl_he.crypto.paillier.packing", "from fl_he.learning.errors import DataError"),
        ("fl_he.crypto.paillier.packing", "import flwr.app"),
        ("fl_he.learning.tables.data", "from flwr.app import Array"),
        ("fl_he.learning.tables.data", "import phe"),
        ("fl_he.report.page.write", "from fl_he.config import Config"),
        ("fl_he.config", "from fl_he.crypto.paillier.packing import Packing"),
        ("fl_he.server_app", "from omegaconf import OmegaConf"),
        ("fl_he.cli", "import hydra.core.utils"),
        ("fl_he.cli", "from fl_he.server_app import app"),
        ("fl_he.__init__", "from fl_he.wire.encrypted_sum import ProtocolError"),
        ("fl_he.unheard_of", ""),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(violations({module: source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fl_he.clients.key_holder", "from fl_he.crypto.paillier.private_key import PrivateKey"),
        (
            "fl_he.capc.node.keys",
            "from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey",
        ),
        (
            "fl_he.crypto.paillier.private_key",
            "from fl_he.crypto.paillier.public_key import PublicKey",
        ),
        ("fl_he.strategies.fold", "from fl_he.crypto.paillier.public_key import PublicKey"),
        ("fl_he.strategies.fold", "from fl_he import __version__\nimport numpy as np"),
        (
            "fl_he.wire.encrypted_sum",
            "from fl_he.crypto.paillier.encrypted_vector import EncryptedVector",
        ),
        ("fl_he.learning.regression.model", "from .data import Dataset"),
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
        ("fl_he.server_app, fl_he.strategies.sequential_paillier", PRIVATE_KEY),
        ("fl_he.capc.coordinator.rounds, fl_he.capc.terms", DGK_PRIVATE_KEY),
        ("fl_he.server_app, fl_he.strategies.sealed.router", "fl_he.crypto.envelopes.identity"),
        ("fl_he", "fl_he.wire.encrypted_sum"),
        ("fl_he.crypto.paillier.encrypted_vector, fl_he.learning.regression.logistic", "flwr"),
        ("fl_he.cli", "fl_he.config"),
    ],
)
def test_a_running_process_has_not_loaded_it(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; sys.exit({absent!r} in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False)
    assert result.returncode == 0
