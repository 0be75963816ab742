"""Networks in files: saved networks are read, and hostile files are refused in little memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_modules as tm
from safetensors.numpy import save
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch_modules import FLATTEN, RELU

from fl_he.capc import Convolution, Layer, save_network
from fl_he.capc.networks import Network, load_network
from fl_he.learning.errors import DataError
from fl_he.learning.voting.answering import AnsweringModel

RNG = np.random.default_rng(2)
X = RNG.uniform([0.0, -5.0, 0.25], [100.0, 1.0, 0.5], size=(200, 3))
FEATURES = {"age": (0.0, 100.0), "size": (-5.0, 1.0), "rate": (0.25, 0.5)}
LOW, HIGH = np.array(list(FEATURES.values())).T
SCALED = (2.0 * X - LOW - HIGH) / (HIGH - LOW)
CLASSES = ("well", "ill", "worse")
LABELS = np.digitize(SCALED @ [1.0, 0.5, -0.7], [-0.4, 0.4])


def saved(folder: Path, model: Any, **settings: Any) -> Network:
    path = folder / "network.safetensors"
    save_network(path, model, **settings)
    return load_network(path)


def test_a_sequential_is_saved_with_its_convolutions_and_read_again(tmp_path: Path) -> None:
    modules = [tm.conv2d(3, 1, stride=2, padding=1), tm.batch_norm("BatchNorm2d", 3), RELU, FLATTEN]
    modules += [tm.linear(9, 48), RELU, tm.linear(3, 9)]
    read = saved(tmp_path, modules, shape=(1, 8, 8), classes=CLASSES)
    images = RNG.normal(size=(50, 1, 8, 8))
    wanted = [int(tm.forward(modules, image).argmax()) for image in images]
    assert read.model.predict(images.reshape(50, -1)).tolist() == wanted
    assert len(set(wanted)) > 1
    # a matrix of the first layer would hold 48 * 64 numbers
    assert (tmp_path / "network.safetensors").stat().st_size < 8 * 48 * 64


def test_numbers_are_saved_in_float32_if_that_holds_them_exactly(tmp_path: Path) -> None:
    short = RNG.normal(size=(3, 50)).astype(np.float32).astype(np.float64)
    sizes = []
    for weights in (short, short * 0.1):
        read = saved(tmp_path, [Layer(weights, np.zeros(3))], shape=[50], classes=CLASSES)
        np.testing.assert_array_equal(read.model.layers[0].weights, weights)
        sizes.append((tmp_path / "network.safetensors").stat().st_size)
    assert sizes[1] - sizes[0] == 4 * short.size


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classifiers_of_scikit_learn_are_saved_in_the_tables_units(
    tmp_path: Path, names: bool
) -> None:
    labels = np.array(CLASSES)[LABELS] if names else LABELS
    for classifier in (MLPClassifier((5,), max_iter=50, random_state=1), LogisticRegression()):
        model = make_pipeline(StandardScaler(), classifier).fit(X, labels)
        read = saved(tmp_path, model, classes=CLASSES, features=tuple(FEATURES))
        answers = read.answering(CLASSES, FEATURES).predict(SCALED)
        wanted = model.predict(X)
        assert ((np.array(CLASSES)[answers] if names else answers) == wanted).all()


def test_classes_go_by_their_names_and_some_may_be_unknown(tmp_path: Path) -> None:
    few = LABELS != 1
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[few], LABELS[few])
    read = saved(tmp_path, model, classes=CLASSES)
    assert read.classes == ("well", "worse")
    order = ("worse", "ill", "well")
    answers = read.answering(order, FEATURES).predict(SCALED)
    assert (np.array(order)[answers] == np.array(CLASSES)[model.predict(X)]).all()
    with pytest.raises(DataError, match="must be among the 2 of the labels, got 1 others"):
        read.answering(("well", "ill"), FEATURES)


def test_features_of_other_names_order_or_number_are_refused(tmp_path: Path) -> None:
    layers = [Layer(RNG.normal(size=(3, 3)), np.zeros(3))]
    read = saved(tmp_path, layers, shape=[3], classes=CLASSES, features=["age", "rate", "size"])
    with pytest.raises(DataError, match="the same features in their order"):
        read.answering(CLASSES, FEATURES)
    read = saved(tmp_path, AnsweringModel(tuple(layers)), classes=CLASSES)
    with pytest.raises(DataError, match="must have 2 inputs here, got 3"):
        read.answering(CLASSES, {"age": (0.0, 1.0), "size": (0.0, 1.0)})


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ([tm.linear(3, 4)], {}, "shape must be given"),
        ([tm.linear(3, 4)], {"shape": (2, 2)}, "channels, height and width, or one size"),
        ([tm.linear(3, 4)], {"shape": [4], "classes": ["a", "b"]}, "3 different names, got 2"),
        ([tm.linear(3, 4)], {"shape": [4], "classes": ["a", "b", "a"]}, "3 different names, got 3"),
        ([tm.linear(3, 4)], {"shape": [4], "features": ["a"]}, "4 different names, got 1"),
        ([tm.linear(3, 4)], {"shape": [4], "path": "a.pt"}, "must end with .safetensors, got 'a.p"),
        (tm.linear(3, 4), {"shape": [4]}, "must be a torch.nn.Sequential, .* got Linear"),
        ([tm.module("MaxPool2d")], {"shape": (1, 4, 4)}, "MaxPool2d: a maximum is not linear"),
        ([Layer(np.full((3, 4), np.nan), np.zeros(3))], {"shape": [4]}, "finite numbers"),
        ([Layer(np.eye(3), np.array([0.0, np.nan, 0.0]))], {"shape": [3]}, "finite numbers"),
        ([Layer(np.eye(3), np.array([0.0, np.inf, 0.0]))], {"shape": [3]}, "finite numbers"),
        ([Layer(np.eye(3), np.zeros(2))], {"shape": [3]}, "an offset for each output"),
        ([Layer(np.ones((3, 4)), np.zeros(3))], {"shape": [5]}, "must have 5 inputs"),
        ([], {"shape": [3]}, "at least one layer"),
        (
            [Layer(np.ones((3, 9)), np.zeros(3))],
            {"shape": [9], "features": [f"{number:0130000}" for number in range(9)]},
            "more than 1048576 in its header",
        ),
    ],
)
def test_what_cannot_answer_is_not_saved(
    tmp_path: Path, model: Any, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / changes.pop("path", "network.safetensors")
    with pytest.raises(DataError, match=reason):
        save_network(path, model, **{"classes": CLASSES, **changes})
    assert not list(tmp_path.iterdir())


STRUCTURE: dict[str, Any] = {
    "format": "fl-he network 1",
    "shape": [1, 4, 4],
    "classes": ["well", "sick"],
    "layers": [{"kind": "convolution", "padding": [1, 1]}, {"kind": "linear"}],
}
TENSORS: dict[str, Any] = {
    "0.weight": np.ones((1, 1, 3, 3), np.float32),
    "0.bias": np.zeros(1),
    "1.weight": np.ones((2, 16)),
    "1.bias": np.zeros(2),
}
CONVOLUTION = {"kind": "convolution"}


def hostile(structure: Any = STRUCTURE, **tensors: Any) -> bytes:
    given = {name.replace("_", "."): array for name, array in tensors.items()}
    text = structure if isinstance(structure, str) else json.dumps(structure)
    return save({**TENSORS, **given}, metadata={"fl-he": text})


def layers(*described: Any, **changes: Any) -> dict[str, Any]:
    return {**STRUCTURE, "layers": list(described), **changes}


LINEAR = {"kind": "linear"}
HUGE = {"kind": "convolution", "padding": [4096, 4096]}
FILES = {
    "nothing": (b"", "of the format safetensors"),
    "a pickle": (b"\x80\x04N.", "of the format safetensors"),
    "a long header": ((1 << 40).to_bytes(8, "little") + b"{}", "more than 1048576 in its header"),
    "no description": (save(TENSORS), "must be a JSON object"),
    "another metadata": (save(TENSORS, metadata={"format": "pt"}), "must be a JSON object"),
    "a member twice": (hostile('{"format":"a","format":"a"}'), "without duplicate names"),
    "another format": (hostile({**STRUCTURE, "format": "fl-he network 2"}), "must be 'fl-he net"),
    "a member too many": (hostile({**STRUCTURE, "run": "x"}), "got 1 unknown"),
    "a kind": (hostile(layers(CONVOLUTION, {"kind": "exec"})), "one of linear, convolution"),
    "no layers": (hostile(layers()), "must be 1 to 64 layers"),
    "too many layers": (hostile(layers(*[LINEAR] * 65)), "must be 1 to 64 layers"),
    "other tensors": (hostile(layers(CONVOLUTION)), r"tensors \['0.bias', '0.weight'\]"),
    "a linear stride": (hostile(layers(CONVOLUTION, {**LINEAR, "stride": [2, 2]})), "neither"),
    "a stride of 0": (hostile(layers({**CONVOLUTION, "stride": [0, 1]}, LINEAR)), "at least 1"),
    "a padding below 0": (hostile(layers({**CONVOLUTION, "padding": [-1, 1]}, LINEAR)), "least 0"),
    "a huge padding": (hostile(layers(HUGE, LINEAR)), "must hold at most 16777216 numbers in all"),
    "a huge shape": (
        hostile(layers(HUGE, LINEAR, shape=[1, 1 << 24, 1 << 24])),
        "must hold at most 16777216 numbers in all",
    ),
    "a shape of two": (hostile({**STRUCTURE, "shape": [4, 4]}), "must be three numbers"),
    "huge integers": (hostile(json.dumps(STRUCTURE).replace("4, 4", "4" * 4000)), "at most 16777"),
    "other inputs": (hostile({**STRUCTURE, "shape": [2, 4, 4]}), "must have 2 input channels"),
    "a linear layer first": (
        hostile(layers(LINEAR, LINEAR, shape=[1, 1, 5]), **{"0_weight": np.ones((16, 4))}),
        "an offset for each output",
    ),
    "integers": (hostile(**{"1_weight": np.ones((2, 16), np.int64)}), "F32 or F64, got 'I64'"),
    "halves": (hostile(**{"1_weight": np.ones((2, 16), np.float16)}), "F32 or F64, got 'F16'"),
    "not a number": (
        hostile(**{"0_weight": np.full((1, 1, 3, 3), np.nan, np.float32)}),
        "finite numbers below 1e+30 in size: look at layer 0",
    ),
    "infinity": (hostile(**{"1_bias": np.array([0.0, -np.inf])}), "finite numbers below 1e+30"),
    "no numbers": (hostile(**{"1_weight": np.ones((2, 0))}), "look at layer 1"),
    "a row": (hostile(**{"1_weight": np.ones(16)}), "an offset for each output"),
    "one class": (hostile({**STRUCTURE, "classes": ["well"]}), "at least two names"),
    "other classes": (hostile({**STRUCTURE, "classes": ["a", "b", "c"]}), "2 different names"),
    "a matrix as a kernel": (
        hostile(**{"0_weight": np.ones((1, 9))}),
        "must have 1 input channels",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files_are_refused_in_plain_words_and_little_memory(
    tmp_path: Path, name: str
) -> None:
    data, reason = FILES[name]
    path = tmp_path / "network.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=reason.replace("+", r"\+")) as refused:
            load_network(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 500


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(hostile())
    assert load_network(path).classes == ("well", "sick")
    with path.open("ab") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(DataError, match="more than 67108864 bytes"):
        load_network(path)


def test_a_convolution_and_a_layer_are_public_names() -> None:
    assert Convolution(np.ones((1, 1, 1, 1)), np.zeros(1)).output_shape((1, 2, 3)) == (1, 2, 3)
