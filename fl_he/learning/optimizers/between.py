"""Differences between sites: heterogeneity of the sites' own estimates, and robust standard errors.

Each site fits the model to its own rows. From the sums over sites of the weights w (the inverse
variances), of w b and of w b^2 follow Cochran's Q of each coefficient b, ``sum w (b - mean)^2``,
and I2, the share of Q beyond its degrees of freedom. Sources: Cochran 1954, "The combination of
estimates from different experiments"; Higgins and Thompson 2002, "Quantifying heterogeneity in a
meta-analysis".

The sum of outer products of the sites' gradients at the final model gives standard errors that hold
however the rows of a site depend on each other: Liang and Zeger 1986, "Longitudinal data analysis
using generalized linear models"; with the factor for few sites of Cameron and Miller 2015, "A
practitioner's guide to cluster-robust inference", section II.B.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import read, read_vectors
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.optimizers.scoring import information_of, point_of
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.inference import chi_squared, have_settled, inverse_of
from fl_he.learning.regression.likelihood import (
    derivative_parts,
    examples_of,
    from_upper_triangle,
    mean_gradient,
    upper_triangle,
)
from fl_he.learning.regression.own_intercepts import informs, profiled
from fl_he.learning.regression.registry import family_of
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

#: Fewest sites by which robust standard errors are told, and whose own fits can differ.
FEWEST_CLUSTERS, _FEWEST_FITS = 10, 2
#: Of a fit of one table: steps at most, and standard errors from the optimum.
_MOST_STEPS, _FITTED = 100, 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class SiteSums:
    """Sums over sites, or of one site.

    Attributes
    ----------
    fits
        Sites with a fit of their own; ``None`` if so few have one that nobody tells.
    clusters
        Sites that contribute to the model.
    own
        Sums over these of w, w b and w b^2, shape (3, d), in the units of the model.
    scores
        Sum of outer products of the gradients, shape (p, p); ``None`` of too few sites.
    """

    fits: int | None
    clusters: int
    own: Array
    scores: Array | None

    @classmethod
    def of_parts(
        cls, counts: Sequence[int], own: Array, scores: Array, features: int, parameters: int
    ) -> SiteSums:
        """Return the sums of a total, which company X may have taken something out of.

        Parameters
        ----------
        counts
            Sites with a fit, -1 if that is withheld, and clusters.
        own, scores
            Rounded sums and what rounding leaves out, shape (2, 3 d) and (2, p (p + 1) / 2). Scores
            that are all 0 are withheld.
        features, parameters
            d and p.

        Raises
        ------
        DataError
            If they are of other numbers.
        """
        if own.shape != (2, 3 * features):
            raise DataError(
                f"sums of sites must be of {features} features, but their shape is {own.shape}"
            )
        known = from_upper_triangle(scores.sum(axis=0), parameters)
        return cls(
            counts[0] if counts[0] >= 0 else None,
            counts[1],
            own.sum(axis=0).reshape(3, features),
            known if known.any() else None,
        )

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "fits": self.fits,
            "clusters": self.clusters,
            "own": self.own.ravel().tolist(),
            "scores": None if self.scores is None else upper_triangle(self.scores).tolist(),
        }

    @classmethod
    def from_members(cls, members: Mapping[str, Any], features: int, parameters: int) -> SiteSums:
        """Read what `to_members` returned; raises DataError."""
        own, scores = read_vectors(members, "own")[0], np.zeros(parameters * (parameters + 1) // 2)
        if members.get("scores") is not None:
            scores = read_vectors(members, "scores")[0]
        fits = -1 if members.get("fits") is None else int(read(members, "fits"))
        counts = fits, int(read(members, "clusters"))
        parts = (np.array([one, np.zeros(len(one))]) for one in (own, scores))
        return cls.of_parts(counts, next(parts), next(parts), features, parameters)


def site_sums(
    dataset: Dataset,
    theta: Array,
    left_out: Collection[int],
    *,
    site_intercepts: bool,
    limit: float,
) -> tuple[Array, Array, Array]:
    """Return the sums of one site.

    Parameters
    ----------
    dataset
        The site's, in the units of the model.
    theta
        The final model.
    left_out
        Features without a coefficient.
    site_intercepts
        Whether each site has its own intercept.
    limit
        A fit counts if its sums are below it in size.

    Returns
    -------
    counts, own, scores : NDArray[np.float64]
        Whether there is a fit, and whether the site contributes to the model; the sums of
        `SiteSums`, shape (3 d,); and the upper triangle of the outer product, row by row.
    """
    kept = [j for j in range(dataset.features.shape[1]) if j not in left_out]
    own, fits = np.zeros((3, dataset.features.shape[1])), 0
    if (found := _own_fit(dataset, kept)) is not None:
        estimates, variances = found
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            sums = np.array([np.ones(len(kept)), estimates, np.square(estimates)]) / variances
        if (np.abs(sums) < limit).all():
            own[:, kept], fits = sums, 1
    examples = (profiled if site_intercepts else examples_of)(dataset, theta)
    score = dataset.examples * mean_gradient(examples)
    if site_intercepts:  # whose derivative is rounding
        score[-1] = 0.0
    clusters = int(not site_intercepts or informs(dataset))
    scores = upper_triangle(np.outer(score, score))
    return np.array([fits, clusters], dtype=np.float64), own.ravel(), scores


def heterogeneity(
    sums: SiteSums, places: Collection[int], scale: Array
) -> dict[int, dict[str, Any]]:
    """Return Cochran's Q and I2 of features, by their numbers; nothing of fewer than two fits.

    Parameters
    ----------
    sums
        Over all sites.
    places
        Features with a coefficient.
    scale
        By which the features were divided, shape (d,).

    Returns
    -------
    dict
        ``q``, ``df`` and ``p_value``; ``i2`` as a share; and of the fixed-effect meta-analysis
        ``estimate`` and ``standard_error`` in the units of the tables.
    """
    if sums.fits is None or sums.fits < _FEWEST_FITS:
        return {}
    found = {}
    for j in places:
        weight, weighted, squares = sums.own[:, j].tolist()
        q = max(0.0, squares - weighted**2 / weight)
        df = sums.fits - 1
        test = chi_squared(q, df)
        found[j] = {
            "q": q,
            "df": df,
            "p_value": test["p_value"],
            "i2": max(0.0, (q - df) / q) if q > 0.0 else 0.0,
            "estimate": weighted / weight / float(scale[j]),
            "standard_error": weight**-0.5 / float(scale[j]),
        }
    return found


def robust_covariance(
    inverse: Array, scores: Array, *, clusters: int, rows: int, freedom: int
) -> Array:
    """Return the cluster-robust covariance of estimates, shape (p, p).

    Parameters
    ----------
    inverse
        Of the information of all rows, for dispersion 1.
    scores
        Sum of outer products of the clusters' gradients.
    clusters
        How many there are, at least 2.
    rows
        How many the information is of.
    freedom
        Rows less parameters, at least 1.

    Examples
    --------
    >>> robust_covariance(np.eye(1), np.eye(1), clusters=3, rows=3, freedom=2).tolist()
    [[1.5]]
    """
    factor = clusters / (clusters - 1) * (rows - 1) / freedom
    return np.asarray(factor * inverse @ scores @ inverse, dtype=np.float64)


def _own_fit(dataset: Dataset, kept: list[int]) -> tuple[Array, Array] | None:
    """Return a site's own estimates and their variances; ``None``: the site has no finite ones."""
    names = dataset.feature_names
    part = replace(
        dataset,
        features=dataset.features[:, kept],
        feature_names=tuple(names[j] for j in kept),
    )
    if not kept or not informs(part):
        return None
    optimizer, family, rows = Newton(), family_of(part), part.examples
    theta, before = family.zeros(len(kept), part.class_count), None
    with np.errstate(all="ignore"):
        try:
            for _ in range(_MOST_STEPS):
                parts = derivative_parts(profiled(part, theta))
                point = point_of(theta, parts, rows, by_loss=family.steps_by_loss)
                information = information_of(point)
                settled = before is not None and have_settled(before, information, 1)
                distance, theta = optimizer.distance(point), optimizer.step(point)
                if settled and distance <= _FITTED:
                    break
                before = information
            else:
                return None
        except (DataError, np.linalg.LinAlgError):
            return None
    if (inverse := inverse_of(information, point.rest)) is None:
        return None
    dispersion = 1.0
    if isinstance(family, GlmFamily) and family.has_dispersion:
        freedom = rows - len(kept) - 1
        dispersion = point.pearson / freedom if freedom > 0 else 0.0
    variances = dispersion * np.diag(inverse)[:-1]
    return (point.theta[:-1], variances) if (variances > 0.0).all() else None
