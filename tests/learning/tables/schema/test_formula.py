"""Formulas: their terms are R's, and anything else is refused where it stands."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from cpu_time import at_most
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.learning.errors import DataError
from fl_he.learning.tables.schema.formula import Factor, parse_formula

COLUMNS = ("a", "b", "c", "d", "age", "CRP (mg/l)")


def terms(text: str) -> list[str]:
    return [":".join(factor.name for factor in term) for term in parse_formula(text, COLUMNS)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", ["a", "b"]),
        ("a:b + a", ["a", "a:b"]),
        ("a*b", ["a", "b", "a:b"]),
        ("a*b:c", ["a", "b:c", "a:b:c"]),
        ("a + b*c", ["a", "b", "c", "b:c"]),
        ("(a + b + c)^2", ["a", "b", "c", "a:b", "a:c", "b:c"]),
        ("(a + b):(c + d)", ["a:c", "a:d", "b:c", "b:d"]),
        ("a:b + b:a", ["a:b"]),
        ("age^2", ["age"]),
        ("log( a ) + sqrt(log(b))", ["log(a)", "sqrt(log(b))"]),
        ("`CRP (mg/l)` * a", ["CRP (mg/l)", "a", "CRP (mg/l):a"]),
        ("((a))", ["a"]),
    ],
)
def test_terms_are_those_of_r(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_spline_has_declared_knots() -> None:
    found = parse_formula("spline(log(a), knots=[-1, 2.5, 1e1])", COLUMNS)
    assert found == ((Factor("a", ("spline", "log"), (-1.0, 2.5, 10.0)),),)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("a +", 4),
        ("a + + b", 5),
        ("a b", 3),
        ("a - b", 3),
        ("a + 1", 5),
        ("a ~ b", 3),
        ("a / b", 3),
        ("a %in% b", 3),
        ("a ** 2", 4),
        ("a^0", 3),
        ("a^7", 3),
        ("a^-1", 3),
        ("a^b", 3),
        ("a^1.5", 3),
        ("ag", 1),
        ("(a + b", 7),
        ("a)", 2),
        ("log(a", 6),
        ("log()", 5),
        ("log(a + b)", 7),
        ("log(1)", 5),
        ("exp(a)", 1),
        ("I(a)", 1),
        ("poly(a, 2)", 1),
        ("__import__('os').system('true')", 1),
        ("{open('/etc/passwd')}", 1),
        ("a.__class__", 1),
        ("a[0]", 2),
        ("lambda: a", 1),
        ("`a", 1),
        ("``", 1),
        ("a; b", 2),
        ("a\x00", 2),
        ("spline(a)", 9),
        ("spline(a, 3)", 11),
        ("spline(a, knots=[1, 2])", 18),
        ("spline(a, knots=[1, 3, 2])", 18),
        ("spline(a, knots=[1, 2, 1e999])", 24),
        ("spline(a, knots=[1, 2, b])", 24),
        ("spline(a, knots=f(3))", 17),
        ("log(spline(a, knots=[1, 2, 3]))", 5),
        ("(" * 21 + "a" + ")" * 21, 22),
        ("log(" * 30 + "a" + ")" * 30, 85),
    ],
)
def test_anything_else_is_refused_where_it_stands(text: str, position: int) -> None:
    with pytest.raises(DataError, match=rf"at position {position}\b"):
        parse_formula(text, COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 20_001,
        "(a + b + c + d)" + "^6" * 9_000,
        "+".join(["(a+b+c+d)^6"] * 1_500),
        ":".join(["(a + b + c + d)^4"] * 1_000),
        "(" * 19_000,
    ],
    ids=["long", "powers", "sums", "products", "brackets"],
)
def test_a_formula_that_is_too_large_is_refused_at_once(text: str) -> None:
    with at_most(millions=30), pytest.raises(DataError) as refusal:
        parse_formula(text, COLUMNS)
    assert len(str(refusal.value)) < 300


@given(st.text(alphabet="ab+:*^()[],=.-`12 logsqrtpinek\n\x00ä", max_size=60))
@settings(max_examples=400, deadline=None)
def test_no_text_gets_past_the_parser(text: str) -> None:
    with suppress(DataError):
        found = parse_formula(text, COLUMNS)
        assert {factor.column for term in found for factor in term} <= {*COLUMNS}


def test_too_many_terms_and_factors_are_refused() -> None:
    names = [f"x{place}" for place in range(60)]
    with pytest.raises(DataError, match="at most 1000 terms"):
        parse_formula(f"({' + '.join(names)})^2", names)
    with pytest.raises(DataError, match="at most 6 factors"):
        parse_formula(":".join(names[:7]), names)


def test_splines_of_one_column_have_the_same_knots() -> None:
    one, other = "spline(a, knots=[1, 2, 3])", "spline(a, knots=[1, 2, 4])"
    assert len(parse_formula(f"{one} + {one}:b", COLUMNS)) == 2
    with pytest.raises(DataError, match=r"spline\(a\) must have the same knots everywhere"):
        parse_formula(f"{one} + {other}", COLUMNS)


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(DataError, match=r"did you mean 'age'\?"):
        parse_formula("a + aged", COLUMNS)


@pytest.mark.parametrize(
    ("knots", "got"), [("1, 2", "2"), ("1, 30, 20, 20", "20 after 30"), ("1, 2, 2", "2 after 2")]
)
def test_knots_are_told_by_their_number_or_their_order(knots: str, got: str) -> None:
    with pytest.raises(DataError, match=f"increasing numbers, got {got} at position 18$"):
        parse_formula(f"spline(a, knots=[{knots}])", COLUMNS)


@pytest.mark.parametrize("name", ["BMI (kg/m²)", "first dialysis", "1st dialysis", "log dose"])
def test_a_name_that_is_no_word_is_shown_in_backticks(name: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"write the column as `{name}`, in backticks")):
        parse_formula(f"age + {name}", ["age", name])
