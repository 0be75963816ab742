"""Private descent with the sums and noise of a run, without the encryption."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from fl_he.config.run import Config
from fl_he.experiment.data import simulated_data
from fl_he.experiment.terms import declared_ranges, privacy_of
from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian
from fl_he.learning.privacy.gradients import Lattice, clipped_sum, noise_variance


def private_descent(config: Config) -> float:
    """Return the test accuracy of a private run's steps on the pooled clipped sums."""
    data, terms, bits = simulated_data(config), privacy_of(config), config.crypto.fraction_bits
    ranges = declared_ranges(config, data.train.feature_names)
    assert terms is not None
    assert ranges is not None
    X, test = (
        np.c_[ranges.scaling.apply(part.features), np.ones(part.examples)]
        for part in (data.train, data.test)
    )
    variance = noise_variance(terms, Lattice(bits, X.shape[1]))
    shape = (terms.rounds, terms.contributors, X.shape[1])
    noise = discrete_gaussian(variance, int(np.prod(shape))).reshape(shape).sum(axis=1)
    w = np.zeros(X.shape[1])
    for added in noise:
        gradients = X * (expit(X @ w) - data.train.labels)[:, None]
        total = clipped_sum(gradients, terms.clip, bits) + added
        w = w - config.optimizer.lr * total / 2**bits / len(X)
    return float(np.mean((test @ w > 0) == data.test.labels))
