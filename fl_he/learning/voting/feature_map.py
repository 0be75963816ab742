"""The public feature map: what the querying party makes of its features before it encrypts them.

A model that is linear in functions of the features that all know is linear to the protocol.
Answering parties with models on different maps are asked the same query: the union of their maps,
each column once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array

#: Features that are multiplied, by their numbers: (2,) is a feature, (2, 2) its square.
Monomial = tuple[int, ...]

IDENTITY, SQUARES, PRODUCTS, FOURIER = MAPS = ("identity", "squares", "products", "fourier")


@dataclass(frozen=True, slots=True)
class Fourier:
    """Random Fourier features of the kernel ``exp(-gamma |x - y|^2)``: public by three numbers.

    Rahimi, Recht 2007, "Random Features for Large-Scale Kernel Machines", section 3; scikit-learn's
    RBFSampler draws them.

    Parameters
    ----------
    components : int
        How many, at least 1.
    gamma : float
        Above 0.
    seed : int
        Of numpy's RandomState, whose numbers are the same in all its versions.
    """

    components: int
    gamma: float
    seed: int

    def __post_init__(self) -> None:
        if self.components < 1 or not 0.0 < self.gamma < np.inf:
            raise DataError(
                f"Fourier features must have components and gamma above 0, got {self.components} "
                f"and {self.gamma:g}"
            )

    def unfitted(self) -> Any:
        """Return scikit-learn's transformer; what it is fitted on is of no influence."""
        from sklearn.kernel_approximation import RBFSampler  # noqa: PLC0415 - a second to import

        return RBFSampler(gamma=self.gamma, n_components=self.components, random_state=self.seed)

    def sampler(self, inputs: int) -> Any:
        """Return the transformer of this many features."""
        return self.unfitted().fit(np.zeros((1, inputs)))


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Columns that are computed from a query's features.

    Parameters
    ----------
    inputs : int
        Features of a query.
    monomials : tuple of Monomial
        The first columns, none of them twice.
    fourier : Fourier or None
        The columns behind them: cosines, without scikit-learn's factor ``sqrt(2 / components)``.
    """

    inputs: int
    monomials: tuple[Monomial, ...]
    fourier: Fourier | None = None

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.monomials) + (0 if self.fourier is None else self.fourier.components)

    def apply(self, features: Array) -> Array:
        """Return the columns of features of shape (m, inputs), shape (m, size)."""
        columns = [features[:, list(monomial)].prod(axis=1) for monomial in self.monomials]
        mapped = np.array(columns, dtype=np.float64).reshape(len(columns), len(features)).T
        if self.fourier is None:
            return mapped
        sampler = self.fourier.sampler(self.inputs)
        cosines = np.cos(features @ sampler.random_weights_ + sampler.random_offset_)
        return np.hstack([mapped, cosines])

    def integer_bits(self, feature_bits: int) -> list[int]:
        """Return b for each column, which is below ``2**b`` if all features are below ``2**bits``.

        A cosine may be 1, so it has one bit.
        """
        cosines = self.size - len(self.monomials)
        return [*(feature_bits * len(monomial) for monomial in self.monomials), *[1] * cosines]

    def places(self, monomials: Iterable[Monomial]) -> list[int]:
        """Return the columns of monomials.

        Raises
        ------
        DataError
            If one is not there.
        """
        place = {monomial: column for column, monomial in enumerate(self.monomials)}
        wanted = [tuple(sorted(monomial)) for monomial in monomials]
        if missing := [monomial for monomial in wanted if monomial not in place]:
            raise DataError(
                f"the public feature map must hold the product of features {missing[0]}, on "
                "which a model is fitted, and does not"
            )
        return [place[monomial] for monomial in wanted]

    def fourier_places(self, sampler: Any) -> list[int]:
        """Return the columns of a fitted RBFSampler's outputs.

        Raises
        ------
        DataError
            If it is not the public one.
        """
        if self.fourier is not None:
            public = self.fourier.sampler(self.inputs)
            if np.array_equal(public.random_weights_, sampler.random_weights_) and np.array_equal(
                public.random_offset_, sampler.random_offset_
            ):
                return list(range(len(self.monomials), self.size))
        raise DataError(
            "the RBFSampler is not that of the public feature map (components, gamma and seed)"
        )


def union(inputs: int, maps: Iterable[str], fourier: Fourier | None = None) -> FeatureMap:
    """Return the map that holds each column of several maps once.

    Parameters
    ----------
    inputs : int
        At least 1.
    maps : iterable of str
        Of `MAPS`. ``products``: of any two features, squares among them.
    fourier : Fourier, optional
        For ``fourier``.

    Raises
    ------
    DataError
        If there is no such map, or none at all.
    """
    chosen = set(maps)
    if not chosen or not chosen <= set(MAPS):
        raise DataError(
            f"feature maps must be some of {', '.join(MAPS)}, got {', '.join(sorted(chosen))}"
        )
    if FOURIER in chosen and fourier is None:
        raise DataError("the map 'fourier' needs Fourier features")
    monomials: list[Monomial] = []
    if IDENTITY in chosen:
        monomials += [(i,) for i in range(inputs)]
    if PRODUCTS in chosen:
        monomials += combinations_with_replacement(range(inputs), 2)
    elif SQUARES in chosen:
        monomials += [(i, i) for i in range(inputs)]
    return FeatureMap(inputs, tuple(monomials), fourier if FOURIER in chosen else None)
