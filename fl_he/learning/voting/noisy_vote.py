"""Noise of CaPC's vote: its draws, for the protocol and for the plain backend, and the noisy vote.

`vote_noise` is the one place where noise is drawn: the privacy guardian adds it under encryption.
`gnmax` says what it costs. `noisy_labels` is Confident-GNMax on counts that one party sees, with
discrete noise and the same noise on every class in the threshold test (Papernot et al. 2018,
"Scalable Private Learning with PATE", arXiv 1802.08908, algorithm 1).
"""

from __future__ import annotations

import secrets
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian

_random = secrets.SystemRandom()


def noisy_labels(
    votes: NDArray[np.int64],
    variance_gnmax: Fraction | None,
    threshold: int | None,
    variance_threshold: Fraction | None,
) -> NDArray[np.int64]:
    """Return a label for each query, -1 for "no answer"; ties are broken at random.

    Parameters
    ----------
    votes : ndarray, shape (queries, classes)
    variance_gnmax, variance_threshold : Fraction or None
        Of the noise; None for none.
    threshold : int or None
        None: every query is answered.
    """
    noisy = votes + vote_noise(variance_gnmax, votes.size).reshape(votes.shape)
    labels = np.array(
        [_random.choice(np.flatnonzero(row == row.max()).tolist()) for row in noisy], dtype=np.int64
    )
    if threshold is None:
        return labels
    reached = votes.max(axis=1) + vote_noise(variance_threshold, len(votes)) >= threshold
    return np.where(reached, labels, -1)


def vote_noise(variance: Fraction | None, size: int) -> NDArray[np.int64]:
    """Draw this many samples of the noise on counts and on threshold tests.

    `gnmax` says what the noise costs.

    Parameters
    ----------
    variance : Fraction or None
        None: no noise.
    size : int

    Returns
    -------
    ndarray, shape (size,)
    """
    if variance is None:
        return np.zeros(size, dtype=np.int64)
    return discrete_gaussian(variance, size)
