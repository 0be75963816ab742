"""Networks in files: safetensors, which hold numbers and run no code, with a JSON of the layers.

The tensors ``NUMBER.weight`` and ``NUMBER.bias`` are of the layers, counted from 0, in float32 or
float64. The metadata's member ``fl-he`` says how they fit together. A file is hostile: sizes are
checked before memory is taken for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fl_he.atomic import replace_file
from fl_he.crypto.encoding.fields import (
    Limit,
    Natural,
    Whole,
    at_most,
    constant,
    form_of,
    kind_of,
    left_out,
)
from fl_he.crypto.encoding.strict_json import Document
from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.estimators import by_class
from fl_he.learning.voting.layers import Convolution, Shape, network
from fl_he.learning.voting.model_file import table_model
from fl_he.learning.voting.sequential import folded

ENDING = ".safetensors"
_KEY = "fl-he"
_MOST_BYTES, _MOST_HEADER = 1 << 26, 1 << 20
_MOST_LAYERS = 64
_LARGEST = 1e30  # in size
_TYPES = {"F32": np.float32, "F64": np.float64}

_Size = Annotated[Natural, at_most(1 << 24)]
_Stride = tuple[_Size, _Size]
_Zeros = Annotated[Whole, at_most(1 << 12)]
_Padding = tuple[_Zeros, _Zeros]
_Names = tuple[str, ...]
_SHAPE = Limit("be three numbers", lambda shape: len(shape) == 3)
_CLASSES = Limit("be at least two names", lambda names: len(names) > 1)
_LAYERS = Limit(f"be 1 to {_MOST_LAYERS} layers", lambda layers: 0 < len(layers) <= _MOST_LAYERS)


@dataclass(frozen=True, slots=True)
class _Described:
    """A layer without its numbers; a linear one has neither stride nor padding."""

    kind: Literal["linear", "convolution"]
    stride: Annotated[_Stride, left_out(kind_of(_Stride), (1, 1))] = (1, 1)
    padding: Annotated[_Padding, left_out(kind_of(_Padding), (0, 0))] = (0, 0)


@dataclass(frozen=True, slots=True)
class _Structure:
    """The JSON of a file."""

    shape: Annotated[tuple[_Size, ...], _SHAPE]
    classes: Annotated[_Names, _CLASSES]
    features: Annotated[_Names, left_out(kind_of(_Names), ())]
    layers: Annotated[tuple[_Described, ...], _LAYERS]


_DOCUMENT = Document(
    "the description of a network",
    {"format": constant("fl-he network 1"), **form_of(_Structure).members},
    limit=_MOST_HEADER,
    error=DataError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network on a table's own units.

    Attributes
    ----------
    model : AnsweringModel
    classes : tuple of str
        Of its outputs.
    features : tuple of str
        Of its inputs; empty if the file does not say.
    """

    model: AnsweringModel = field(repr=False)
    classes: tuple[str, ...]
    features: tuple[str, ...]

    def answering(
        self, classes: Sequence[str], features: Mapping[str, tuple[float, float]]
    ) -> AnsweringModel:
        """Return the model for tables of these classes, on scaled features.

        Parameters
        ----------
        classes : sequence of str
            In their order. The network need not know all.
        features : mapping of str to (float, float)
            Names in their order, and the bounds that become -1 and 1.

        Raises
        ------
        DataError
            If the network's classes or features are others.
        """
        if unknown := [name for name in self.classes if name not in classes]:
            raise DataError(
                f"a network's classes must be among the {len(classes)} of the labels, got "
                f"{len(unknown)} others"
            )
        if self.features and self.features != tuple(features):
            raise DataError("a network must be on the same features in their order")
        *layers, last = self.model.layers
        inputs = self.model.layers[0].weights.shape[1]
        if inputs != len(features):
            raise DataError(f"a network must have {len(features)} inputs here, got {inputs}")
        places = [list(classes).index(name) for name in self.classes]
        outputs = by_class(last.weights, last.offsets, places, len(classes))
        return AnsweringModel((*layers, outputs)).on_scaled(list(features.values()))


def save_network(
    path: str | Path,
    model: Any,
    *,
    classes: Sequence[str],
    shape: Sequence[int] | None = None,
    features: Sequence[str] = (),
) -> None:
    """Write a network into a file for ``capc-model`` of a node or ``capc.models`` of a run.

    Parameters
    ----------
    path : str or Path
        Ends with ``.safetensors``.
    model : object
        A trained ``torch.nn.Sequential``; or `Layer` and `Convolution` objects in a list, with a
        ReLU behind each but the last; or an AnsweringModel; or a fitted MLPClassifier or other
        classifier of scikit-learn's that is linear, behind a StandardScaler or MinMaxScaler or not.
        On the table's own units.
    classes : sequence of str
        Names of the labels in the order of the outputs. A classifier's labels are these names, or
        their places from 0.
    shape : sequence of int, optional
        Channels, height and width of an input; or its size alone. A classifier has its own.
    features : sequence of str, optional
        Names of the inputs in their order, to be compared where the network answers.

    Raises
    ------
    DataError
        If the model cannot be evaluated under encryption, or does not fit the rest.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> layers = [Layer(np.ones((2, 3)), np.zeros(2)), Layer(np.eye(2), np.zeros(2))]
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "network.safetensors"
    ...     save_network(path, layers, shape=[3], classes=["well", "sick"])
    ...     load_network(path).classes
    ('well', 'sick')
    """
    names = tuple(classes)
    if type(model).__module__.startswith("sklearn."):
        model = table_model(model, names)
    given = model.layers if isinstance(model, AnsweringModel) else model
    if isinstance(model, AnsweringModel) and shape is None:
        shape = model.layers[0].weights.shape[1:]
    if shape is None:
        raise DataError("shape must be given: channels, height and width of an input")
    sizes = _three(shape)
    layers = _layers(given, sizes)
    last = layers[-1]
    if isinstance(last, Layer):
        _ = AnsweringModel((last,))  # refuses NaN, which is no unknown class, and other shapes
        known = last.offsets != -np.inf
        layers[-1] = Layer(last.weights[known], last.offsets[known])
        if len(names) == len(known):
            names = tuple(name for name, one in zip(names, known, strict=True) if one)
    tensors = {}
    for number, layer in enumerate(layers):
        weights = layer.weights if isinstance(layer, Layer) else layer.kernel
        for name, array in zip(_tensors(number), (weights, layer.offsets), strict=True):
            tensors[name] = np.ascontiguousarray(array, dtype=np.float64)
    structure = _Structure(sizes, names, tuple(features), tuple(map(_described, layers)))
    _made(structure, tensors)  # refused now, not where the file is read
    if Path(path).suffix != ENDING:
        raise DataError(f"a network's file must end with {ENDING}, got {Path(path).name!r}")
    shortest = {name: _shortest(array) for name, array in tensors.items()}
    data = _safetensors().numpy.save(shortest, metadata={_KEY: _DOCUMENT.dumps(structure)})
    _check_sizes(int.from_bytes(data[:8], "little"), len(data))
    replace_file(Path(path), data)


def load_network(path: Path) -> Network:
    """Read a file that `save_network` wrote.

    Raises
    ------
    DataError
        If it is anything else, or too large.
    OSError
        If it cannot be read.
    """
    safetensors = _safetensors()
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        size = file.seek(0, 2)
    _check_sizes(header, size)
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            structure = _DOCUMENT.loads((opened.metadata() or {}).get(_KEY, ""), _Structure)
            wanted = {name for number in range(len(structure.layers)) for name in _tensors(number)}
            if set(opened.keys()) != wanted:
                raise DataError(f"a network file must hold exactly the tensors {sorted(wanted)}")
            tensors = {name: _tensor(opened, name) for name in sorted(wanted)}
    except safetensors.SafetensorError as error:
        raise DataError(f"a network's file must be of the format safetensors: {error}") from None
    return _made(structure, tensors)


def _check_sizes(header: int, size: int) -> None:
    if size > _MOST_BYTES or header > _MOST_HEADER:
        raise DataError(
            f"a network's file has more than {_MOST_BYTES} bytes, or more than {_MOST_HEADER} in "
            "its header: it must be of the format safetensors"
        )


def _safetensors() -> Any:
    try:
        import safetensors.numpy  # noqa: PLC0415 - optional: only networks in files need it
    except ImportError:
        raise DataError(
            "safetensors must be installed for networks in files: pip install 'fl-he[capc]'"
        ) from None
    return safetensors


def _shortest(array: Array) -> NDArray[np.float32] | Array:
    """Return an array in float32 if that holds its numbers exactly, such as PyTorch's."""
    with np.errstate(over="ignore"):
        short = array.astype(np.float32)
    return short if np.array_equal(short, array) else array


def _tensors(number: int) -> tuple[str, str]:
    """Return the names of a layer's tensors."""
    return f"{number}.weight", f"{number}.bias"


def _tensor(opened: Any, name: str) -> Array:
    found = opened.get_slice(name).get_dtype()
    if found not in _TYPES:
        raise DataError(f"tensors of a network must be F32 or F64, got {found!r:.20} in {name}")
    return np.asarray(opened.get_tensor(name), dtype=np.float64)


def _three(shape: Sequence[int]) -> Shape:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) not in (1, 3):
        raise DataError(f"shape must be channels, height and width, or one size, got {sizes}")
    channels, height, width = (*sizes, 1, 1)[:3]
    return channels, height, width


def _layers(given: Any, shape: Shape) -> list[Layer | Convolution]:
    if not isinstance(given, Iterable):
        raise DataError(
            "a network must be a torch.nn.Sequential, a list of layers, an AnsweringModel or a "
            f"classifier of scikit-learn's, got {type(given).__name__}"
        )
    layers = list(given)
    if not layers:
        raise DataError("a network must have at least one layer")
    if all(isinstance(layer, Layer | Convolution) for layer in layers):
        return layers
    return folded(layers, shape)


def _described(layer: Layer | Convolution) -> _Described:
    if isinstance(layer, Layer):
        return _Described("linear")
    return _Described("convolution", layer.stride, layer.padding)


def _made(structure: _Structure, tensors: Mapping[str, Array]) -> Network:
    """Put a network together, after checking its sizes."""
    layers: list[Layer | Convolution] = []
    for number, one in enumerate(structure.layers):
        weights, offsets = (tensors[name] for name in _tensors(number))
        for array in (weights, offsets):
            if not array.size or not (np.abs(array) < _LARGEST).all():
                raise DataError(
                    f"a network's layers must hold finite numbers below {_LARGEST:g} in size: "
                    f"look at layer {number}"
                )
        if one.kind == "convolution":
            layers.append(Convolution(weights, offsets, one.stride, one.padding))
        elif one == _Described("linear"):
            layers.append(Layer(weights, offsets))
        else:
            raise DataError("a linear layer must have neither stride nor padding")
    channels, height, width = structure.shape
    model = network(layers, (channels, height, width))
    inputs, outputs = prod(structure.shape), len(model.layers[-1].offsets)
    if model.layers[0].weights.shape[1] != inputs:
        raise DataError(
            f"the first layer of a network must have {inputs} inputs, as its shape says"
        )
    classes, features = structure.classes, structure.features
    for what, names, count in (("classes", classes, outputs), ("features", features, inputs)):
        if len(set(names)) != len(names) or (len(names) != count and (names or what == "classes")):
            raise DataError(
                f"{what} of a network must be {count} different names, got {len(names)}"
            )
    return Network(model, classes, features)
