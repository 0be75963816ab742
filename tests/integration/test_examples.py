"""The examples, run as their READMEs say, and what the READMEs say of them."""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flower_command import Flower, flower
from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid, simulated_nodes
from sklearn.datasets import load_digits

EXAMPLES = Path(__file__).parents[2] / "examples"
MLP = EXAMPLES / "sklearn-mlp"
CNN = EXAMPLES / "pytorch-cnn"
PLAIN = EXAMPLES / "existing-app" / "plain"
ENCRYPTED = EXAMPLES / "existing-app" / "encrypted"

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None,
    reason="PyTorch is not installed: `pip install torch` to run examples/pytorch-cnn",
)


def flower_app(app: Path) -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]
    return dict(settings["app"])


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    with flower(tmp_path_factory.mktemp("flwr-home")) as running:
        yield running


@pytest.mark.slow
@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize(
    ("app", "run_config"),
    [
        (MLP, "num-server-rounds=3 key-bits=1024"),
        pytest.param(CNN, "num-server-rounds=2 key-bits=1024", marks=needs_torch),
        (ENCRYPTED, "num-server-rounds=1"),
    ],
    ids=["sklearn-mlp", "pytorch-cnn", "existing-app"],
)
def test_it_runs_as_its_readme_says(
    superlink: Flower, app: Path, run_config: str, tmp_path: Path
) -> None:
    command = 'flwr run . --stream --federation-config "num-supernodes=4"'
    readme = app if app != ENCRYPTED else app.parent
    assert command in (readme / "README.md").read_text()

    # Quoted as `flwr run` wants a text; the SuperLink may run in another folder.
    saved = tmp_path / flower_app(app)["config"]["save-to"]
    printed = superlink.run(app, tmp_path, 4, f"{run_config} save-to='{saved}'")
    assert saved.exists(), printed
    assert accuracy(app, saved) > 0.8


def accuracy(app: Path, saved: Path) -> float:
    """Return the accuracy of a saved model on all digits, computed without the example's code."""
    features, labels = load_digits(return_X_y=True)
    scores = cnn_scores(saved, features / 16) if app == CNN else scores_of(saved, features / 16)
    return float(np.mean(scores.argmax(axis=1) == labels))


def scores_of(saved: Path, features: Any) -> Any:
    arrays = np.load(saved)
    if "coef" in arrays:
        return features @ arrays["coef"].T + arrays["intercept"]
    hidden = np.maximum(features @ arrays["layer0.weight"] + arrays["layer0.bias"], 0)
    return hidden @ arrays["layer1.weight"] + arrays["layer1.bias"]


def cnn_scores(saved: Path, features: Any) -> Any:
    torch = importlib.import_module("torch")  # not everybody has it
    functional = importlib.import_module("torch.nn.functional")
    arrays = torch.load(saved, weights_only=True)
    values = torch.tensor(features, dtype=torch.float32).reshape(-1, 1, 8, 8)
    for convolution, norm in (("0", "1"), ("4", "5")):
        weight = arrays[f"features.{convolution}.weight"]
        values = functional.conv2d(
            values, weight, arrays[f"features.{convolution}.bias"], padding=1
        )
        values = functional.group_norm(
            values, 2, arrays[f"features.{norm}.weight"], arrays[f"features.{norm}.bias"]
        )
        values = functional.max_pool2d(values.relu(), 2)
    flat = values.flatten(1)
    return (flat @ arrays["classifier.weight"].T + arrays["classifier.bias"]).numpy()


def run_here(app: Path, nodes: list[UserConfig], saved: Path) -> dict[str, Any]:
    """Run an example in this process and return the arrays of its final model."""
    settings = flower_app(app)
    run_config = {**settings["config"], "save-to": str(saved)}
    package = settings["components"]["clientapp"].split(".")[0]
    sys.path.insert(0, str(app))
    try:
        clients = importlib.import_module(f"{package}.client_app")
        server = importlib.import_module(f"{package}.server_app")
        assert Path(str(clients.__file__)).is_relative_to(app)
        grid = LocalGrid(clients.app, nodes)
        for context in grid.contexts.values():
            context.run_config = run_config
        server.app(grid, Context(7, 1, {}, RecordDict(), run_config))
    finally:
        sys.path.remove(str(app))
        # The other one has a package of the same name.
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
    return dict(np.load(saved))


def test_the_existing_app_learns_the_same_when_it_is_encrypted(tmp_path: Path) -> None:
    plain = run_here(PLAIN, simulated_nodes(2), tmp_path / "plain.npz")
    encrypted = run_here(ENCRYPTED, simulated_nodes(3), tmp_path / "encrypted.npz")
    assert list(encrypted) == list(plain) == ["coef", "intercept"]
    for name, values in plain.items():
        scale = np.abs(values).max()
        assert scale > 0.1
        np.testing.assert_allclose(encrypted[name], values, rtol=0, atol=1e-6 * scale)


def files(app: Path) -> dict[str, str]:
    """Return the texts of an app's files."""
    found = [*app.rglob("*.py"), *app.rglob("*.toml")]
    return {path.relative_to(app).as_posix(): path.read_text() for path in sorted(found)}


def difference(suffix: str) -> list[str]:
    """Return the lines of the diff between the existing app and the encrypted one."""
    before, after = files(PLAIN), files(ENCRYPTED)
    assert list(before) == list(after)
    lines: list[str] = []
    for name in before:
        if name.endswith(suffix):
            texts = before[name].splitlines(), after[name].splitlines()
            lines += difflib.unified_diff(*texts, f"plain/{name}", f"encrypted/{name}", lineterm="")
    return lines


def changed(lines: list[str]) -> list[str]:
    return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]


def test_encryption_changes_at_most_ten_lines_of_the_existing_app() -> None:
    assert 0 < len(changed(difference(".py"))) <= 10
    assert changed(difference(".toml")) == ['+  "fl-he>=0.1",']


def test_the_readme_shows_this_very_difference() -> None:
    readme = (PLAIN.parent / "README.md").read_text()
    for suffix in (".py", ".toml"):
        assert "\n".join(difference(suffix)) in readme


def test_examples_use_nothing_private() -> None:
    imported = set()
    # What checks fl-he itself may look inside.
    for path in set(EXAMPLES.rglob("*.py")) - set((EXAMPLES / "deployment").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "fl_he" for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fl_he"):
                imported |= {(str(node.module), alias.name) for alias in node.names}
    assert imported
    for module, name in imported:
        assert name in importlib.import_module(module).__all__, f"{module}.{name}"
