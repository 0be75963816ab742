"""A model's terms in formula notation, parsed and never evaluated.

A formula has columns, the operators `+ : * ^` with R's meaning, and the functions `log`, `sqrt` and
`spline(x, knots=[...])`. Anything else is refused with its position. As in R, `a:a` is `a`, so that
`age^2` is `age`. Source: Chambers and Hastie 1992, "Statistical Models in S", section 2.3.1.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from fl_he.learning.errors import DataError
from fl_he.learning.tables.table_file import shown

#: Of a formula, and of the sum of terms that it stands for.
MOST_TEXT, MOST_TERMS = 20_000, 1_000
_DEEPEST, _HIGHEST_POWER, _MOST_FACTORS = 20, 6, 6
#: Products of terms that a formula may ask for, equal ones included.
_MOST_PRODUCTS = 100_000
_FEWEST_KNOTS, _MOST_KNOTS = 3, 20
SPLINE = "spline"
FUNCTIONS = ("log", "sqrt", SPLINE)
_BLANKS = re.compile(r"\s*")
_TOKEN = re.compile(
    r"(?P<quoted>`[^`]*`)|(?P<name>[^\W\d]\w*(?:\.\w+)*)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<sign>[-+:*^()\[\],=])"
)


@dataclass(frozen=True, slots=True)
class Factor:
    """A column, or a function of a column.

    Attributes
    ----------
    column : str
    functions : tuple of str
        The outermost first.
    knots : tuple of float
        Of the spline, which is the outermost function if there is one.
    """

    column: str
    functions: tuple[str, ...] = ()
    knots: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The factor as a formula has it, but without knots.

        Examples
        --------
        >>> Factor("crp", ("sqrt", "log")).name
        'sqrt(log(crp))'
        """
        return "(".join((*self.functions, self.column)) + ")" * len(self.functions)


#: The product of factors.
Term = tuple[Factor, ...]


def parse_formula(
    text: str, columns: Sequence[str], others: Mapping[str, str] | None = None
) -> tuple[Term, ...]:
    """Return the terms of a formula, those with fewer factors first, as in R.

    Parameters
    ----------
    text
        Such as ``"age * sex + log(crp)"``. A name that is no word stands in backticks.
    columns
        Names that there are.
    others
        Names that no formula can have, each with the reason.

    Raises
    ------
    DataError
        With the position, from 1, of the first thing that is no part of a formula.

    Examples
    --------
    >>> terms = parse_formula("age * sex + log(crp)", ["age", "sex", "crp"])
    >>> [":".join(factor.name for factor in term) for term in terms]
    ['age', 'sex', 'log(crp)', 'age:sex']
    """
    if len(text) > MOST_TEXT:
        raise DataError(f"terms must have at most {MOST_TEXT} characters, got {len(text)}")
    parser = _Parser(text, columns, others or {})
    terms = parser.sum(0)
    if parser.sign != "":
        parser.refuse("a formula must continue with + : * or ^, or end")
    _require_one_spline_each(terms)
    return tuple(sorted(terms, key=len))


class _Parser:
    """Recursive descent; each method returns the terms of what it has read."""

    def __init__(self, text: str, columns: Sequence[str], others: Mapping[str, str]) -> None:
        self._text, self._columns, self._others = text, dict.fromkeys(columns), others
        self._end = self._products = 0
        self.next()

    def next(self) -> None:
        """Read the next token: its kind and its text, both empty at the end."""
        self._start = self._after_blanks()
        self.kind = self.sign = ""
        if self._start < len(self._text):
            found = _TOKEN.match(self._text, self._start)
            if found is None:
                self.refuse("a formula must have columns, + : * ^, log, sqrt and spline only")
            self.kind, self.sign = str(found.lastgroup), found[str(found.lastgroup)]
            self._end = found.end()

    def _after_blanks(self) -> int:
        found = _BLANKS.match(self._text, self._end)
        return found.end() if found else self._end

    def refuse(self, rule: str, hint: str = "", got: str = "") -> NoReturn:
        """Raise DataError at the token that was read last; ``got``: another word than the token."""
        rest = self._text[self._start : self._start + 20]
        got = got or (shown(rest.split()[0]) if rest.split() else "its end")
        raise DataError(f"terms: {rule}, got {got} at position {self._start + 1}{hint}")

    def expect(self, sign: str) -> None:
        """Read a sign."""
        if self.sign != sign:
            self.refuse(f"{sign!r} must come here")
        self.next()

    def sum(self, depth: int) -> list[Term]:
        """Read terms with + between them."""
        if depth > _DEEPEST:
            self.refuse(f"brackets must be at most {_DEEPEST} deep")
        terms = self._product(depth)
        while self.sign == "+":
            self.next()
            terms += self._product(depth)
        return self._bounded(terms)

    def _product(self, depth: int) -> list[Term]:
        terms = self._interaction(depth)
        while self.sign == "*":
            self.next()
            others = self._interaction(depth)
            terms = self._bounded([*terms, *others, *self._crossed(terms, others)])
        return terms

    def _interaction(self, depth: int) -> list[Term]:
        terms = self._power(depth)
        while self.sign == ":":
            self.next()
            terms = self._bounded(self._crossed(terms, self._power(depth)))
        return terms

    def _power(self, depth: int) -> list[Term]:
        terms = self._atom(depth)
        while self.sign == "^":
            self.next()
            if not (self.kind == "number" and self.sign in map(str, range(1, _HIGHEST_POWER + 1))):
                self.refuse(f"a power must be a whole number from 1 to {_HIGHEST_POWER}")
            base = terms
            for _ in range(int(self.sign) - 1):
                terms = self._bounded([*terms, *self._crossed(terms, base)])
            self.next()
        return terms

    def _atom(self, depth: int) -> list[Term]:
        if self.kind == "sign" and self.sign == "(":
            self.next()
            terms = self.sum(depth + 1)
            self.expect(")")
            return terms
        return [(self._factor(depth),)]

    def _factor(self, depth: int) -> Factor:
        if self.kind == "name" and self._text.startswith("(", self._after_blanks()):
            return self._function(depth)
        if self.kind not in ("name", "quoted"):
            hint = ": a model always has an intercept" if self.kind == "number" else ""
            hint = self._in_backticks(self.sign) or hint
            self.refuse("a column or a function must come here", hint)
        name = self.sign.strip("`").strip() if self.kind == "quoted" else self.sign
        if name not in self._columns:
            near = difflib.get_close_matches(name, self._columns, n=1)
            hint = f"; did you mean {shown(near[0])}?" if near else ""
            hint = self._in_backticks(name) or hint
            if name in self._others:
                hint = f", which {self._others[name]}"
            self.refuse("a name must be one of the schema's columns", hint)
        self.next()
        return Factor(name)

    def _in_backticks(self, word: str) -> str:
        """Return a hint if a column that is no word stands here without backticks."""
        here = [name for name in self._columns if self._text.startswith(name, self._start)]
        longest = max(here, key=len, default="")
        fits = len(longest) > len(word)
        return f"; write the column as `{longest}`, in backticks" if fits else ""

    def _function(self, depth: int) -> Factor:
        function = self.sign
        if function not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            self.refuse(f"a function must be one of {known}", self._in_backticks(function))
        if depth > _DEEPEST:
            self.refuse(f"brackets must be at most {_DEEPEST} deep")
        self.next()
        self.expect("(")
        start = self._start
        inside = self._factor(depth + 1)
        if SPLINE in inside.functions:
            self._start = start
            self.refuse("a spline must be no function's argument")
        knots = self._knots() if function == SPLINE else ()
        self.expect(")")
        return Factor(inside.column, (function, *inside.functions), knots)

    def _knots(self) -> tuple[float, ...]:
        for sign in (",", "knots", "=", "["):
            self.expect(sign)
        start, knots = self._start, [self._number()]
        while self.sign == ",":
            self.next()
            knots.append(self._number())
        got = "" if _FEWEST_KNOTS <= len(knots) <= _MOST_KNOTS else f"{len(knots)}"
        not_above = [(low, high) for low, high in pairwise(knots) if not low < high]
        for low, high in not_above[:1]:
            got = got or f"{high:g} after {low:g}"
        if got:
            self._start = start
            rule = f"knots must be {_FEWEST_KNOTS} to {_MOST_KNOTS} increasing numbers"
            self.refuse(rule, got=got)
        self.expect("]")
        return tuple(knots)

    def _number(self) -> float:
        minus = self.sign == "-"
        if minus:
            self.next()
        if self.kind != "number" or not math.isfinite(float(self.sign)):
            self.refuse("a knot must be a finite number")
        number = float(self.sign)
        self.next()
        return -number if minus else number

    def _crossed(self, terms: Sequence[Term], others: Sequence[Term]) -> Iterator[Term]:
        self._products += len(terms) * len(others)
        if self._products > _MOST_PRODUCTS:
            self.refuse(f"a formula must have at most {MOST_TERMS} terms")
        for term in terms:
            for other in others:
                crossed = tuple(dict.fromkeys((*term, *other)))
                if len(crossed) > _MOST_FACTORS:
                    self.refuse(f"an interaction must have at most {_MOST_FACTORS} factors")
                yield crossed

    def _bounded(self, terms: Iterable[Term]) -> list[Term]:
        """Leave out terms that are there already."""
        found = dict[frozenset[Factor], Term]()
        for term in terms:
            found.setdefault(frozenset(term), term)
        if len(found) > MOST_TERMS:
            self.refuse(f"a formula must have at most {MOST_TERMS} terms")
        return list(found.values())


def _require_one_spline_each(terms: Iterable[Term]) -> None:
    """Refuse splines of one argument with different knots: their columns would share names."""
    knots = dict[str, tuple[float, ...]]()
    for factor in (factor for term in terms for factor in term):
        if knots.setdefault(factor.name, factor.knots) != factor.knots:
            raise DataError(f"terms: {factor.name} must have the same knots everywhere")
