"""The task of a training, and the sums that hospitals are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.moments import Limbs


@dataclass(frozen=True, slots=True)
class Task:
    """All that is fixed of a training before the first total.

    Attributes
    ----------
    features, classes : int
        Of the model, at least 1 and 2; no classes where the outcome is a number.
    optimizer : str
        A key of `fl_he.learning.optimizers.OPTIMIZERS`; with Firth's penalty ``newton``.
    lr : float
        Greater than 0.
    C : float or None
        Inverse strength of the L2 penalty, greater than 0; ``None``: no penalty.
    scaling : {"none", "local", "federated"}
        Units of the model; see `fl_he.wire.learning_terms.LearningTerms`.
    mean, scale : tuple of float
        Declared units; empty: with federated scaling they are of the pooled data. With Newton's
        method the mean is of the pooled data in any case, see `State.about_the_mean`.
    balanced : bool
        Whether each class weighs the same.
    tolerance : float
        How far from the optimum training ends, in the optimizer's unit; at least 0.
    max_step, max_coefficient : float or None
        Largest change of a coefficient in one step, and largest size of a coefficient, in the units
        of the model; ``None``: any.
    limbs : Limbs
        How hospitals write sums.
    low, high : tuple of float
        Ranges within which values are summed up with noise, for federated scaling; empty: they are
        summed up as they are.
    firth : bool
        Whether Firth's penalty is added; of two classes, without an L2 penalty.
    family : str
        Family of an outcome that is a number, one of
        `fl_he.learning.regression.registry.NUMERIC`; empty: the outcome is a class.
    profile : tuple of int
        Numbers of the features whose profile likelihood intervals are searched.
    imputed : tuple of str
        Names of the tables' columns whose missing cells get the mean of all hospitals' cells.
    site_intercepts : bool
        Whether each hospital has its own intercept, and the model none.
    sites : bool
        Whether the hospitals are compared once training has converged.
    outcome_bounds : tuple of float
        With differential privacy, the declared bounds of an outcome that is a number: see
        `fl_he.learning.regression.outcome_bounds`; else empty.
    """

    features: int
    classes: int
    optimizer: str
    lr: float
    C: float | None
    scaling: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    balanced: bool
    tolerance: float
    max_step: float | None
    max_coefficient: float | None
    limbs: Limbs
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    firth: bool = False
    family: str = ""
    profile: tuple[int, ...] = ()
    imputed: tuple[str, ...] = ()
    site_intercepts: bool = False
    sites: bool = False
    outcome_bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Moments:
    """Asks for sums of the data: of cells, of features and classes, of squares, or within ranges.

    Attributes
    ----------
    sums, counts, outcome : bool
        Whether the sums of the features, the numbers of examples of each class, and sums of an
        outcome that is a number are asked for.
    mean : tuple of float
        Unless empty, squares about it are asked for.
    low, high : tuple of float
        Unless empty, noisy sums of the values within these ranges, and of their squares.
    cells : bool
        Whether sums of the cells that are not missing, and their numbers, are asked for, and
        nothing else; see `Task.imputed`.
    imputed : tuple of float
        Means of these columns.
    """

    sums: bool = False
    counts: bool = False
    mean: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    cells: bool = False
    imputed: tuple[float, ...] = ()
    outcome: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Asks for sums over examples at models.

    Attributes
    ----------
    thetas
        Parameters, shape (k, p).
    roots
        :func:`fl_he.learning.regression.firth.root` of the information of all examples at each
        model, shape (k, p, p), where the derivatives of Firth's penalty are asked for.
    """

    thetas: Array
    roots: Array | None = None


Question = Moments | Models

#: Derivatives that an answer may have, unless they are of fewer than two models a parameter.
_MOST_VALUES = 20_000


def most_models(parameters: int) -> int:
    """Return how many models of this many parameters one question may be of.

    Two of each parameter, for the bounds of its profile likelihood interval, and as many as give an
    answer of 20,000 derivatives.
    """
    values = 1 + parameters + parameters * (parameters + 1) // 2
    return max(2 * parameters, _MOST_VALUES // values)
