"""Fields of messages and files: declared once with type and limits, read strictly or refused.

A dataclass declares its fields by annotations, and `kind_of` finds the reader of each:

>>> from dataclasses import dataclass
>>> @dataclass
... class Opening:
...     session: str
...     round: Annotated[int, at_least(1)]
>>> kind = kind_of(Opening)
>>> kind.read({"session": "a", "round": 2}, Place("an opening"))
Opening(session='a', round=2)
>>> kind.read({"session": "a", "round": 0}, Place("an opening"))
Traceback (most recent call last):
fl_he.crypto.errors.CryptoError: round must be at least 1, got 0

Types are exact: ``True`` is no integer and 1 no float. A refusal names the place and the type of
the value there; it shows a value only where a limit or a choice says that the value is public.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from fl_he.crypto.errors import CryptoError
from fl_he.errors import kind_in_words, written

_WORDS = {
    str: "text",
    int: "an integer",
    float: "a decimal number",
    bool: "true or false",
    bytes: "bytes",
    dict: "a JSON object",
    list: "a list",
}
_T = TypeVar("_T")
#: Makes an exception of its text.
Refusal = Callable[[str], Exception]

#: Numbers in files are smaller in size.
LARGEST = 1e300
#: Stands for a value that is missing.
MISSING: object = type("nothing", (), {})()


class Place:
    """Place of a value in a message or file, for the text of a refusal.

    Parameters
    ----------
    name : str
        Name of the whole message or file.
    error : callable
        Makes a refusal.
    """

    __slots__ = ("error", "name", "parent")

    def __init__(
        self,
        name: str | int,
        error: Refusal = CryptoError,
        parent: Place | None = None,
    ) -> None:
        self.name, self.error, self.parent = name, error, parent

    def part(self, name: str | int) -> Place:
        """Return the place of a member, or of an item of a list."""
        return Place(name, self.error, self)

    def wrong(self, words: str) -> Exception:
        """Return a refusal that says what the value must be."""
        return self.error(f"{self} must {words}")

    def mistyped(self, words: str, value: object) -> Exception:
        """Return a refusal that says of which type the value must be, and of which it is."""
        return self.wrong(f"be {words}, got {kind_in_words(value)}")

    def __str__(self) -> str:
        if self.parent is None:
            return str(self.name)
        above = "" if self.parent.parent is None else str(self.parent)
        if isinstance(self.name, int):
            return f"{above or self.parent}[{self.name}]"
        shown = f"{self.name if self.name.isprintable() else ascii(self.name):.80}"
        return f"{above}.{shown}" if above else shown


@dataclass(frozen=True, slots=True)
class Kind:
    """Reading and writing of the values of one type; by default unchanged.

    Attributes
    ----------
    read : callable
        Takes a hostile value and its place; returns the value that was meant or raises.
    write : callable
        Returns what `read` reads.
    attribute : str or None
        In a `Form`: where the value stands, if that is no attribute of the member's name.
    is_given : bool
        In a `Form`: whether the value is one that the object is made of.
    absent : object
        In a `Form`: the value of a member that is not there, if it may be left out. A member of
        this value must be left out, so that equal objects have equal texts.
    """

    read: Callable[[object, Place], Any] = lambda value, _: value
    write: Callable[[Any], Any] = lambda value: value
    attribute: str | None = None
    is_given: bool = True
    absent: object = MISSING


@dataclass(frozen=True, slots=True)
class Limit:
    """Condition on a value, and whether a refusal may show the value."""

    words: str
    holds: Callable[[Any], object]
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """In ``Annotated``: the name of a field's member, where it is another one."""

    name: str


def at_least(least: int) -> Limit:
    """Return the limit of a public number."""
    return Limit(f"be at least {least}", lambda value: value >= least, shown=True)


def at_most(most: int) -> Limit:
    """Return the limit of a public number."""
    return Limit(f"be at most {most}", lambda value: value <= most, shown=True)


def between(least: int, most: int) -> Limit:
    """Return the limits of a public number."""
    return Limit(f"be between {least} and {most}", lambda value: least <= value <= most, shown=True)


def matching(pattern: str, words: str, *, shown: bool = False) -> Limit:
    """Return the limit of a text that a regular expression matches as a whole."""
    return Limit(words, re.compile(pattern).fullmatch, shown)


Natural = Annotated[int, at_least(1)]
Whole = Annotated[int, at_least(0)]
Fingerprint = Annotated[
    str, matching("[0-9a-f]{64}", "be a fingerprint of 64 lower-case hexadecimal digits")
]


def scalar(type_: type) -> Kind:
    """Return the kind of values of one type; True is no integer, and numbers are finite."""

    def read(value: object, at: Place) -> object:
        if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
            raise at.mistyped(_WORDS[type_], value)
        if isinstance(value, float) and not math.isfinite(value):
            raise at.wrong("be a finite number")
        return value

    return Kind(read)


def _read_number(value: object, at: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise at.mistyped("a number", value)
    if not abs(value) < LARGEST:  # an integer may be too large for a float, and NaN is none
        raise at.wrong("be a number below 1e300 in size")
    return float(value)


#: A float that may be written as an integer.
Number = Annotated[float, Kind(_read_number)]


def choice(*values: str) -> Kind:
    """Return the kind of one of several public texts."""
    words = f"one of {', '.join(values)}"

    def read(value: object, at: Place) -> str:
        if not isinstance(value, str):
            raise at.mistyped(words, value)
        if value not in values:
            raise at.wrong(f"be {words}, got {value!r:.40}")
        return values[values.index(value)]

    return Kind(read, str)


def constant(expected: object) -> Kind:
    """Return the kind of a member that marks a format."""

    def read(value: object, at: Place) -> object:
        if type(value) is not type(expected) or value != expected:
            raise at.wrong(f"be {written(expected)} (value withheld)")
        return value

    return Kind(read, lambda _: expected, is_given=False)


def derived(attribute: str) -> Kind:
    """Return the kind of a member that repeats an attribute of what is made of the others."""
    return Kind(attribute=attribute, is_given=False)


def left_out(kind: Kind, absent: object) -> Kind:
    """Return the kind of a member that is left out for one value; see `Kind`."""
    return replace(kind, absent=absent)


def limited(kind: Kind, *limits: Limit) -> Kind:
    """Return the kind of a value within limits."""

    def read(value: object, at: Place) -> Any:
        found = kind.read(value, at)
        for limit in limits:
            if not limit.holds(found):
                raise at.wrong(limit.words + (f", got {_short(found)}" if limit.shown else ""))
        return found

    return replace(kind, read=read)


def _short(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"{value.bit_length()} bits"
    return f"{value!r:.80}"


def optional(kind: Kind) -> Kind:
    """Return the kind of a value or None."""
    return Kind(
        lambda value, at: None if value is None else kind.read(value, at),
        lambda value: None if value is None else kind.write(value),
    )


def listed(kind: Kind, into: Callable[[Iterable[Any]], Any] = tuple) -> Kind:
    """Return the kind of a list of values of one kind."""

    def read(value: object, at: Place) -> Any:
        if not isinstance(value, list):
            raise at.mistyped("a list", value)
        return into(kind.read(item, at.part(index)) for index, item in enumerate(value))

    return Kind(read, lambda value: [kind.write(item) for item in value])


def mapped(kind: Kind) -> Kind:
    """Return the kind of an object with any names, whose values are of one kind."""

    def read(value: object, at: Place) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise at.mistyped("a JSON object", value)
        return {name: kind.read(item, at.part(name)) for name, item in value.items()}

    return Kind(read, lambda value: {name: kind.write(item) for name, item in value.items()})


class Form(Generic[_T]):
    """An object with exactly the members that are declared.

    Parameters
    ----------
    members : mapping of str to Kind
        In the order in which they are written.
    build : callable
        Makes an object of the members' values in their order, without constants and derived ones.
    """

    def __init__(self, members: Mapping[str, Kind], build: Callable[..., _T] | None = None) -> None:
        self.members = members
        self.kind = Kind(self.read, self.write)
        self._build: Any = build

    def read(self, value: object, at: Place, build: Callable[..., _T] | None = None) -> _T:
        """Read an object; `build` stands in for the form's own."""
        if not isinstance(value, dict):
            raise at.mistyped("a JSON object", value)
        needed = {name for name, kind in self.members.items() if kind.absent is MISSING}
        if not needed <= value.keys() <= self.members.keys():
            missing = sorted(needed - value.keys())
            unknown = len(value.keys() - self.members.keys())
            raise at.wrong(
                f"have exactly the members {sorted(needed)}, "
                f"got {unknown} unknown, missing {missing}"
            )
        found = {
            name: kind.read(value[name], at.part(name)) if name in value else kind.absent
            for name, kind in self.members.items()
        }
        for name in value.keys() - needed:
            if found[name] == self.members[name].absent:
                raise at.part(name).wrong(f"be left out if it is {found[name]}")
        given = (found[name] for name, kind in self.members.items() if kind.is_given)
        made: _T = (build or self._build)(*given)
        for name, kind in self.members.items():
            if kind.attribute and not kind.is_given:
                constant(attrgetter(kind.attribute)(made)).read(found[name], at.part(name))
        return made

    def write(self, value: object, **given: object) -> dict[str, Any]:
        """Return the members of an object; `given` ones are no attributes of its."""
        members = {}
        for name, kind in self.members.items():
            held = given.get(name)
            if name not in given and (kind.is_given or kind.attribute):
                held = attrgetter(kind.attribute or name)(value)
            if kind.absent is MISSING or held != kind.absent:
                members[name] = kind.write(held)
        return members


_FORMS: dict[type, Form[Any]] = {}


def form_of(cls: type[_T]) -> Form[_T]:
    """Return the form of a dataclass: its fields, by their names and annotations."""
    if cls in _FORMS:
        return _FORMS[cls]
    hints = get_type_hints(cls, include_extras=True)
    members = {}
    for field in fields(cast("Any", cls)):
        kind, key = kind_of(hints[field.name]), key_of(hints[field.name]) or field.name
        members[key] = replace(kind, attribute=field.name)
    _FORMS[cls] = Form(members, cls)
    return _FORMS[cls]


def check_fields(made: object) -> None:
    """Raise CryptoError unless a dataclass object's fields are as their annotations say."""
    for name, kind in form_of(type(made)).members.items():
        kind.read(kind.write(getattr(made, kind.attribute or name)), Place(name))


def row_of(cls: type) -> Kind:
    """Return the kind of a dataclass that is written as the list of its values."""
    form: Form[Any] = form_of(cls)

    def read(value: object, at: Place) -> Any:
        if not isinstance(value, list) or len(value) != len(form.members):
            raise at.wrong(f"be a list of {len(form.members)} values")
        return form.read(dict(zip(form.members, value, strict=True)), at)

    return Kind(read, lambda value: list(form.write(value).values()))


def within(attribute: str, members: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return the members of an object that stands in an attribute of another one."""
    return {
        name: replace(kind, attribute=f"{attribute}.{kind.attribute or name}")
        for name, kind in members.items()
    }


def key_of(hint: Any) -> str | None:
    """Return the name that an annotation gives its member."""
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark.name for mark in marks if isinstance(mark, Key)), None)


def kind_of(hint: Any) -> Kind:  # noqa: PLR0911 - one for each form of annotation
    """Return how the values of an annotation are read and written.

    Parameters
    ----------
    hint : type or other annotation
        A scalar type, Literal, StrEnum, dataclass, or a tuple, pair, list, mapping or optional of
        these.
        In ``Annotated[type, ...]`` a `Kind` stands in for the type's own, and each `Limit` holds.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kinds = [mark for mark in arguments if isinstance(mark, Kind)]
        limits = [mark for mark in arguments if isinstance(mark, Limit)]
        return limited(kinds[0] if kinds else kind_of(arguments[0]), *limits)
    if origin is Literal:
        return choice(*arguments)
    if origin in (Union, UnionType):
        return optional(kind_of(next(one for one in arguments if one is not NoneType)))
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return listed(kind_of(arguments[0]), origin)
    if origin is tuple:
        return _pair(*map(kind_of, arguments))
    if origin in (dict, Mapping):
        return mapped(kind_of(arguments[1]))
    if hint is Any:
        return Kind()
    if is_dataclass(hint):
        return form_of(cast("type", hint)).kind
    return choice(*hint) if issubclass(hint, StrEnum) else scalar(hint)


def _pair(first: Kind, second: Kind) -> Kind:
    def read(value: object, at: Place) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise at.wrong("be a list of 2 values")
        return first.read(value[0], at.part(0)), second.read(value[1], at.part(1))

    return Kind(read, lambda pair: [first.write(pair[0]), second.write(pair[1])])
