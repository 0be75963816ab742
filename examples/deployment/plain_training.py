"""A federation's computation without encryption: its models and totals, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from plaintext_search import Model

from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.regression import likelihood
from fl_he.learning.tables.data import Dataset


@dataclass(frozen=True)
class Training:
    """All steps of a run.

    Attributes
    ----------
    models : list of (coefficients of shape (d,), intercept)
        From the first one to the trained one.
    totals : list of arrays of shape (d + 1,)
        The sums over the patients that each step was taken by.
    """

    models: list[Model]
    totals: list[NDArray[np.float64]]


def train(hospitals: Sequence[Dataset], rounds: int, lr: float) -> Training:
    """Take the steps of gradient descent, rounded as the protocol does."""
    packing = Packing()
    examples = sum(data.examples for data in hospitals)
    w, b = np.zeros(len(hospitals[0].feature_names)), 0.0
    done = Training([(w, b)], [])
    for _ in range(rounds):
        summed = np.zeros(len(w) + 1, np.int64)
        for data in hospitals:
            gradient = likelihood.mean_gradient(likelihood.examples_of(data, np.array([*w, b])))
            summed += packing.encode(gradient * data.examples)
        total = packing.decode(summed)
        w, b = w - lr * (total / examples)[:-1], b - lr * float(total[-1] / examples)
        done.models.append((w, b))
        done.totals.append(total)
    return done
