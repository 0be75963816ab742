"""Search a coordinator's view for numbers of single hospitals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.regression.likelihood import examples_of, mean_gradient
from fl_he.learning.tables.data import Dataset

Model = tuple[NDArray[np.float64], float]

DOUBLES = ("<f8", ">f8")
SINGLES = ("<f4", ">f4")
_TEXT_LENGTH = 10  # as many digits are no coincidence


def private_values(hospitals: Sequence[Dataset], models: Iterable[Model]) -> dict[str, float]:
    """Return all numbers of all hospitals' updates, for every model that they were sent.

    Parameters
    ----------
    hospitals : sequence of Dataset
    models : iterable of (coefficients of shape (d,), intercept)
    """
    values: dict[str, float] = {}
    for step, model in enumerate(models):
        for number, data in enumerate(hospitals):
            examples = examples_of(data, np.append(*model))
            gradient = mean_gradient(examples)
            own = {
                **{f"gradient[{i}]": float(g) for i, g in enumerate(gradient[:-1])},
                "intercept": float(gradient[-1]),
                "loss": float(np.mean(examples.losses)),
                "accuracy": float(np.mean(examples.hits)),
            }
            weighted = {f"weighted {name}": value * data.examples for name, value in own.items()}
            for name, value in (own | weighted | {"examples": float(data.examples)}).items():
                values[f"model {step}, hospital {number}: {name}"] = value
    return values


def private_sums(hospitals: Sequence[Dataset], mean: NDArray[np.float64]) -> dict[str, float]:
    """Return the sums of single hospitals' features, from which the scaling was computed.

    Parameters
    ----------
    hospitals : sequence of Dataset
        In their tables' units.
    mean : ndarray, shape (d,)
        Of all hospitals.
    """
    return {
        f"hospital {number}: {name}[{i}]": float(value) / weight
        for number, data in enumerate(hospitals)
        for weight in (1, data.examples)
        for name, values in (
            (f"sum / {weight}", data.features.sum(axis=0)),
            (f"squares / {weight}", np.square(data.features - mean).sum(axis=0)),
        )
        for i, value in enumerate(values)
    }


def found_in(
    seen: bytes, values: Mapping[str, float], dtypes: Sequence[str] = (*DOUBLES, *SINGLES)
) -> set[str]:
    """Return the names of the values that the seen bytes contain, in binary or as text.

    Parameters
    ----------
    seen : bytes
    values : mapping of str to float
    dtypes : sequence of str
        The binary forms to look for. Megabytes contain any four bytes by chance.
    """
    found = set()
    for name, value in values.items():
        forms = [np.array([value], dtype).tobytes() for dtype in dtypes]
        texts = (f"{value:.9g}", repr(float(value)))  # rounded, and all digits
        forms += [text.encode()[:_TEXT_LENGTH] for text in texts if len(text) >= _TEXT_LENGTH]
        if value != 0 and any(form in seen for form in forms):
            found.add(name)
    return found


def telling(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are found by no chance: of one hospital alone, and of many digits.

    That leaves out counts, shares such as 0.5, and the loss before the first step, which is the
    same everywhere.
    """
    often = Counter(values.values())
    return {
        name: value
        for name, value in values.items()
        if often[value] == 1 and float(np.float32(value)) != value
    }
