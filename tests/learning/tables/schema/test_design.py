"""Columns of a model: they span those of formulaic, patsy and hand-computed splines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import formulaic
import numpy as np
import pandas as pd
import patsy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.schema import design
from fl_he.learning.tables.schema.design import blocks, evaluate, labels_of, matrix, spline
from fl_he.learning.tables.schema.formula import Factor, parse_formula

LEVELS = {"f": ["p", "q"], "g": ["r", "s", "t"], "h": ["u", "v"]}
NAMES = ("f", "g", "h", "x", "y")


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    categories = {name: rng.choice(levels, 200) for name, levels in LEVELS.items()}
    return pd.DataFrame({**categories, "x": rng.uniform(1, 9, 200), "y": rng.uniform(1, 2, 200)})


FRAME = frame()


def ours(text: str, levels: Mapping[str, list[str]] = LEVELS) -> tuple[list[str], NDArray[Any]]:
    terms = parse_formula(text, NAMES)
    found = blocks(terms, levels)
    values: dict[Factor, NDArray[Any]] = {}
    for factor in {factor for term in terms for factor in term}:
        column = FRAME[factor.column]
        if factor.column in levels:
            known = levels[factor.column]
            values[factor] = np.array([known.index(cell) for cell in column])
        else:
            values[factor] = evaluate(factor, column.to_numpy())
    return list(labels_of(found)), matrix(found, values)


def span(columns: NDArray[Any]) -> NDArray[Any]:
    """Return the projection onto an intercept and columns; they must be independent."""
    whole = np.column_stack([np.ones(len(columns)), columns])
    left, sizes, _ = np.linalg.svd(whole / np.linalg.norm(whole, axis=0), full_matrices=False)
    assert sizes[-1] > 1e-9 * sizes[0], "a column is redundant"
    return np.asarray(left @ left.T)


factors = st.sampled_from(["f", "g", "h", "x", "y", "log(x)", "sqrt(y)"])
formulas = st.recursive(
    factors,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+:*"), inner),
        st.builds("({} + {})^2".format, inner, inner),
    ),
    max_leaves=4,
)


@given(formulas)
@settings(max_examples=150, deadline=None)
def test_the_columns_span_those_of_formulaic(text: str) -> None:
    names, columns = ours(text)
    theirs = formulaic.model_matrix(text, FRAME, context={"sqrt": np.sqrt, "log": np.log})
    wanted = theirs.drop(columns="Intercept").to_numpy(dtype=float)
    assert columns.shape == wanted.shape
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(span(columns), span(wanted), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x + g", ["x", "g[s]", "g[t]"]),
        ("f*x", ["f[q]", "x", "f[q]:x"]),
        ("f + f:x", ["f[q]", "f[p]:x", "f[q]:x"]),
        ("f:g + f", ["f[q]", "f[p]:g[s]", "f[q]:g[s]", "f[p]:g[t]", "f[q]:g[t]"]),
        ("spline(x, knots=[2, 4, 8])", ["spline(x)[1]", "spline(x)[2]"]),
    ],
)
def test_columns_have_the_names_of_their_factors_and_levels(text: str, expected: list[str]) -> None:
    names, columns = ours(text)
    assert names == expected
    assert columns.shape == (len(FRAME), len(expected))


def test_an_interaction_is_the_product_of_its_columns() -> None:
    names, columns = ours("f*log(x)*g")
    x, f, g = FRAME["x"].to_numpy(), FRAME["f"] == "q", FRAME["g"] == "t"
    found = columns[:, names.index("f[q]:log(x):g[t]")]
    np.testing.assert_array_equal(found, f.to_numpy() * np.log(x) * g.to_numpy())


def test_the_spline_spans_patsys_natural_cubic_spline() -> None:
    x, knots = FRAME["x"].to_numpy(), [1.5, 3.0, 5.0, 8.5]
    theirs = patsy.cr(x, knots=knots[1:-1], lower_bound=knots[0], upper_bound=knots[-1])
    basis = spline(x, knots).T
    np.testing.assert_allclose(span(basis), span(np.asarray(theirs)[:, 1:]), rtol=0, atol=1e-9)


def test_the_spline_has_harrells_values_and_is_linear_outside() -> None:
    # rcspline.eval(c(0,1,3,5), knots=c(1,2,4), inclx=TRUE) of R's package Hmisc, computed by hand:
    # (x-1)^3 - 3/2 (x-2)^3 + 1/2 (x-4)^3, each cube 0 where negative, over (4-1)^2.
    found = spline(np.array([0.0, 1.0, 3.0, 5.0]), [1.0, 2.0, 4.0])
    wanted = np.array([[0, 1, 3, 5], [0, 0, 6.5 / 9, 24 / 9]])
    np.testing.assert_allclose(found, wanted, rtol=1e-15)
    beyond = spline(np.arange(4.0, 12.0), [1.0, 2.0, 4.0])
    np.testing.assert_allclose(np.diff(beyond, n=2), 0, atol=1e-12)


def test_functions_without_a_value_are_not_finite() -> None:
    assert not np.isfinite(evaluate(Factor("x", ("log",)), np.array([0.0, -1.0, np.nan]))).any()


def test_too_many_columns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(design, "MOST_COLUMNS", 5)
    assert len(ours("f*g")[0]) == 5
    with pytest.raises(DataError, match="more than 5 columns"):
        ours("f*g + x")


def test_features_of_missing_cells_alone_are_zero() -> None:
    features = design.Design(
        parse_formula("sqrt(crp) + age", ["crp", "age"]), {}, {"crp": "crp[missing]"}
    )
    columns = {"crp": np.array([4.0, np.nan]), "age": np.array([60.0, 50.0])}
    assert features.names == ("sqrt(crp)", "age", "crp[missing]")
    assert features(columns).tolist() == [[2.0, 60.0, 0.0], [0.0, 50.0, 1.0]]
    with pytest.raises(DataError, match=r"infinite or undefined: 'sqrt\(crp\)'$"):
        features(columns | {"crp": np.array([4.0, -1.0])})
