"""Columns of a model from columns of a table: the terms of a formula as numbers.

No transform learns from data: levels, references, knots and the columns that there are follow from
the schema alone, so that all hospitals have the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.incomplete import Columns
from fl_he.learning.tables.schema.formula import SPLINE, Factor, Term
from fl_he.learning.tables.table_file import shown, some

#: Of a model: a formula of few words may ask for many.
MOST_COLUMNS = 100_000
#: Of a table: columns of the model times rows.
MOST_CELLS = 1 << 30
_MOST_NAMED = 20
_FUNCTIONS = {"log": np.log, "sqrt": np.sqrt}

Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Coded:
    """A factor of an interaction: all levels of a category, or all but the reference.

    Attributes
    ----------
    factor : Factor
    levels : tuple of str
        The levels that have a column; empty for a factor of numbers.
    first : int
        The code of the first of them.
    """

    factor: Factor
    levels: tuple[str, ...] = ()
    first: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the factor's columns."""
        name = self.factor.name
        if self.levels:
            return tuple(f"{name}[{level}]" for level in self.levels)
        if self.factor.functions[:1] == (SPLINE,):
            return tuple(f"{name}[{place}]" for place in range(1, len(self.factor.knots)))
        return (name,)

    def columns(self, values: Mapping[Factor, Array | Codes]) -> Sequence[Array]:
        """Return the factor's columns, each of shape (m,), from the values of all factors."""
        found = values[self.factor]
        if self.levels:
            codes = range(self.first, self.first + len(self.levels))
            return [(found == code).astype(np.float64) for code in codes]
        return list(np.atleast_2d(found))


#: A block of columns of the model: the products of its factors' columns.
Blocks = Sequence[tuple[Coded, ...]]


def blocks(terms: Iterable[Term], levels: Mapping[str, Sequence[str]]) -> Blocks:
    """Return the blocks of columns that terms and an intercept need, and none that is redundant.

    A category has all levels but its reference where the columns before span the rest. Source: the
    algorithm of patsy, https://patsy.readthedocs.io/en/latest/formulas.html#technical-details.

    Parameters
    ----------
    terms
        In their order.
    levels
        Of each column that is a category, the reference first.

    Raises
    ------
    DataError
        If the model would have too many columns.
    """
    spanned = {frozenset[Factor](): {frozenset[Factor]()}}
    found, count = list[tuple[Coded, ...]](), 0
    for term in terms:
        categories = [factor for factor in term if factor.column in levels]
        numbers = frozenset(factor for factor in term if factor.column not in levels)
        before = spanned.setdefault(numbers, set())
        parts = [
            frozenset(part)
            for size in range(len(categories) + 1)
            for part in combinations(categories, size)
        ]
        new = [(part, frozenset[Factor]()) for part in parts if part not in before]
        before.update(parts)
        for contrasts, full in _merged(new):
            block = list[Coded]()
            for factor in term:
                known = tuple(levels.get(factor.column, ()))
                if factor in full:
                    block.append(Coded(factor, known))
                elif factor in contrasts:
                    block.append(Coded(factor, known[1:], 1))
                elif factor in numbers:
                    block.append(Coded(factor))
            size = 1
            for coded in block:
                size *= len(coded.labels)
            count += size
            if count > MOST_COLUMNS:
                raise DataError(f"terms make more than {MOST_COLUMNS} columns")
            found.append(tuple(block))
    return found


_Part = tuple[frozenset[Factor], frozenset[Factor]]


def _merged(parts: Sequence[_Part]) -> Sequence[_Part]:
    """Merge pairs of a part and the same with one more contrast: contrast and rest are all levels.

    A part is its factors by contrasts, and its factors with all levels.
    """
    parts = list(parts)
    for short, long in product(parts, parts):
        added = long[0] - short[0]
        if short[1] == long[1] and short[0] < long[0] and len(added) == 1:
            both = (short[0], short[1] | added)
            rest = [both if part == short else part for part in parts if part != long]
            return _merged(rest)
    return parts


def labels_of(found: Blocks) -> tuple[str, ...]:
    """Return the names of the columns of blocks."""
    return tuple(":".join(names) for block in found for names in _products(block))


def _products(block: Sequence[Coded]) -> Iterator[tuple[str, ...]]:
    """Yield the names of each product; the first factor's change fastest, as in R."""
    for names in product(*(coded.labels for coded in reversed(block))):
        yield names[::-1]


def matrix(
    found: Blocks,
    values: Mapping[Factor, Array | Codes],
    more: Sequence[Array | NDArray[np.bool_]] = (),
) -> Array:
    """Return the columns of blocks, and more columns behind them, shape (m, d).

    Parameters
    ----------
    found
        See `blocks`.
    values
        Of each factor: numbers of shape (m,), of a spline (k - 1, m); or codes of levels.
    more
        Each of shape (m,).

    Raises
    ------
    DataError
        If there would be too many values.
    """
    rows = next(iter(values.values())).shape[-1]
    if rows * (len(labels_of(found)) + len(more)) > MOST_CELLS:
        raise DataError(f"the table has more than {MOST_CELLS} values of the model")
    place = len(labels_of(found))
    total = np.empty((rows, place + len(more)))
    for column in more:
        total[:, place] = column
        place += 1
    place = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for block in found:
            for columns in product(*(coded.columns(values) for coded in reversed(block))):
                total[:, place] = columns[-1]
                for column in columns[-2::-1]:
                    total[:, place] *= column
                place += 1
    return total


@dataclass(frozen=True)
class Design:
    """The features of a model as a function of columns of a table.

    Attributes
    ----------
    terms : tuple of Term
    levels : mapping of str to sequence of str
        Of each column that is a category, the reference first.
    marked : mapping of str to str
        Names of the indicators of missing cells, by the columns that have one.
    """

    terms: tuple[Term, ...]
    levels: Mapping[str, Sequence[str]]
    marked: Mapping[str, str]

    @cached_property
    def _blocks(self) -> Blocks:
        return blocks(self.terms, self.levels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return (*labels_of(self._blocks), *self.marked.values())

    @property
    def factors(self) -> Iterator[Factor]:
        """All different factors of the terms."""
        return iter(dict.fromkeys(factor for term in self.terms for factor in term))

    def __call__(self, columns: Columns) -> Array:
        """Return the features, shape (m, d); of a missing cell they are 0.

        Parameters
        ----------
        columns
            Numbers, or codes of levels, each of shape (m,), NaN where a cell is missing.

        Raises
        ------
        DataError
            If a feature is not finite.
        """
        values = dict[Factor, Array | Codes]()
        for factor in self.factors:
            column = columns[factor.column]
            is_coded = factor.column in self.levels
            values[factor] = column.astype(np.intp) if is_coded else evaluate(factor, column)
        missing = {name: np.isnan(column) for name, column in columns.items()}
        features = matrix(self._blocks, values, [missing[name] for name in self.marked])
        if not np.isfinite(features).all():
            features[np.isnan(features) & np.any([*missing.values()], axis=0)[:, None]] = 0.0
            if (wrong := ~np.isfinite(features).all(axis=0)).any():
                which = some([self.names[place] for place in np.flatnonzero(wrong)], _MOST_NAMED)
                raise DataError(f"terms must have finite values; infinite or undefined: {which}")
        return features


def evaluate(factor: Factor, column: Array) -> Array:
    """Return the values of a factor of numbers, not finite where a function has none.

    Shape (m,); of a spline (k - 1, m).
    """
    values = column
    with np.errstate(all="ignore"):
        for function in reversed(factor.functions):
            if function == SPLINE:
                values = spline(values, factor.knots)
            else:
                values = _FUNCTIONS[function](values)
    return values


def misfits(factor: Factor, limits: tuple[float, float]) -> Iterator[str]:
    """Yield the reasons why functions do not fit a column of numbers between these limits.

    An infinite limit is none.
    """
    inner = replace(factor, functions=tuple(f for f in factor.functions if f != SPLINE))
    low, high = evaluate(inner, np.array(limits)).tolist()
    bounds = f"the bounds of {shown(factor.column)}"
    if math.isfinite(limits[0]) and not math.isfinite(low):
        yield (
            f"{factor.name} has no value at {limits[0]:g}, which is within {bounds}: "
            "raise the lower bound"
        )
    if beyond := [knot for knot in factor.knots if knot < low or knot > high]:
        yield (
            f"knots of {factor.name} must be within {bounds}, {low:g} to {high:g}, got "
            f"{', '.join(f'{knot:g}' for knot in beyond)}"
        )


def spline(x: Array, knots: Sequence[float]) -> Array:
    """Return the basis of a restricted cubic spline, linear beyond the outer knots.

    Source: Harrell 2015, "Regression Modeling Strategies", 2nd ed., section 2.4.5; as ``rcs`` of
    R's package rms, each column but the first is divided by the square of the knots' range.

    Parameters
    ----------
    x
        Shape (m,).
    knots
        k increasing numbers, k >= 3.

    Returns
    -------
    NDArray[np.float64]
        Shape (k - 1, m): x itself, then its k - 2 bends.

    Examples
    --------
    >>> spline(np.array([0.0, 1.0, 3.0, 5.0]), [1.0, 2.0, 4.0]).tolist()
    [[0.0, 1.0, 3.0, 5.0], [0.0, 0.0, 0.7222222222222222, 2.6666666666666665]]
    """
    *inner, before, last = knots

    def cube(knot: float) -> Array:
        cubed: Array = np.maximum(x - knot, 0.0) ** 3
        return cubed

    bends = [
        cube(knot)
        - cube(before) * (last - knot) / (last - before)
        + cube(last) * (before - knot) / (last - before)
        for knot in inner
    ]
    return np.stack([x, *(bend / (last - knots[0]) ** 2 for bend in bends)])
