"""The schema of a consortium's tables, as its YAML file describes it.

pydantic checks the description: in a trial it named every fault of a file at once, where msgspec
named the first, and it comes with Flower. Importing this module imports pydantic.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.csv_file import CsvForm
from fl_he.learning.tables.labels import event_fault, exposure_fault, family_with_ties
from fl_he.learning.tables.schema.design import misfits
from fl_he.learning.tables.schema.formula import Factor, Term, parse_formula
from fl_he.learning.tables.schema.yaml_text import MOST_TEXT, parse_yaml
from fl_he.learning.tables.table_file import INTERCEPT, shown
from fl_he.run_files.metrics_contract import COX

#: Levels of a category: each but the reference becomes a column of the model.
MOST_LEVELS = 1_000
#: The level of missing cells, and the name of an indicator of missing cells.
MISSING_LEVEL = "missing"
_LONGEST_NAME = 200
_EPOCH = date(1970, 1, 1).toordinal()
#: Policies for missing cells, by the type of a column.
_NUMERIC = ("refuse", "drop-row", "indicator", "mean")
_POLICIES = {
    **dict.fromkeys(("number", "integer", "boolean", "date"), _NUMERIC),
    "category": ("refuse", "drop-row", "level"),
    "drop": ("refuse",),
}
#: Settings that columns of some types alone have.
_OF_TYPES = {
    "bounds": ("number", "integer", "date"),
    "levels": ("category",),
    "reference": ("category",),
    "since": ("date",),
    "format": ("date",),
    "unit": ("number", "integer"),
}
#: pydantic's words for readers who do not know Python.
_WORDS = {
    "missing": "must be given",
    "dict_type": "must be a map",
    "model_type": "must be a map of settings",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "float_parsing": "must be a number",
}


def other_policies(kind: str) -> str:
    """Return the policies for missing cells that a column of a type has in the place of refusal."""
    _, *others, last = _POLICIES[kind]
    return f"{', '.join(others)} or {last}"


def checked_name(name: str) -> str:
    """Return a column's name; raises ValueError if a schema cannot have it."""
    if not name or name != name.strip() or len(name) > _LONGEST_NAME or "`" in name:
        raise ValueError(
            f"must be a name of 1 to {_LONGEST_NAME} characters, without backticks and without "
            "blanks around it"
        )
    if name.lower() == INTERCEPT:
        raise ValueError("must be another name: that is a model's constant term")
    return name


def _iso_date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("must be a date such as 2020-01-31") from None


_Name = Annotated[str, AfterValidator(checked_name)]
_Date = Annotated[str, AfterValidator(_iso_date)]
Encoding = Literal[
    "utf-8", "utf-16", "latin-1", "iso-8859-2", "iso-8859-15", "cp1250", "cp1252", "cp850"
]


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Reading(_Described):
    """Form of the files of tables.

    Attributes
    ----------
    separator, decimal, encoding, compression
        Of CSV files. ``auto``: as the file's name ends, such as ``.csv.gz``.
    na_values
        Cells that are missing, in addition to empty ones, NA, NaN and their kin.
    """

    separator: Literal[",", ";", "\t", "|", "tab"] = ","
    decimal: Literal[".", ","] = "."
    encoding: Encoding = "utf-8"
    na_values: tuple[str, ...] = ()
    compression: Literal["auto", "none", "gzip", "bz2", "xz"] = "auto"
    _place: str = PrivateAttr("the schema's reading")

    @property
    def place(self) -> str:
        """Setting or file that declares the file's format."""
        return self._place

    @property
    def form(self) -> CsvForm:
        """The form of CSV files."""
        separator = "\t" if self.separator == "tab" else self.separator
        return CsvForm(separator, self.encoding, self.compression, self.place)

    @model_validator(mode="after")
    def _check(self) -> Reading:
        if self.separator == self.decimal:
            raise ValueError("separator and decimal must differ; both are commas")
        return self


class Column(_Described):
    """A column of the tables.

    Attributes
    ----------
    type
        ``date``: days since a fixed day; ``drop``: not read.
    unit
        Of the numbers.
    bounds
        The smallest and the largest plausible value; ``-inf`` and ``inf``: no bound. Of a date, two
        dates.
    levels, reference
        Of a category; without a reference the first level is.
    since, format
        Of a date: the day that counts as 0, and how cells are written.
    missing
        What happens to a missing cell.
    aliases
        Other names that the column has in some tables.
    """

    type: Literal["number", "integer", "boolean", "category", "date", "drop"]
    unit: str | None = None
    bounds: tuple[str, str] | None = None
    levels: tuple[str, ...] = Field(default=(), max_length=MOST_LEVELS)
    reference: str | None = None
    since: _Date | None = None
    format: Literal["YYYY-MM-DD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY"] = "YYYY-MM-DD"
    missing: str = "refuse"
    aliases: tuple[_Name, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Column:
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        for setting, types in _OF_TYPES.items():
            unset = type(self).model_fields[setting].default
            if getattr(self, setting) != unset and self.type not in types:
                yield f"{setting} must be left out of a column of type {self.type}"
        if self.missing not in _POLICIES[self.type]:
            known = ", ".join(_POLICIES[self.type])
            yield f"missing must be one of {known} for type {self.type}, got {shown(self.missing)}"
        if self.type == "date" and self.since is None:
            yield "since must be given for a date, such as 2020-01-01"
        if self.type == "category":
            yield from self._level_faults()
        if self.bounds is not None:
            try:
                low, high = self.limits
            except ValueError:
                kind = "numbers, or -inf and inf for no bound"
                kind = "dates such as 2020-01-31" if self.type == "date" else kind
                yield f"bounds must be two {kind}"
            else:
                if not low < high:
                    yield "bounds must be the lower one, then the higher one"

    def _level_faults(self) -> Iterator[str]:
        levels = self.levels
        if len(levels) < 2 or len(set(levels)) < len(levels):
            yield "levels must be at least 2 different texts"
        if any(not level or level != level.strip() for level in levels):
            yield "levels must be texts without blanks around them"
        if self.reference is not None and self.reference not in levels:
            near = difflib.get_close_matches(self.reference, levels, n=1)
            hint = f"; did you mean {shown(near[0])}?" if near else ""
            yield f"reference must be one of the levels, got {shown(self.reference)}{hint}"
        if self.missing == "level" and MISSING_LEVEL in levels:
            yield f"levels must not have {MISSING_LEVEL!r}, which missing: level adds"

    @property
    def limits(self) -> tuple[float, float]:
        """The bounds as numbers; of a date, in days since its day 0."""
        if self.bounds is None:
            return -math.inf, math.inf
        if self.type == "date":
            low, high = (float(date.fromisoformat(text).toordinal()) for text in self.bounds)
            return low - self.day_zero - _EPOCH, high - self.day_zero - _EPOCH
        return float(self.bounds[0]), float(self.bounds[1])

    @property
    def day_zero(self) -> int:
        """The day that counts as 0, in days since 1970-01-01."""
        return date.fromisoformat(self.since or "1970-01-01").toordinal() - _EPOCH

    @property
    def coded(self) -> tuple[str, ...]:
        """All levels, that of missing cells included, the reference first."""
        first = self.reference or self.levels[0]
        others = [level for level in self.levels if level != first]
        added = [MISSING_LEVEL] if self.missing == "level" else []
        return (first, *others, *added)


class Outcome(_Described):
    """The column to predict; see :func:`fl_he.learning.tables.data.load_table`.

    Attributes
    ----------
    positive, threshold, classes
        Of an outcome that is a class.
    family, transform, unit
        Of an outcome that is a number: the family of models, what is applied to the number first,
        and the unit.
    event, ties
        Of a time to an event, with family cox: the column that says by 0 and 1, or true and false,
        whether the event was seen, and how tied events are treated.
    exposure
        With a family of a logarithmic link: the column of numbers above 0, such as person-time, of
        which the mean outcome is a multiple.
    """

    column: _Name
    positive: str | None = None
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    classes: tuple[str, ...] = ()
    family: Literal["gaussian", "poisson", "negative_binomial", "gamma", "cox"] | None = None
    event: _Name | None = None
    ties: Literal["efron", "breslow"] | None = None
    exposure: _Name | None = None
    transform: Literal["log", "sqrt"] | None = None
    unit: str | None = None
    missing: Literal["refuse", "drop-row"] = "refuse"
    aliases: tuple[_Name, ...] = ()

    @property
    def name(self) -> str:
        """The column with its transformation."""
        return f"{self.transform}({self.column})" if self.transform else self.column

    @property
    def other_columns(self) -> tuple[str, ...]:
        """Names of its other columns: the event's, or the exposure's."""
        return tuple(name for name in (self.event, self.exposure) if name)

    @property
    def models(self) -> str:
        """The family of models, by the ties; empty of classes."""
        return family_with_ties(self.family, self.ties)

    @model_validator(mode="after")
    def _check(self) -> Outcome:
        if words := event_fault(self.event, self.family):
            raise ValueError(words)
        if self.family == COX and self.transform:
            raise ValueError("transform must be left out with family cox, which has the order only")
        if self.ties and not self.event:
            raise ValueError("ties must come with family cox")
        for setting in ("event", "exposure"):
            if getattr(self, setting) in (self.column, *self.aliases):
                raise ValueError(f"{setting} must be another column than the outcome's")
        if self.exposure is not None and (words := exposure_fault(self.family)):
            raise ValueError(words)
        given = (self.positive, self.threshold is not None, self.classes, self.family)
        if sum(bool(one) for one in given) > 1:
            raise ValueError("at most one of positive, threshold, classes and family must be given")
        if (self.transform or self.unit) and not self.family:
            raise ValueError("transform and unit must come with family, as the outcome is a number")
        if self.classes and (len(self.classes) < 3 or len(set(self.classes)) < len(self.classes)):
            raise ValueError("classes must be at least 3 different labels; of two, name positive")
        return self


class Schema(_Described):
    """The columns of a consortium's tables, their outcome, a model's terms and the files' form.

    Attributes
    ----------
    columns
        By name; columns of a table that are not named are ignored.
    outcome : Outcome
    terms
        A formula: see :mod:`fl_he.learning.tables.schema.formula`; ``None``: every column.
    reading : Reading
    """

    columns: dict[_Name, Column] = Field(min_length=1)
    outcome: Outcome
    terms: str | None = None
    reading: Reading = Field(default_factory=Reading)
    _shared_digest: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Schema:
        owners = dict[str, str]()
        described: dict[str, Column | Outcome] = {**self.columns}
        described[self.outcome.column] = self.outcome
        if {self.outcome.column, *self.outcome.other_columns} & self.columns.keys():
            raise ValueError("columns must not name the outcome's columns, which outcome describes")
        for name, column in described.items():
            others = column.other_columns if isinstance(column, Outcome) else ()
            for alias in (name, *column.aliases, *others):
                if owners.setdefault(alias, name) != name:
                    raise ValueError(
                        f"names and aliases must differ, got {shown(alias)} for "
                        f"{shown(owners[alias])} and {shown(name)}"
                    )
        if not self.model:
            raise ValueError("columns must have one that is not of type drop")
        return self

    def read_as(self, reading: Reading) -> Schema:
        """Return the schema for files that are written otherwise."""
        schema = Schema(
            columns=self.columns, outcome=self.outcome, terms=self.terms, reading=reading
        )
        schema._shared_digest = self.shared_digest
        return schema

    @cached_property
    def model(self) -> tuple[Term, ...]:
        """The model's terms."""
        used = [name for name, column in self.columns.items() if column.type != "drop"]
        if self.terms is None:
            return tuple((Factor(name),) for name in used)
        others = dict.fromkeys(self.columns.keys() - {*used}, "is of type drop")
        of_outcome = (self.outcome.column, *self.outcome.other_columns)
        others |= dict.fromkeys(of_outcome, "is the outcome's column")
        for name in used:
            others |= dict.fromkeys(self.columns[name].aliases, f"is an alias of {shown(name)}")
        terms = parse_formula(self.terms, used, others)
        faults = list[Fault]()
        for factor in dict.fromkeys(factor for term in terms for factor in term):
            column = self.columns[factor.column]
            if factor.functions and column.type == "category":
                words = f"{factor.functions[-1]} must be of numbers, got {shown(factor.column)}"
                faults.append(Fault(f"terms: {words}, which is a category"))
            else:
                faults += [Fault(f"terms: {words}") for words in misfits(factor, column.limits)]
        if faults:
            raise DataError.of(faults)
        return terms

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Names of the columns in the model's terms, in the order of the file."""
        named = {factor.column for term in self.model for factor in term}
        return tuple(name for name in self.columns if name in named)

    @property
    def read_names(self) -> frozenset[str]:
        """Names and aliases of the outcome and of the columns in the model's terms."""
        described = [(name, self.columns[name].aliases) for name in self.used]
        described.append((self.outcome.column, self.outcome.aliases))
        described += [(name, ()) for name in self.outcome.other_columns]
        return frozenset(name for first, others in described for name in (first, *others))

    @property
    def drops_rows(self) -> bool:
        """Whether a row may be left out of the model for a missing cell."""
        policies = [self.columns[name].missing for name in self.used]
        return "drop-row" in (self.outcome.missing, *policies)

    @property
    def imputed(self) -> tuple[str, ...]:
        """Names of the columns in the model's terms whose missing cells get the federated mean."""
        return tuple(name for name in self.used if self.columns[name].missing == "mean")

    @cached_property
    def text(self) -> str:
        """The schema as YAML text, in which comments and the order of settings leave no trace."""
        settings = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(settings, ensure_ascii=False, indent=1) + "\n"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the schema, in hexadecimal digits."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def shared_digest(self) -> str:
        """The digest of the schema as all hospitals have it, before `read_as`."""
        return self._shared_digest or self.digest


def read_schema(path: Path, reading: Path | None = None, place: str = "") -> Schema:
    """Read a schema's YAML file.

    Parameters
    ----------
    path
    reading
        A YAML file with the settings of `Reading`, which replace the schema's: a hospital's files
        may be written otherwise. The digest is that of the result; `shared_digest` is the schema's.
    place
        Where their owner can declare how files are written, for errors; empty: in the schema.

    Raises
    ------
    DataError
        If a file cannot be read; else of all faults of the description.
    """
    schema = _read(Schema, path)
    if place:
        schema.reading._place = place
    return schema if reading is None else schema.read_as(read_reading(reading))


def read_reading(path: Path) -> Reading:
    """Read a YAML file with the settings of `Reading`; raises DataError of all faults."""
    reading = _read(Reading, path)
    reading._place = _noun(Reading)
    return reading


def schema_of(content: Any) -> Schema:
    """Return the schema that a parsed file describes; raises DataError of all faults."""
    return _described(Schema, content)


_Kind = TypeVar("_Kind", bound=_Described)


def _noun(kind: type[_Described]) -> str:
    return "the reading file" if kind is Reading else "a schema"


def _read(kind: type[_Kind], path: Path) -> _Kind:
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(4 * MOST_TEXT).decode("utf-8-sig")
    except OSError as error:
        words = (
            f"{_noun(kind)} must be a file that can be read, got {str(path)!r}: {error.strerror}"
        )
        raise DataError(words) from None
    except UnicodeDecodeError:
        words = f"{_noun(kind)} is not UTF-8 text: {str(path)!r}"
        raise DataError(words) from None
    try:
        return _described(kind, parse_yaml(text, _noun(kind)))
    except DataError as error:
        raise DataError.of(error.faults, f" ({path})") from None


def _described(kind: type[_Kind], content: Any) -> _Kind:
    if not isinstance(content, dict):
        raise DataError(f"{_noun(kind)} must be a map of {', '.join(kind.model_fields)}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = [Fault(_words(one, kind)) for one in error.errors(include_url=False)]
    raise DataError.of(faults)


def _words(error: Mapping[str, Any], kind: type[_Described]) -> str:
    """Return pydantic's error with the place in the file and, of a setting, a near name."""
    place, name = error["loc"], error["type"]
    if name == "extra_forbidden":
        within = {
            "columns": Column.model_fields.keys(),
            "outcome": Outcome.model_fields.keys(),
            "reading": Reading.model_fields.keys(),
        }
        settings = within[str(place[0])] if len(place) > 1 else kind.model_fields.keys()
        if kind is Reading and place[-1] == "reading":
            return "the reading file must have the settings of reading, not the key reading itself"
        near = difflib.get_close_matches(str(place[-1]), settings, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(settings)}"
        return f"{_path(place[:-1], kind)}has no setting {shown(str(place[-1]))}; {hint}"
    said = error["msg"].removeprefix("Value error, ")
    if name == "literal_error":
        said = f"must be one of {error['ctx']['expected']}"
    if place[2:3] == ("bounds",) and name in ("missing", "too_long"):
        return f"{_path(place[:3], kind)}must be two values, the lower one, then the higher one"
    return f"{_path(place, kind)}{_WORDS.get(name, said)}"


def _path(place: tuple[int | str, ...], kind: type[_Described]) -> str:
    """Return the words for a place in the file."""
    names = [str(part + 1) if isinstance(part, int) else part for part in place]
    names = [name for name in names if name != "[key]"]
    if names[:1] == ["columns"] and len(names) > 1:
        names[:2] = [f"column {shown(names[1])}"]
    return f"{': '.join(names)}: " if names else f"{_noun(kind)}: "
