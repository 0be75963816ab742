"""Separation: a direction along which the likelihood rises for ever, and its proof.

Without a penalty a model has no finite optimum if a linear combination of the features separates
the classes. Let ``m_i(v)`` be example i's least margin of its own class over another one in the
model of parameters v: for two classes ``s_i x_i'v``, s_i = +1 or -1 by label. Separation is
complete if some v has ``m_i > 0`` for all i. It is quasi-complete if some v has ``m_i >= 0`` for
all i, and not 0 everywhere (Albert and Anderson 1984, "On the existence of maximum likelihood
estimates in logistic regression models").

Newton's method shows the direction. Each step adds about 1 to the margins that grow without end,
and so divides the information along them by about e, while all other information settles (Lesaffre
and Albert 1989, "Partial separation in logistic discrimination"). The candidate for v is the
model's part in the directions whose information vanishes. Two counts over all examples prove the
candidate: the examples against it, of a negative margin, and those on it, of margin 0.

A candidate is scaled so that one standard deviation of its largest feature is 1. A margin counts
as 0 if it is below `TOLERANCE`, 1e-10, of 1 and its absolute terms, ``1 + sum_j |x_ij v_j|``. The
rounding of float64 is less than that, ``(d + 2) 2**-53`` of the terms, up to 900,000 features. So
an example that is against v is counted as against it or on it, and complete separation, where no
example is either, is proved. An example on v has a margin of exactly 0 once a value is changed by
1e-10 of itself or of a standard deviation: quasi-complete separation is proved for values of nine
digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.likelihood import Examples
from fl_he.learning.regression.parameters import row_places
from fl_he.learning.regression.products import within
from fl_he.learning.tables.arrays import Array

TOLERANCE = 1e-10
#: Loading, as a share of the largest, from which a feature is named as one that separates.
NAMED = 1e-3
#: Loading below which a direction does not touch a feature.
_ABSENT = 1e-6
#: Information, in units of the first round's, that is vanishing, and by what one more round of
#: Newton's method divides it at least: about e, if nothing else informs of the direction.
_VANISHING, _FALL = 1e-3, 1.4
#: What has vanished, in units of the first round's: if all does; else relative to the root of
#: what stays. Of size ``s`` along a direction, that is of margins of ``sqrt(s)``, and the candidate
#: is off by the vanished over s, so examples on the candidate are within the tolerance.
_ALL_GONE, _PART_GONE = 1e-8, 1e-11
#: What is rounding, in units of float64's for each parameter and the largest information.
_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
#: Margins, as a share of their terms, that are not all 0.
_SOME = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Vanishing:
    """Directions whose information vanishes from round to round.

    Attributes
    ----------
    number
        How many; 0 if the information is only not settled yet.
    candidate
        The model's part in them, shape (p,).
    gone
        Whether the candidate is as exact as it will be.
    """

    number: int
    candidate: Array
    gone: bool


@dataclass(frozen=True, slots=True, eq=False)
class Undetermined:
    """Parameters that vanishing directions touch, and the information of all others.

    Attributes
    ----------
    touched
        Shape (rows, d + 1), the intercept in the tables' units last; of several rows, contrasts to
        the reference.
    infinite
        Those of the touched that grow without end where the likelihood rises to its supremum. All
        others have no unique estimate: the likelihood comes as near to its supremum at a finite
        value. Shape as ``touched``.
    hessian
        With information of the first round's size along the vanishing directions, shape (p, p). Of
        the parameters that no such direction touches the inverse is what it is in the limit.
    """

    touched: NDArray[np.bool_]
    infinite: NDArray[np.bool_]
    hessian: Array


@dataclass(frozen=True, slots=True, eq=False)
class Information:
    """Total information of some examples at a model, without a penalty.

    Attributes
    ----------
    total
        Rounded, shape (p, p).
    examples
        How many it is of.
    rest
        The part that rounding leaves out, shape (p, p); ``None``: not known.
    """

    total: Array
    examples: int = 1
    rest: Array | None = None

    @property
    def mean(self) -> Array:
        """The Hessian of the mean loss, shape (p, p)."""
        return self.total / self.examples


def vanishing(
    first: Array, before: Information, now: Information, theta: Array
) -> Vanishing | None:
    """Compare the information of a round with that of the rounds before.

    Parameters
    ----------
    first
        One row's information in the first round, shape (d + 1, d + 1): see
        :func:`fl_he.learning.regression.dependencies.design_information`.
    before, now
        Of the last two rounds.
    theta
        The model of ``now``, shape (p,).

    Returns
    -------
    Vanishing or None
        ``None`` if the information has settled.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the first information is not positive definite within rounding.
    """
    units = _Units(first, len(theta))
    values, vectors = np.linalg.eigh(units.white(now))
    earlier = np.einsum("ij,ij->j", vectors, units.white(before) @ vectors)
    # Rounding does not fall any more, and what has come down to it can get no more exact.
    rounding = _ROUNDING * len(values) * max(1.0, float(values[-1]))
    falls = (earlier > _FALL * values) | (values <= rounding)
    if not falls.any():
        return None
    chosen = falls & (values < _VANISHING)
    number, limit = int(np.count_nonzero(chosen)), _ALL_GONE
    if number < units.informed:
        limit = max(_PART_GONE * float(np.sqrt(values[~chosen].min())), rounding)
    gone = number > 0 and bool(values[chosen].max() <= limit)
    along = vectors[:, chosen] @ (vectors[:, chosen].T @ units.to_white(theta))
    return Vanishing(number, units.from_white(along), gone)


def undetermined(
    first: Array,
    now: Information,
    number: int,
    origin: Array,
    *,
    reference: int = 0,
    step: Array | None = None,
) -> Undetermined:
    """Return what this many vanishing directions touch.

    Parameters
    ----------
    first, now
        See :func:`vanishing`.
    number
        Of the directions, which are those of the least information.
    origin
        The tables' zero in the units of the model, shape (d,).
    reference
        Of several rows, the one that the others are compared with.
    step
        The last one of Newton's method, shape (p,): it adds about 1 to each margin that grows
        without end. Of one direction nobody needs it.
    """
    units = _Units(first, len(now.total))
    _, vectors = np.linalg.eigh(units.white(now))
    directions = vectors[:, :number]
    grown = directions
    if number > 1 and step is not None:
        grown = directions @ (directions.T @ units.to_white(step))[:, None]

    def touches(found: Array, least: float) -> NDArray[np.bool_]:
        parts = [units.from_white(one) for one in found.T]
        each = [touched(one, deviations(first), origin, least, reference) for one in parts]
        return np.array(np.any(each, axis=0))

    found = touches(directions, _ABSENT)
    infinite = found & touches(grown, _ABSENT if grown is directions else NAMED)
    return Undetermined(found, infinite, now.mean + units.informing(directions))


def touched(
    direction: Array, deviation: Array, origin: Array, least: float = NAMED, reference: int = 0
) -> NDArray[np.bool_]:
    """Return which parameters a direction changes.

    Parameters
    ----------
    direction
        Shape (p,).
    deviation
        Of the features, shape (d,).
    origin, reference
        See :func:`undetermined`.
    least
        Share of the largest loading from which a parameter is changed.

    Returns
    -------
    NDArray[np.bool_]
        Shape as `Undetermined.touched`.
    """
    blocks = direction[row_places(len(direction) // (len(deviation) + 1), len(deviation))]
    if len(blocks) > 1:
        blocks = blocks - blocks[reference]
    sizes = np.abs(blocks[:, :-1]) * deviation
    largest = sizes.max()
    terms = blocks * np.append(origin, 1.0)
    intercept = np.abs(terms.sum(axis=1)) > least * (largest + np.abs(terms).sum(axis=1))
    return np.column_stack([sizes > least * largest, intercept])


def deviations(first: Array) -> Array:
    """Return the features' standard deviations in the units of the model, shape (d,)."""
    squares, means = np.diag(first)[:-1] / first[-1, -1], first[:-1, -1] / first[-1, -1]
    return np.asarray(np.sqrt(np.maximum(squares - means**2, 0.0)), dtype=np.float64)


def loadings(candidate: Array, deviation: Array) -> Array:
    """Return the sizes of a candidate's coefficients for one deviation more, and its intercept's.

    Parameters
    ----------
    candidate
        Shape (p,).
    deviation
        Of the features, shape (d,).

    Returns
    -------
    NDArray[np.float64]
        Shape (d + 1,), of several rows the largest.
    """
    places = row_places(len(candidate) // (len(deviation) + 1), len(deviation))
    sizes: Array = np.abs(candidate[places]).max(axis=0) * np.append(deviation, 1.0)
    return sizes


def taking_part(candidate: Array, deviation: Array) -> tuple[int, ...]:
    """Return the features that a candidate separates by, the largest loading first."""
    sizes = loadings(candidate, deviation)
    order = np.argsort(-sizes[:-1], kind="stable")
    return tuple(order[sizes[order] > NAMED * sizes.max()].tolist())


def sides(examples: Examples, candidate: Array) -> Array:
    """Count the examples against a candidate, and those on it; shape (2,).

    Of outcomes that are numbers the family tells, see
    :meth:`fl_he.learning.regression.glm.GlmFamily.gaps`.

    Parameters
    ----------
    examples
        Evaluated at the candidate.
    candidate
        Shape (p,), scaled so that the largest of its :func:`loadings` is 1.
    """
    margins, labels = examples.margins, examples.labels
    rows = margins.shape[1]
    places = row_places(rows, examples.design.shape[1] - 1)
    terms = 1.0 + (np.abs(examples.design) @ np.abs(candidate[places]).T).sum(axis=1)
    if isinstance(examples.family, GlmFamily):
        own, terms = examples.family.gaps(margins, labels, terms)
    elif rows == 1:
        own = np.where(labels == 1.0, margins[:, 0], -margins[:, 0])
    else:
        belongs = labels[:, None] == np.arange(rows)
        own = margins[belongs] - np.where(belongs, -np.inf, margins).max(axis=1)
    against, on = own < -TOLERANCE * terms, np.abs(own) <= TOLERANCE * terms
    return np.array([np.count_nonzero(against), np.count_nonzero(on)], dtype=np.float64)


def kind_of(
    candidate: Array, first: Array | None, *, against: bool, on: bool
) -> Literal["complete", "quasi-complete"] | None:
    """Return what a candidate proves; ``None``: nothing.

    Parameters
    ----------
    candidate
        Shape (p,).
    first
        See :func:`vanishing`; ``None``: not known, and quasi-complete separation is not proved.
    against, on
        Whether any example is against the candidate, or on it.
    """
    if against:
        return None
    if not on:
        return "complete"
    if first is None:
        return None
    # The root mean square of margins of 0 is TOLERANCE of the terms' at most; this is computed to
    # the root of float64's rounding.
    blocks = candidate[row_places(len(candidate) // len(first), len(first) - 1)]
    if len(blocks) > 1:
        blocks = blocks - blocks.mean(axis=0)
    margins = np.sqrt(np.einsum("ri,ij,rj->r", blocks, first, blocks).max())
    terms = np.abs(blocks) @ np.sqrt(np.diag(first))
    return "quasi-complete" if margins > _SOME * terms.max() else None


class _Units:
    """Coordinates in which the first round's information is a unit matrix.

    Attributes
    ----------
    places
        Of the parameters, by rows: see :func:`row_places`.
    informed
        Number of directions that examples inform of: softmax predicts the same if all rows change
        alike.
    """

    def __init__(self, first: Array, parameters: int) -> None:
        rows = parameters // len(first)
        self.places: NDArray[np.intp] = row_places(rows, len(first) - 1)
        self.informed = parameters - (len(first) if rows > 1 else 0)
        scale = np.sqrt(np.diag(first))
        root = scale[:, None] * np.linalg.cholesky(first / np.outer(scale, scale))
        self._roots = np.kron(np.eye(rows), root)
        self._inverse = np.kron(np.eye(rows), np.linalg.inv(root)).astype(np.float64)

    def white(self, information: Information) -> Array:
        """Return the mean information in these coordinates, where not even softmax is singular."""
        order, rows = self.places.ravel(), len(self.places)
        part, rest = np.ix_(order, order), information.rest
        rest = None if rest is None else rest[part]
        # Large terms of nearly collinear columns cancel, and what vanishes is small next to them.
        matrix = within(information.total[part], rest, self._inverse.T) / information.examples
        if rows > 1:
            matrix += np.kron(np.full((rows, rows), 1.0 / rows), np.eye(len(matrix) // rows))
        return np.asarray((matrix + matrix.T) / 2.0, dtype=np.float64)

    def to_white(self, theta: Array) -> Array:
        """Return parameters in these coordinates."""
        return np.asarray(self._roots.T @ theta[self.places.ravel()], dtype=np.float64)

    def from_white(self, vector: Array) -> Array:
        """Return the parameters of a vector in these coordinates."""
        theta = np.empty(len(vector))
        theta[self.places.ravel()] = self._inverse.T @ vector
        return theta

    def informing(self, directions: Array) -> Array:
        """Return a Hessian of unit information along directions, the columns of a matrix."""
        order, half = self.places.ravel(), self._roots @ directions
        hessian = np.empty((len(half), len(half)))
        hessian[np.ix_(order, order)] = half @ half.T
        return hessian
