"""The test set, and the division of the rest among the hospitals of a simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

# Above it the shares are equal to six digits, and far above it numpy's sampler overflows.
_LARGEST_ALPHA = 1e12


def train_test_split(
    dataset: Dataset, test_size: float, seed: int, *, stratify: bool
) -> tuple[Dataset, Dataset | None]:
    """Shuffle a dataset and cut off its test set.

    Parameters
    ----------
    dataset
        All the data of a simulation; both classes must be in it.
    test_size
        The fraction for the test set, in [0, 1). The test set has ``ceil(test_size * m)``
        rows; there is none of 0.
    seed
        In [0, 2**32). The rows of both sets are those of scikit-learn's
        ``train_test_split(..., random_state=seed)``, in the same order, so that results can
        be compared with scripts that use it.
    stratify
        Give both sets the classes' shares of all data, as scikit-learn's ``stratify=labels``
        does. Without effect if a class has a single row or the test set fewer rows than
        there are classes.

    Returns
    -------
    tuple[Dataset, Dataset | None]
        The training set, shuffled, and the test set.

    Raises
    ------
    DataError
        If a class is absent, the training set would be empty, or an argument is out of
        range.
    """
    if not 0.0 <= test_size < 1.0:
        raise DataError(f"test_size must be at least 0 and less than 1, got {test_size}")
    if not dataset.family and dataset.labels.min() == dataset.labels.max():
        raise DataError(
            f"labels must hold both classes, got only {dataset.labels[0]:.0f} "
            f"in all {dataset.examples} rows"
        )
    held_out = math.ceil(test_size * dataset.examples)
    if held_out >= dataset.examples:
        raise DataError(
            f"test_size must leave rows to train on, got {test_size} of {dataset.examples} rows"
        )
    if not 0 <= seed < 2**32:
        raise DataError(f"seed must be at least 0 and less than 2**32, got {seed}")
    stratify = stratify and not dataset.family
    train, test = _split_rows(dataset.labels, held_out, seed, stratify=stratify)
    return dataset.take(train), dataset.take(test) if held_out else None


def site_split(
    labels: Array, test_size: float, seed: int, *, stratify: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide the rows of one site, which may be of one class, into training and test set.

    Parameters
    ----------
    labels
        Shape (m,).
    test_size, seed, stratify
        See `train_test_split`. One row at least stays in the training set.

    Returns
    -------
    train, test : NDArray[np.intp]
        Numbers of rows.
    """
    held_out = min(math.ceil(test_size * len(labels)), len(labels) - 1)
    return _split_rows(labels, held_out, seed, stratify=stratify)


def _split_rows(
    labels: Array, held_out: int, seed: int, *, stratify: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    # The older generator, because scikit-learn shuffles with it; numpy has frozen its stream.
    rng, rows = np.random.RandomState(seed), len(labels)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    divisible = counts.min() > 1 and len(counts) <= min(held_out, rows - held_out)
    if stratify and divisible:
        return _stratified(classes, counts, held_out, rng)
    shuffled = rng.permutation(rows)
    return shuffled[held_out:], shuffled[:held_out]


def _stratified(
    classes: NDArray[np.intp], counts: NDArray[np.intp], held_out: int, rng: np.random.RandomState
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide rows as scikit-learn's StratifiedShuffleSplit does, without its import of a second."""
    kept = _shares(counts, len(classes) - held_out, rng)
    cut_off = _shares(counts - kept, held_out, rng)
    train, test = [], []
    of_classes = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    for rows, first, second in zip(of_classes, kept, cut_off, strict=True):
        shuffled = rows[rng.permutation(len(rows))]
        train.append(shuffled[:first])
        test.append(shuffled[first : first + second])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def _shares(counts: NDArray[np.intp], rows: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Share rows out by counts, the largest remainders first and ties by chance."""
    exact = counts / counts.sum() * rows
    shares: Array = np.floor(exact)
    remainders, missing = exact - shares, int(rows - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if not missing:
            break
        (tied,) = np.nonzero(remainders == remainder)
        chosen = rng.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return shares.astype(np.intp)


def partition(
    labels: Array, hospitals: int, scheme: str, alpha: float, seed: int
) -> list[NDArray[np.intp]]:
    """Divide rows among hospitals: every row in one part, every part with at least one row.

    Schemes:

    - ``even``: sizes differ by at most one.
    - ``uneven``: sizes are proportional to a draw from a symmetric Dirichlet distribution;
      the labels stay mixed. "Quantity skew" of Li, Diao, Chen and He 2022, "Federated
      Learning on Non-IID Data Silos" (arXiv 2102.02079).
    - ``by_label``: each class is divided by a Dirichlet draw of its own, so that both the
      sizes and the classes' shares differ. "Distribution-based label imbalance" of the same
      paper; see also Yurochkin et al. 2019 (arXiv 1905.12022). A hospital may get a
      single class.

    A part that the draw leaves empty gets a row of the largest part.

    Parameters
    ----------
    labels
        Shape (m,).
    hospitals
        The number of parts, from 1 to m.
    scheme
        ``even``, ``uneven`` or ``by_label``.
    alpha
        The Dirichlet concentration, in (0, 1e12]: shares are almost equal at 100, uniformly
        distributed over all possible divisions at 1, and mostly with a few hospitals at 0.1.
        ``even`` does not use it.
    seed
        Seed of numpy's default generator. The same arguments give the same division.

    Returns
    -------
    list[NDArray[np.intp]]
        The rows of each hospital, ascending.

    Raises
    ------
    DataError
        If there are fewer rows than hospitals, or an argument is out of range.
    """
    schemes: dict[str, Callable[[np.random.Generator], list[NDArray[np.intp]]]] = {
        "even": lambda rng: np.array_split(rng.permutation(rows), hospitals),
        "uneven": lambda rng: _cut(rng.permutation(rows), hospitals, alpha, rng),
        "by_label": lambda rng: _by_label(labels, hospitals, alpha, rng),
    }
    if scheme not in schemes:
        raise DataError(f"partition scheme must be one of {', '.join(schemes)}, got {scheme!r}")
    if hospitals < 1:
        raise DataError(f"hospitals must be at least 1, got {hospitals}")
    if len(labels) < hospitals:
        raise DataError(
            f"rows must be at least as many as hospitals ({hospitals}), got {len(labels)}"
        )
    if scheme != "even" and not 0.0 < alpha <= _LARGEST_ALPHA:
        raise DataError(f"alpha must be greater than 0 and at most {_LARGEST_ALPHA:g}, got {alpha}")
    rows = np.arange(len(labels))
    parts = schemes[scheme](np.random.default_rng(seed))
    return [np.sort(part) for part in _without_empty(parts)]


def _cut(
    rows: NDArray[np.intp], parts: int, alpha: float, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Cut rows at the rounded running sums of Dirichlet shares."""
    shares = rng.dirichlet(np.full(parts, alpha))
    ends = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.intp)
    return np.split(rows, ends)


def _by_label(
    labels: Array, hospitals: int, alpha: float, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    classes = [
        _cut(rng.permutation(np.flatnonzero(labels == label)), hospitals, alpha, rng)
        for label in np.unique(labels)
    ]
    return [np.concatenate(parts) for parts in zip(*classes, strict=True)]


def _without_empty(parts: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Give each empty part the last row of the part that is the largest at that time."""
    filled = list(parts)
    for index, part in enumerate(parts):
        if len(part) == 0:
            largest = max(range(len(filled)), key=lambda other: len(filled[other]))
            filled[index] = filled[largest][-1:]
            filled[largest] = filled[largest][:-1]
    return filled
