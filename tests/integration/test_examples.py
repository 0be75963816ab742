"""The examples, run by the commands of their READMEs, and the READMEs' statements."""

from __future__ import annotations

import ast
import difflib
import importlib
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
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
LARGE = EXAMPLES / "large-model"
PLAIN = EXAMPLES / "existing-app" / "plain"
ENCRYPTED = EXAMPLES / "existing-app" / "encrypted"

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None,
    reason="PyTorch is not installed: `pip install torch` to run examples/pytorch-cnn",
)


def flower_app(app: Path) -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]
    return dict(settings["app"])


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[Flower]:
    home = tmp_path / "flwr-home"
    home.mkdir()
    with flower(home) as running:
        yield running


def block(page: Path, after: str) -> str:
    """Return the first commands of a page after some words, but for those that install."""
    commands = page.read_text().split(after)[1].split("```sh\n")[1].split("```")[0].splitlines()
    return "\n".join(line for line in commands if not line.startswith("pip install"))


def shell(superlink: Flower, script: str, cwd: Path) -> str:
    # A file: `pgrep -f` would find a script that stands on a command line.
    path = superlink.home / "script"
    path.write_text(script)
    return superlink.shell(path, cwd)


def stop(superlink: Flower) -> None:
    """End the SuperLink as docs/integrate.md says."""
    script = block(EXAMPLES.parent / "docs" / "integrate.md", "End it by its process id:")
    assert script.count("39091") == 1
    assert superlink.running()
    shell(superlink, script.replace("39091", str(superlink.ports[1])), superlink.home)
    deadline = monotonic() + 120
    while superlink.running() and monotonic() < deadline:
        sleep(0.2)
    assert not superlink.running()


def arrays_of(saved: Path) -> dict[str, Any]:
    if saved.suffix == ".npz":
        return dict(np.load(saved))
    loaded = importlib.import_module("torch").load(saved, weights_only=True)
    return {name: tensor.numpy() for name, tensor in loaded.items()}


def check_same(encrypted: dict[str, Any], plain: dict[str, Any]) -> None:
    assert list(encrypted) == list(plain)
    for name, values in plain.items():
        scale = np.abs(values).max()
        assert scale > 0.001
        np.testing.assert_allclose(encrypted[name], values, rtol=0, atol=1e-6 * scale)


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.xdist_group("examples")
def test_the_existing_app_runs_as_its_readme_says(superlink: Flower, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PLAIN.parent, tmp_path / "existing-app"))
    printed = shell(superlink, block(folder / "README.md", "## Run it"), folder)
    assert "train 3: 3 hospitals in the sum" in printed
    assert float(printed.splitlines()[-1]) < 1e-9
    check_same(arrays_of(folder / "encrypted.npz"), arrays_of(folder / "plain.npz"))
    assert accuracy(ENCRYPTED, folder / "encrypted.npz") > 0.8


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize(
    ("app", "run_config"),
    [
        pytest.param(MLP, "num-server-rounds=3 key-bits=1024", marks=pytest.mark.release),
        pytest.param(LARGE, "hidden-units=200 key-bits=1024", marks=pytest.mark.release),
        pytest.param(CNN, "num-server-rounds=2 key-bits=1024", marks=needs_torch),
    ],
    ids=["sklearn-mlp", "large-model", "pytorch-cnn"],
)
def test_it_runs_as_its_readme_says_and_ends_as_in_plain(
    superlink: Flower, app: Path, run_config: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(app, tmp_path / "encrypted" / app.name))
    plain = without_encryption(app, tmp_path / "plain" / app.name)
    command = 'flwr run . --stream --federation-config "num-supernodes=4"'
    script = block(folder / "README.md", "## Run it")
    assert script.endswith(command)
    printed = shell(superlink, f'{script} --run-config "{run_config}"', folder)
    assert "train 2: 3 hospitals in the sum" in printed
    saved = flower_app(app)["config"]["save-to"]
    assert accuracy(app, folder / saved) > 0.8

    # The next run would import from the folder of the first.
    stop(superlink)
    printed = superlink.run(plain, plain, 3, run_config)
    assert "aggregate_train: Received 3 results" in printed
    check_same(arrays_of(folder / saved), arrays_of(plain / saved))


def without_encryption(app: Path, folder: Path) -> Path:
    """Return a copy of an example from which the lines that encrypt are taken away."""
    shutil.copytree(app, folder)
    node = 'context.node_config["partition-id"], context.node_config["num-partitions"]'
    name = "EncryptedSum" if app == LARGE else "SequentialPaillier"
    wrapper = f"{name} = lambda strategy, **_: strategy"
    changes = {
        "with_key_holder(ClientApp(mods=[encryption_mod]), policy)": "ClientApp()",
        "*hospital_partition(context)": node,
        f"from fl_he import {name}": wrapper,
    }
    texts = {path: path.read_text() for path in folder.rglob("*.py")}
    for encrypted, plain in changes.items():
        assert sum(text.count(encrypted) for text in texts.values()) == 1
        texts = {path: text.replace(encrypted, plain) for path, text in texts.items()}
    for path, text in texts.items():
        path.write_text(text)
    return folder


def accuracy(app: Path, saved: Path) -> float:
    """Return the accuracy of a saved model on all digits, computed without the example's code."""
    features, labels = load_digits(return_X_y=True)
    scores = cnn_scores(saved, features / 16) if app == CNN else scores_of(saved, features / 16)
    return float(np.mean(scores.argmax(axis=1) == labels))


def scores_of(saved: Path, features: Any) -> Any:
    arrays = np.load(saved)
    if "coef" in arrays:
        return features @ arrays["coef"].T + arrays["intercept"]
    if "middle.weight" in arrays:
        first = np.maximum(features @ arrays["input.weight"], 0)
        second = np.maximum(first @ arrays["middle.weight"], 0)
        return second @ arrays["output.weight"] + arrays["output.bias"]
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


def run_here(
    app: Path, nodes: list[UserConfig], saved: Path, **changes: str | int
) -> dict[str, Any]:
    """Run an example in this process and return the arrays of its final model."""
    settings = flower_app(app)
    run_config = {**settings["config"], **changes, "save-to": str(saved)}
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
    assert list(plain) == ["coef", "intercept"]
    assert min(np.abs(values).max() for values in plain.values()) > 0.1
    check_same(encrypted, plain)


@pytest.mark.parametrize("train", ["all", "adapters"])
@pytest.mark.parametrize("scheme", ["masks", "paillier"])
def test_the_large_model_learns_what_plain_averages_do(
    train: str, scheme: str, tmp_path: Path
) -> None:
    changes: dict[str, str | int] = {"hidden-units": 20, "train": train, "scheme": scheme}
    saved = tmp_path / "model.npz"
    found = run_here(LARGE, simulated_nodes(3), saved, **{**changes, "key-bits": 1024})

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(LARGE))
        task = importlib.import_module("large_model.task")
    model = task.new_model(20, 8)
    names = task.trained_names(train)
    for _ in range(3):
        trained, sizes = [], []
        for hospital in range(3):
            own = {name: values.copy() for name, values in model.items()}
            (features, labels), _ = task.load_data(hospital, 3)
            task.fit(own, features, labels, train)
            trained.append(own)
            sizes.append(len(labels))
        for name in names:
            parts = [own[name].astype(np.float64) for own in trained]
            model[name] = np.average(parts, axis=0, weights=sizes).astype(np.float32)
    check_same(found, {name: model[name] for name in names})


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
    # Code that checks fl-he itself, or takes the split of an experiment, may look inside.
    inside = {p for name in ("deployment", "capc-mnist") for p in (EXAMPLES / name).rglob("*.py")}
    for path in set(EXAMPLES.rglob("*.py")) - inside:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "fl_he" for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fl_he"):
                imported |= {(str(node.module), alias.name) for alias in node.names}
    assert imported
    for module, name in imported:
        assert name in importlib.import_module(module).__all__, f"{module}.{name}"
