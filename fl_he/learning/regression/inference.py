"""Inference from an unpenalised model: standard errors, intervals, tests, odds ratios.

All figures come from the totals: the estimates, the Hessian of the mean loss at the estimates, and
the loss. A model with a row of coefficients for each class is compared class by class with a
reference class, as statsmodels' MNLogit and R's multinom do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import ClassFamily
from fl_he.learning.regression.products import within
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.table_file import INTERCEPT
from fl_he.run_files.metrics_contract import ODDS_RATIO, ratio_figures

#: Of the confidence intervals.
LEVEL = 0.95
#: Change of a variance between two rounds, as a share, below which the next change is below 1e-6.
_SETTLED = 1e-4
#: Figures of one coefficient that need its standard error.
_UNCERTAIN = ("standard_error", "z", "p_value", "lower", "upper")


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Estimates in the tables' units, a block of d coefficients and an intercept for each contrast.

    Attributes
    ----------
    features
        d names.
    contrasts
        The class of each block, which is compared with the reference class; of two classes one
        block, named ``None``.
    values
        Shape (c (d + 1),).
    steps
        One standard deviation of each feature; ``None`` where nobody knows it.
    covariance
        Of the values, NaN where a feature was left out; ``None``: not known.
    left_out
        Reasons, by the names of features without a coefficient.
    undetermined
        Reasons, by the block and the name of another feature, or the intercept, without a finite
        estimate.
    ratio
        Name of the exponential of a coefficient; empty: it means nothing.
    freedom
        Of Student's distribution, by which estimates with an estimated dispersion are judged;
        ``None``: they are judged by the normal distribution.
    """

    features: Sequence[str]
    contrasts: Sequence[str | None]
    values: Array
    steps: Array | None
    covariance: Array | None
    left_out: Mapping[str, str]
    undetermined: Mapping[tuple[int, str], str]
    ratio: str = ODDS_RATIO
    freedom: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures of each coefficient, block by block, the intercept last.

        Returns
        -------
        list of dict
            ``name``, ``class`` (of the contrast, or ``None``), ``estimate`` (for one unit more, in
            log odds or the outcome's link), ``standard_error``, ``z``, ``p_value`` (Wald,
            two-sided), ``lower`` and ``upper`` (95%, of the estimate); with the name of the ratio,
            such as ``odds_ratio``, the ratio for one unit more, and with ``_lower`` and ``_upper``
            its ends; the same three with ``_sd`` for one standard deviation more; and
            ``left_out``, the reason why a row has no figures, or ``None``. What is not known is
            ``None``.
        """
        errors = np.full(len(self.values), math.nan)
        if self.covariance is not None:
            errors = np.sqrt(np.diag(self.covariance))
        names = [*self.features, INTERCEPT]
        steps = [None] * len(names) if self.steps is None else [*self.steps.tolist(), None]
        found = []
        for number, (estimate, error) in enumerate(
            zip(self.values.tolist(), errors.tolist(), strict=True)
        ):
            block, place = divmod(number, len(names))
            name = names[place]
            row = {"name": name, "class": self.contrasts[block]}
            if reason := self.left_out.get(name) or self.undetermined.get((block, name)):
                unknown = ("estimate", *_UNCERTAIN, *ratio_figures(self.ratio))
                found.append(row | dict.fromkeys(unknown) | {"left_out": reason})
                continue
            known = error if error > 0 else None
            figures = self._figures(estimate, known, steps[place])
            found.append(row | figures | {"left_out": None})
        return found

    def wald_test(self, columns: Sequence[str]) -> dict[str, Any]:
        """Test whether the coefficients of some features are all 0, in all contrasts together.

        Source: Hosmer, Lemeshow and Sturdivant 2013, "Applied Logistic Regression", section 2.4.

        Returns
        -------
        dict
            ``chi2``, ``df`` and ``p_value``, with a dispersion that of the F distribution of
            ``chi2 / df`` and the degrees of freedom that are left, ``freedom``. Features that were
            left out do not count; ``None`` where nothing is known, or a feature has no finite
            estimate.
        """
        kept = [self.features.index(name) for name in columns if name not in self.left_out]
        width = len(self.features) + 1
        places = [block * width + at for block, _ in enumerate(self.contrasts) for at in kept]
        inverse = None
        finite = {name for _, name in self.undetermined}.isdisjoint(columns)
        if self.covariance is not None and places and finite:
            inverse = inverse_of(self.covariance[np.ix_(places, places)])
        if inverse is None:
            return {"chi2": None, "df": len(places), "p_value": None}
        values = self.values[places]
        chi2 = float(values @ inverse @ values)
        if self.freedom is None:
            return chi_squared(chi2, len(places))
        from scipy.special import fdtrc  # noqa: PLC0415 - lazy: only a run's end needs it

        p_value = float(fdtrc(len(places), self.freedom, chi2 / len(places)))
        return {"chi2": chi2, "df": len(places), "p_value": p_value, "freedom": self.freedom}

    def _figures(self, estimate: float, error: float | None, step: float | None) -> dict[str, Any]:
        """Return the figures of one coefficient; ``step`` is a deviation of its feature."""
        unknown = (*_UNCERTAIN, *ratio_figures(self.ratio))
        figures: dict[str, Any] = {"estimate": estimate, **dict.fromkeys(unknown)}
        ends = {"": estimate}
        if error is not None:
            z = estimate / error
            reach, p_value = interval_reach(self.freedom) * error, self._p_value(abs(z))
            ends |= {"_lower": estimate - reach, "_upper": estimate + reach}
            known = (error, z, p_value, estimate - reach, estimate + reach)
            figures |= dict(zip(_UNCERTAIN, known, strict=True))
        for end, logarithm in ends.items() if self.ratio else ():
            figures[f"{self.ratio}{end}"] = _exponential(logarithm)
            if step is not None:
                figures[f"{self.ratio}_sd{end}"] = _exponential(step * logarithm)
        return figures

    def _p_value(self, z: float) -> float:
        if self.freedom is None:
            return math.erfc(z / math.sqrt(2))
        from scipy.special import stdtr  # noqa: PLC0415 - lazy: only a run's end needs it

        return 2.0 * float(stdtr(self.freedom, -z))


def interval_reach(freedom: int | None) -> float:
    """Return the standard errors from an estimate to an end of its confidence interval.

    Parameters
    ----------
    freedom
        See `Estimates`; not a number if it is 0.

    Examples
    --------
    >>> [round(interval_reach(freedom), 3) for freedom in (None, 200, 8)]
    [1.96, 1.972, 2.306]
    """
    share = (1 + LEVEL) / 2
    if freedom is None:
        return NormalDist().inv_cdf(share)
    from scipy.special import stdtrit  # noqa: PLC0415 - lazy: only a run's end needs it

    return float(stdtrit(freedom, share))


def estimates_of(
    theta: Array,
    features: Sequence[str],
    scaling: Scaling,
    *,
    classes: Sequence[str] = (),
    reference: int = 0,
    hessian: Array | None = None,
    examples: int = 1,
    rest: Array | None = None,
    deviations: bool = True,
    left_out: Mapping[str, str] | None = None,
    undetermined: Mapping[tuple[int, str], str] | None = None,
    ratio: str = ODDS_RATIO,
    dispersion: float = 1.0,
    freedom: int | None = None,
) -> Estimates:
    """Return the estimates of a model in the tables' units, as contrasts to a reference class.

    With a row for each class the model is symmetric and its information singular: only differences
    of rows are determined. With the reference's row as 0 the other rows are these differences, and
    their information is that of the model without the reference's rows and columns, ``J' H J``,
    where J sets the reference's row to 0 (Agresti 2013, "Categorical Data Analysis", section 8.1).

    Parameters
    ----------
    theta
        As :mod:`fl_he.learning.regression.parameters` lays it out.
    features
        d names.
    scaling
        From the units of the tables to the model's.
    classes
        Names of more than two classes.
    reference
        Number of the class that the others are compared with.
    hessian
        Of the mean loss; ``None``: standard errors are not known.
    examples
        How many the mean is of.
    rest
        What the rounding of ``examples * hessian`` leaves out; ``None``: nothing.
    deviations
        Whether the scale of the features is their standard deviation.
    left_out
        Reasons, by the names of features whose coefficients are 0 because they were left out.
    undetermined
        Reasons, by the row and the name of another feature, or the intercept, without a finite
        estimate.
    ratio, freedom
        See `Estimates`.
    dispersion
        Of which the covariance is a multiple.
    """
    left_out = left_out or {}
    d, (coefficients, intercepts) = len(features), parameters.split(theta, len(features))
    by_row = np.column_stack([coefficients, intercepts])
    rows = [row for row in range(len(by_row)) if len(by_row) == 1 or row != reference]
    contrasts = by_row[rows] - (by_row[reference] if len(by_row) > 1 else 0.0)
    # From standardised to original units; the intercept takes what the means leave.
    back = np.diag([*(1.0 / scaling.scale), 1.0])
    back[d, :d] = -scaling.mean / scaling.scale
    covariance = None
    if hessian is not None:
        of_rows = [[*range(row * d, (row + 1) * d), len(by_row) * d + row] for row in rows]
        known = np.tile([*(name not in left_out for name in features), True], len(rows))
        places = np.concatenate(of_rows)
        part = np.ix_(places[known], places[known])
        inverse = inverse_of(examples * hessian[part], None if rest is None else rest[part])
        if inverse is not None:
            scaled = np.zeros((len(known), len(known)))
            scaled[np.ix_(known, known)] = dispersion * inverse
            whole = np.kron(np.eye(len(rows)), back)
            covariance = whole @ scaled @ whole.T
            covariance[~known], covariance[:, ~known] = math.nan, math.nan
    return Estimates(
        features,
        [classes[row] if len(by_row) > 1 else None for row in rows],
        (contrasts @ back.T).ravel(),
        scaling.scale if deviations else None,
        covariance,
        left_out,
        {
            (rows.index(row), name): reason
            for (row, name), reason in (undetermined or {}).items()
            if row in rows
        },
        ratio,
        freedom,
    )


def inverse_of(matrix: Array, rest: Array | None = None) -> Array | None:
    """Return the inverse of a symmetric positive definite matrix, scaled to a unit diagonal first.

    The inverse of the information is the estimates' covariance: Hastie, Tibshirani and Friedman
    2009, "The Elements of Statistical Learning", section 4.4.3.

    Parameters
    ----------
    matrix
        Shape (p, p).
    rest
        What its rounding leaves out, which decides about the directions of little information;
        ``None``: nothing.

    Returns
    -------
    NDArray[np.float64] or None
        ``None`` if the matrix is singular within rounding, as for separable data, or not finite.
    """
    diagonal = np.diag(matrix)
    if not ((diagonal > 0.0).all() and np.isfinite(matrix).all()):
        return None
    scale = 1.0 / np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(scale[:, None] * matrix * scale)
    if not values[0] > len(values) * np.finfo(np.float64).eps * values[-1]:
        return None
    root = scale[:, None] * vectors / np.sqrt(values)
    if rest is not None:
        values, vectors = np.linalg.eigh(within(matrix, rest, root))
        if not values[0] > 0.0:
            return None
        root = root @ (vectors / np.sqrt(values))
    return np.asarray(root @ root.T, dtype=np.float64)


def have_settled(before: Array, now: Array, rows: int) -> bool:
    """Return whether two rounds' Hessians give about the same standard errors.

    The Hessian is of the model before the last step, so standard errors are a step behind the
    estimates. The decrement does not tell how far: a value of 1e6 in a column of N(0, 1) makes the
    error of a standard error a hundred times the decrement. Newton's method squares what is left in
    each round, so that after a change of the variances by 1e-4 the standard errors are right to
    1e-6 also where their error is a hundred times that square (Nocedal and Wright 2006, "Numerical
    Optimization", theorem 3.5).

    Parameters
    ----------
    before, now
        Hessians of the mean loss, shape (p, p).
    rows
        Of coefficients; of several the first one is the reference, see :func:`estimates_of`.
    """
    kept = parameters.row_places(rows, len(now) // rows - 1)[1 if rows > 1 else 0 :].ravel()
    earlier, later = (inverse_of(hessian[np.ix_(kept, kept)]) for hessian in (before, now))
    if earlier is None or later is None:
        return earlier is later
    changes = np.abs(np.diag(earlier) / np.diag(later) - 1.0)
    return bool((changes <= _SETTLED).all())


def class_counts(
    family: ClassFamily, theta: Array, gradient: Array, examples: int, features: int
) -> Array | None:
    """Return how many examples each class has, which the derivatives by the intercepts tell.

    At a model of intercepts alone the gradient by a row's intercept is the row's probability less
    the share of its class.

    Parameters
    ----------
    family
        The model's.
    theta, gradient
        A model, and the gradient of the mean loss there, without class weights; the penalty spares
        the intercepts.
    examples
        How many the mean is of.
    features
        d.

    Returns
    -------
    NDArray[np.float64] or None
        Shape (k,); ``None`` if the model's coefficients are not all 0.
    """
    coefficients, intercepts = parameters.split(theta, features)
    if coefficients.any():
        return None
    slopes = parameters.split(gradient, features)[1]
    shares = family.means(intercepts[None, :]) - slopes
    counts: Array = np.rint(examples * family.of_classes(shares)[0])
    return counts


def null_log_likelihood(counts: Array) -> float | None:
    """Return the log likelihood of intercepts alone, by the numbers of examples of each class.

    ``None`` if a class has none.
    """
    return float(counts @ np.log(counts / counts.sum())) if (counts > 0).all() else None


def goodness_of_fit(
    log_likelihood: float, null: float | None, estimates: Estimates, *, intercepts: int = 1
) -> dict[str, Any]:
    """Return the fit of a model, compared with a model of intercepts alone.

    Parameters
    ----------
    log_likelihood
        Of the model at its estimates.
    null
        Of intercepts alone; ``None``: not known.
    estimates
        The model's, for the number of its parameters.
    intercepts
        How many each contrast has.

    Returns
    -------
    dict
        ``log_likelihood``, ``parameters``, ``aic`` (Akaike 1974), ``deviance`` (of single patients,
        so -2 log likelihood), ``null_log_likelihood`` and ``null_deviance`` (intercepts alone),
        ``likelihood_ratio`` (``chi2``, ``df``, ``p_value``: against intercepts alone) and
        ``mcfadden_r2`` (McFadden 1974, 1 - log likelihood / null log likelihood). The last four are
        ``None`` without ``null``.
    """
    contrasts = len(estimates.contrasts)
    df = contrasts * (len(estimates.features) - len(estimates.left_out))
    count = df + contrasts * intercepts
    return {
        "log_likelihood": log_likelihood,
        "parameters": count,
        "aic": 2 * count - 2 * log_likelihood,
        "deviance": -2 * log_likelihood,
        "null_log_likelihood": null,
        "null_deviance": None if null is None else -2 * null,
        "likelihood_ratio": (
            None if null is None else chi_squared(max(0.0, 2 * (log_likelihood - null)), df)
        ),
        "mcfadden_r2": None if null is None else 1 - log_likelihood / null,
    }


def penalised_fit(
    log_likelihood: float,
    penalty: float,
    null: float | None,
    estimates: Estimates,
    information_scale: float,
) -> dict[str, Any]:
    """Return how well a model with Firth's penalty fits, with the members of `goodness_of_fit`.

    The test is the penalised likelihood-ratio test against coefficients of zero, with the penalty
    of all columns on both sides: Heinze and Schemper 2002, "A solution to the problem of separation
    in logistic regression", section 2. AIC, deviance and McFadden's R2 are of unpenalised models,
    and ``None``.

    Parameters
    ----------
    log_likelihood
        Of the model at its estimates, without the penalty.
    penalty
        Half the log determinant of the information in the model's units.
    null
        Penalised log likelihood of the best model of zeros in the same units; ``None``: not known.
    estimates
        The model's, for the number of its parameters.
    information_scale
        What the units of the tables add to half the log determinant.
    """
    penalised = log_likelihood + penalty
    df = len(estimates.features) - len(estimates.left_out)
    test = None if null is None else chi_squared(max(0.0, 2 * (penalised - null)), df)
    return {
        **goodness_of_fit(log_likelihood, None, estimates),
        **dict.fromkeys(("aic", "deviance")),
        "penalised_log_likelihood": penalised + information_scale,
        "penalised_null_log_likelihood": None if null is None else null + information_scale,
        "likelihood_ratio": test,
    }


def _exponential(logarithm: float) -> float | None:
    """Return the exponential, ``None`` where it is no float64."""
    try:
        return math.exp(logarithm)
    except OverflowError:
        return None


def chi_squared(statistic: float, df: int) -> dict[str, Any]:
    """Return a statistic with its degrees of freedom and its p value."""
    from scipy.special import chdtrc  # noqa: PLC0415 - lazy: only a run's end needs it

    return {"chi2": statistic, "df": df, "p_value": float(chdtrc(df, statistic)) if df else None}
