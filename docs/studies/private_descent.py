"""``experiment=private`` in one process and without encryption, for ``private_accuracy``.

Gradient descent on the sums that company X would open: clipping, noise, accounting and scaling are
those of ``fl_he.learning``. The noise is that of the counted hospitals in one draw.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fl_he.config.composition import compose
from fl_he.experiment.data import SimulatedData, simulated_data
from fl_he.experiment.terms import declared_ranges, privacy_of
from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice, clipped_sum, noise_variance
from fl_he.learning.privacy.scaling import range_sums, scaling_of_sums, scaling_variance
from fl_he.learning.regression.likelihood import example_gradients, examples_of
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.learning.tables.scaling import Scaling

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

T = TypeVar("T")


def needed(value: T | None) -> T:
    """Return a setting that the experiment must have; end the program if it is missing."""
    if value is None:
        raise SystemExit("experiment=private must declare privacy and ranges")
    return value


CONFIG = compose("config", ["experiment=private"])
BITS = CONFIG.crypto.fraction_bits
LR = CONFIG.optimizer.lr
DATA = load_built_in("breast_cancer")
#: One share is the noise of all counted hospitals.
TERMS = replace(needed(privacy_of(CONFIG)), contributors=1)
RANGES = needed(declared_ranges(CONFIG, DATA.feature_names))

#: A noise's variance takes an accountant a second to find.
gradient_variance, sums_variance = cache(noise_variance), cache(scaling_variance)


def noise_of(terms: GaussianPrivacy, features: int) -> Integers:
    """Return the noise of all rounds, in steps of the lattice, shape (rounds, features + 1)."""
    variance = gradient_variance(terms, Lattice(BITS, features + 1))
    return discrete_gaussian(variance, terms.rounds * (features + 1)).reshape(terms.rounds, -1)


def descend(data: Dataset, clip: float, lr: float, noise: Integers) -> Array:
    """Return the parameters after a step for each row of noise."""
    theta = np.zeros(noise.shape[1])
    for drawn in noise:
        total = drawn + clipped_sum(example_gradients(examples_of(data, theta)), clip, BITS)
        theta = theta - lr * np.ldexp(total.astype(np.float64), -BITS) / data.examples
    return theta


def accuracy(theta: Array, test: Dataset) -> float:
    """Return the share of labels that a model predicts."""
    return float(np.mean(examples_of(test, theta).hits))


def private_accuracy(
    train: Dataset, test: Dataset, terms: GaussianPrivacy = TERMS, lr: float = LR
) -> float:
    """Return the accuracy of one private run, of data in the units of the model."""
    noise = noise_of(terms, train.features.shape[1])
    return accuracy(descend(train, terms.clip, lr, noise), test)


def scaled(data: Dataset, scaling: Scaling) -> Dataset:
    """Return data in the units of the model."""
    return replace(data, features=scaling.apply(data.features))


@cache
def divided(seed: int) -> SimulatedData:
    """Return the hospitals' data and the test data of a seed, in the units of their table."""
    return simulated_data(replace(CONFIG, seed=seed))


def by_ranges(ranges: Ranges, seed: int) -> tuple[Dataset, Dataset]:
    """Return the training and the test data of a seed, scaled by ranges."""
    scaling = ranges.scaling
    return scaled(divided(seed).train, scaling), scaled(divided(seed).test, scaling)


def simulated(features: int, patients: int, number: int) -> tuple[Dataset, Dataset]:
    """Return tables whose values are a small part, anywhere, of the range from -1 to 1."""
    rng = np.random.default_rng([features, patients, number])
    mean, deviation = rng.uniform(-0.6, 0.6, features), rng.uniform(0.05, 0.25, features)
    weights = 2.0 * rng.normal(size=features) / np.sqrt(features)
    normal = rng.normal(size=(patients + 4000, features))
    labels = (normal @ weights + 0.5 * rng.logistic(size=len(normal)) > 0.0).astype(np.float64)
    values = np.clip(mean + deviation * normal, -1.0, 1.0)
    names = tuple(str(column) for column in range(features))
    return (
        Dataset(values[:patients], labels[:patients], names),
        Dataset(values[patients:], labels[patients:], names),
    )


def share_accuracy(train: Dataset, test: Dataset, share: float) -> float:
    """Return the accuracy of one run that spends a share of the budget on the scaling."""
    features = train.features.shape[1]
    terms = replace(TERMS, scaling=share)
    if share == 0.0:
        return private_accuracy(train, test, terms)
    ranges = Ranges(np.full(features, -1.0), np.full(features, 1.0))
    drawn = discrete_gaussian(sums_variance(terms, Lattice(BITS, 2 * features)), 2 * features)
    sums = range_sums(train.features, ranges, BITS) + drawn
    scaling = scaling_of_sums(sums, train.examples, ranges, BITS)
    return private_accuracy(scaled(train, scaling), scaled(test, scaling), terms)
