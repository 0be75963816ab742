"""Declared fields: written values are read back, and all others are refused by their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest

from fl_he.crypto.encoding import fields
from fl_he.crypto.encoding.fields import (
    MISSING,
    Fingerprint,
    Form,
    Key,
    Kind,
    Limit,
    Number,
    Place,
    Whole,
    at_least,
    at_most,
    between,
    check_fields,
    constant,
    derived,
    form_of,
    kind_of,
    left_out,
    limited,
    row_of,
    within,
)
from fl_he.crypto.errors import CryptoError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Row:
    name: str
    size: Whole


@dataclass(frozen=True)
class Example:
    colour: Colour
    kind: Literal["a", "b"]
    share: Annotated[Number, Key("part")]
    flags: tuple[bool, ...]
    pair: tuple[float, int]
    by_name: Mapping[str, Row]
    rows: list[Annotated[Row, row_of(Row)]]
    level: Annotated[int, between(1, 9)] | None = None


EXAMPLE = Example(
    Colour.BLUE, "a", 2.0, (True, False), (0.5, 3), {"x": Row("x", 1)}, [Row("y", 0)], 7
)
MEMBERS: dict[str, Any] = {
    "colour": "blue",
    "kind": "a",
    "part": 2.0,
    "flags": [True, False],
    "pair": [0.5, 3],
    "by_name": {"x": {"name": "x", "size": 1}},
    "rows": [["y", 0]],
    "level": 7,
}
AT = Place("it")


@pytest.fixture(autouse=True)
def _forms_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_FORMS", {})


def test_it_is_written_and_read_back() -> None:
    form = form_of(Example)
    assert form.write(EXAMPLE) == MEMBERS
    assert type(form.write(EXAMPLE)["colour"]) is str
    assert form.read(MEMBERS, AT) == EXAMPLE
    assert form.read(MEMBERS, AT).colour is Colour.BLUE
    assert form.read({**MEMBERS, "level": None}, AT).level is None
    assert form.read({**MEMBERS, "part": 2}, AT) == EXAMPLE, "a number may be an integer"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "green"}, "colour must be one of red, blue, got 'green'"),
        ({"colour": 1}, "colour must be one of red, blue, got an integer"),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
        ({"part": True}, "part must be a number, got true or false"),
        ({"part": 10**400}, "part must be a number below 1e300 in size"),
        ({"part": float("nan")}, "part must be a number below 1e300 in size"),
        ({"flags": (True,)}, "flags must be a list, got tuple"),
        ({"flags": [True, 1]}, "flags[1] must be true or false, got an integer"),
        ({"pair": [0.5]}, "pair must be a list of 2 values"),
        ({"pair": [1, 3]}, "pair[0] must be a decimal number, got an integer"),
        ({"pair": [float("inf"), 3]}, "pair[0] must be a finite number"),
        ({"pair": [0.5, True]}, "pair[1] must be an integer, got true or false"),
        ({"by_name": []}, "by_name must be a JSON object, got a list"),
        (
            {"by_name": {"x": {"name": "x", "size": -1}}},
            "by_name.x.size must be at least 0, got -1",
        ),
        ({"by_name": {"\x1b[2J": 1}}, r"by_name.'\x1b[2J' must be a JSON object, got an integer"),
        ({"rows": [["y"]]}, "rows[0] must be a list of 2 values"),
        ({"rows": [["y", "0"]]}, "rows[0].size must be an integer, got text"),
        ({"level": 10}, "level must be between 1 and 9, got 10"),
        ({"level": 10**5000}, "level must be between 1 and 9, got 16610 bits"),
        ({"more": 1}, "it must have exactly the members"),
    ],
)
def test_anything_else_is_refused_by_its_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CryptoError) as caught:
        form_of(Example).read({**MEMBERS, **change}, AT)
    assert str(caught.value).startswith(words)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("limit", "words", "inside", "outside"),
    [
        (lambda: at_least(2), "be at least 2", [2, 3], [1, -5]),
        (lambda: at_most(2), "be at most 2", [2, 1, -5], [3]),
        (lambda: between(2, 4), "be between 2 and 4", [2, 3, 4], [1, 5]),
    ],
    ids=["at least", "at most", "between"],
)
def test_a_limit_belongs_to_what_it_allows(
    limit: Callable[[], Limit], words: str, inside: list[int], outside: list[int]
) -> None:
    kind = limited(kind_of(int), limit())
    for value in inside:
        assert kind.read(value, AT) == value
    for value in outside:
        with pytest.raises(CryptoError) as caught:
            kind.read(value, AT)
        assert str(caught.value) == f"it must {words}, got {value}"


def test_none_or_an_object_is_written_as_it_is_read() -> None:
    kind = kind_of(Row | None)
    for value, written in ((None, None), (Row("x", 1), {"name": "x", "size": 1})):
        assert kind.write(value) == written
        assert kind.read(written, AT) == value


def test_rows_are_written_as_they_are_read() -> None:
    kind = row_of(Row)
    assert kind.write(Row("y", 0)) == ["y", 0]
    assert kind.read(["y", 0], AT) == Row("y", 0)


def test_texts_are_not_shown_unless_they_are_declared_public() -> None:
    for hint, value in ((Fingerprint, "secret"), (int, "secret"), (dict[str, int], ["secret"])):
        with pytest.raises(CryptoError) as caught:
            kind_of(hint).read(value, AT)
        assert "secret" not in str(caught.value)
    with pytest.raises(CryptoError, match=r"it must be 'a' \(value withheld\)"):
        constant("a").read("secret", AT)
    with pytest.raises(CryptoError, match=r"it must be false \(value withheld\)"):
        constant(expected=False).read("secret", AT)
    with pytest.raises(CryptoError, match="it must be text, got nothing"):
        kind_of(str).read(MISSING, AT)


def test_the_error_is_the_readers() -> None:
    with pytest.raises(KeyError, match="it must be text"):
        kind_of(str).read(1, Place("it", KeyError))


def test_constants_and_derived_members_are_checked_and_not_built_of() -> None:
    form = Form({"v": constant(1), **form_of(Row).members, "again": derived("name")}, Row)
    members = {"v": 1, "name": "x", "size": 3, "again": "x"}
    assert form.write(Row("x", 3)) == members
    assert form.read(members, AT) == Row("x", 3)
    for name in ("v", "again"):
        for wrong in (2, True, "y", None):
            with pytest.raises(CryptoError, match=rf"^{name} must be .* \(value withheld\)"):
                form.read({**members, name: wrong}, AT)


def test_a_member_is_left_out_for_one_value_only() -> None:
    size = left_out(kind_of(int), 7)
    form = Form({"name": kind_of(str), "size": size}, Row)
    for row, members in ((Row("x", 7), {"name": "x"}), (Row("x", 3), {"name": "x", "size": 3})):
        assert form.write(row) == members
        assert form.read(members, AT) == row
    for wrong, words in (
        ({"name": "x", "size": 7}, "size must be left out if it is 7"),
        ({"name": "x", "size": "3"}, "size must be an integer"),
        ({"size": 3}, r"have exactly the members \['name'\], got 0 unknown, missing \['name'\]"),
        ({"name": "x", "other": 3}, "got 1 unknown, missing"),
    ):
        with pytest.raises(CryptoError, match=words):
            form.read(wrong, AT)


def test_members_may_stand_in_an_attribute() -> None:
    @dataclass
    class Outer:
        row: Row

    form = Form(within("row", form_of(Row).members), lambda *row: Outer(Row(*row)))
    assert form.write(Outer(Row("x", 1))) == {"name": "x", "size": 1}
    assert form.read({"name": "x", "size": 1}, AT) == Outer(Row("x", 1))


def test_objects_that_were_built_are_checked_too() -> None:
    check_fields(EXAMPLE)
    with pytest.raises(CryptoError, match="size must be at least 0, got -1"):
        check_fields(Row("x", -1))


def test_deep_nesting_of_other_things_is_refused_or_left_alone() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CryptoError, match=r"it\[0\] must be text, got a list"):
        kind_of(tuple[str, ...]).read([deep], AT)
    assert Kind().read(deep, AT) is deep
    while deep:  # or freeing it would recurse
        deep = deep[0]
