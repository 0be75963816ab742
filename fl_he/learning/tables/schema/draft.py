"""A draft of a schema from one hospital's table, for its people to look at and correct.

Texts of cells are in a draft only as levels of a category, or as words of a missing number, and
only if at least `min_cell` rows have each of them. No number of the table is in it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.columns import TRUTH, as_number
from fl_he.learning.tables.csv_file import COMPRESSIONS, CsvForm
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.identifiers import identifiers
from fl_he.learning.tables.schema.application import check_table
from fl_he.learning.tables.schema.cells import YES_NO, Missing, date_formats
from fl_he.learning.tables.schema.description import checked_name, other_policies, schema_of
from fl_he.learning.tables.schema.yaml_text import parse_yaml
from fl_he.learning.tables.table import open_table
from fl_he.learning.tables.table_file import Cells, TableFile, Unreadable, shown, some
from fl_he.run_files.metrics_contract import COX, EXPOSED

#: Different values of a category, and different words in the place of numbers.
MOST_LEVELS, _MOST_WORDS = 30, 5
#: Share of a column's cells that are numbers where the others are words for missing ones.
_NUMBERS = 0.8
#: Whole numbers that are compared, and the share of them that differ in an identifier.
_MOST_WHOLE, _UNIQUE = 10_000, 0.95
_MOST_NAMED = 40
_SINCE = "2000-01-01"
_DROP = "type: drop"
#: Texts of a boolean column, in small letters.
_BOOLEAN = frozenset(("0", "1", *TRUTH, *YES_NO))
_TERMS = """\
# Without terms the model has every column. Terms are columns with + : * ^, log, sqrt, spline, as in
# terms: age + sex"""
_BOUNDS = (
    "# A number may have bounds: [lowest, highest] plausible value. Without bounds Table 1 has no\n"
    "# quartiles."
)
_SEPARATORS = (",", ";", "\t", "|")
_DOUBT = "fl-he check names faults of its cells"
#: Characters of a key, as it is written in YAML.
_LONGEST_KEY = 1_000
_PLAIN = re.compile(r"[A-Za-z0-9][\w.]*( [\w.]+)*")
_COMMA = re.compile(r"[-+]?\d+,\d+")
_HEAD = """\
# A draft from one table: compare it with the other hospitals' and correct it.
# docs/schema.md explains every setting.
"""


def draft_schema(
    path: Path,
    target: str | None,
    min_cell: int,
    *,
    event: str | None = None,
    exposure: str | None = None,
) -> str:
    """Return the text of a schema's file for a table.

    Parameters
    ----------
    path
        The form of a CSV file is guessed.
    target
        The column of the outcome, if it is known.
    min_cell
        Rows that have a text which the draft may show.
    event
        Of an outcome that is a time, the column that says whether the event was seen.
    exposure
        Of an outcome that is a count, the column of its exposure.

    Raises
    ------
    DataError
        If the table cannot be read or has no such column, or these do not go together.
    """
    form = _guessed_form(path)
    table = open_table(path, form=form)
    if faults := list(table.name_faults(unnamed=False)):
        raise DataError.of(faults)
    named = {"target": target, "event": event, "exposure": exposure}
    outcome = {setting: name for setting, name in named.items() if name is not None}
    if (outcome and target is None) or {"event", "exposure"} <= outcome.keys():
        raise DataError("event or exposure, one of them, must come with target")
    for setting, name in outcome.items():
        if name not in table.names:
            among = some(table.names, _MOST_NAMED)
            raise DataError(f"{setting} must be one of the columns {among}, got {shown(name)}")
    if len({*outcome.values()}) < len(outcome):
        raise DataError("event and exposure must be other columns than target")
    seen, words = _read(table, [*outcome.values()], min_cell)
    comma = form is not None and form.separator != "," and any(one.commas for one in seen)
    lines, unfit = list[_Line](), list[str]()
    for name, column in zip(table.names, seen, strict=True):
        if name in (*outcome.values(), ""):
            continue
        if not _is_key(name):
            unfit.append(f"  # {_written(shown(name))}: no name for a schema, rename the column")
            continue
        lines.append(column.described(name, min_cell, comma=comma))
    labels = seen[table.names.index(target)] if target is not None else None
    if len(outcome) > 1:
        codes = event is None or seen[table.names.index(event)].has_codes()
        lines.append(_of_two_columns(outcome, codes=codes))
    else:
        lines.append(_outcome(target, labels, min_cell))
    reading = list(_reading(form, words, comma=comma))

    def text(faults: Mapping[str | None, int]) -> str:
        *columns, label = [line.text(faults.get(line.name, 0)) for line in lines]
        numbers = any(re.match("type: (number|integer)", line.settings) for line in lines)
        known = [*unfit, label, _TERMS, *([_BOUNDS] if numbers else [])]
        return "\n".join([_HEAD + "columns:", *columns, *known, *reading, ""])

    if all(line.settings == _DROP for line in lines[:-1]):
        return f"# No column can be used: describe one.\n{text({})}"
    found = _faults(path, text({}), table.names)
    return text({**found, target: sum(found.get(name, 0) for name in outcome.values())})


def _faults(path: Path, draft: str, names: Sequence[str]) -> Mapping[str | None, int]:
    """Return how many faults each column of a table has by the draft of its schema."""
    content = parse_yaml(draft)
    if not content["outcome"]["column"]:
        free = (name for name in map("outcome-{}".format, count()) if name not in names)
        content["outcome"]["column"] = next(free)
    return Counter(fault.column for fault in check_table(path, schema_of(content)).faults)


def _is_key(name: str) -> bool:
    """Tell whether a schema can have a column of this name."""
    with suppress(ValueError):
        return len(_written(checked_name(name))) <= _LONGEST_KEY
    return False


@dataclass(frozen=True, slots=True)
class _Line:
    """Settings of a column or of the outcome, and comments about them.

    ``told``: how many faults of a check the comments tell.
    """

    name: str
    settings: str
    notes: Sequence[str] = ()
    told: int = 0
    is_outcome: bool = False

    def text(self, faults: int) -> str:
        """Return the line, with a comment if a check finds more faults than are told."""
        notes = "; ".join([*self.notes, *([_DOUBT] if faults > self.told else [])])
        head = "outcome" if self.is_outcome else f"  {_written(self.name)}"
        return f"{head}: {{{self.settings}}}" + (f"  # {notes}" if notes else "")


class _Seen:
    """The values of a column as far as a draft depends on them."""

    def __init__(self, missing: Missing) -> None:
        self._missing_texts = missing
        self._counts, self._numbers, self._cells = Counter[str](), 0, 0
        self._wide = self._missing = self._fractions = self._other = False
        self._formats: set[str] | None = None
        self._whole, self._compared = set[float](), 0
        self.commas = False

    def add(self, cells: Cells) -> None:
        """Add cells of a block."""
        if isinstance(cells, Unreadable):
            self._other = cells.days is None
            self._formats = None if self._other else {"YYYY-MM-DD"}
            self._cells += 1
        elif isinstance(cells, np.ndarray):
            present = cells[~np.isnan(cells)]
            self._missing |= len(present) < len(cells)
            self._numbers += len(present)
            self._cells += len(present)
            self._fractions |= bool((present != np.rint(present)).any())
            if len(self._whole) < _MOST_WHOLE:
                self._whole.update(present.tolist())
                self._compared += len(present)
            if not self._wide:
                self._count(Counter(repr(one).removesuffix(".0") for one in present.tolist()))
        else:
            self._add_texts(Counter(map(str.strip, cells)))

    def _add_texts(self, counts: Counter[str]) -> None:
        for text in [text for text in counts if text in self._missing_texts]:
            self._missing = True
            del counts[text]
        words = Counter[str]()
        for text, times in counts.items():
            self._cells += times
            comma = _COMMA.fullmatch(text) is not None
            number = as_number(text.replace(",", ".") if comma else text)
            if number is None:
                words[text] = times
                formats = set(date_formats(text))
                self._formats = formats if self._formats is None else self._formats & formats
            else:
                self._numbers += times
                self.commas |= comma
                self._fractions |= comma or "." in text or not number.is_integer()
                if len(self._whole) < _MOST_WHOLE:
                    self._whole.add(number)
                    self._compared += times
                if not self._wide and not self._fractions:
                    words[text] = times
        self._count(words)

    def _count(self, counts: Counter[str]) -> None:
        if not self._wide:
            self._counts += counts
            self._wide = len(self._counts) > 2 * MOST_LEVELS

    def words(self, min_cell: int) -> Sequence[str]:
        """Return the words for missing cells among numbers."""
        words = [text for text in self._counts if as_number(text) is None]
        frequent = min((self._counts[word] for word in words), default=0) >= min_cell
        few = not self._wide and len(words) <= _MOST_WORDS
        fit = frequent and few and not self._is_boolean()
        return words if fit and self._numbers >= _NUMBERS * self._cells else ()

    def described(self, name: str, min_cell: int, *, comma: bool) -> _Line:
        """Return the column's line."""
        settings, notes = _DROP, [self._unfit()]
        frequent = self._are_frequent(min_cell)
        if not self._cells or self._other:
            notes = ["no cell has a value that can be read"]
        elif self._formats and not self._numbers:
            known = sorted(self._formats)
            settings = f"type: date, since: {_SINCE}"
            settings += "" if known == ["YYYY-MM-DD"] else f", format: {known[0]}"
            notes = [f"or {known[1]}"] if len(known) > 1 else []
        elif self._is_identifier():
            notes = ["whole numbers that almost all differ: an identifier?"]
        elif self._is_boolean():
            settings, notes = "type: boolean", []
        elif self._numbers == self._cells:
            is_whole = not self._fractions and not (comma and self.commas)
            settings, notes = f"type: {'integer' if is_whole else 'number'}", []
        elif self._numbers >= _NUMBERS * self._cells:
            settings, notes = "type: number", []
        elif not self._wide and frequent and 2 <= len(self._counts) <= MOST_LEVELS:
            levels = ", ".join(_written(level) for level in sorted(self._counts))
            settings = f"type: category, levels: [{levels}]"
            notes = ["the first is the reference"]
        told = self._missing and settings != _DROP
        if told:
            kind = settings.partition(",")[0].removeprefix("type: ")
            notes.append(f"has missing cells; instead of refuse: {other_policies(kind)}")
            settings += ", missing: refuse"
        return _Line(name, settings, notes, int(told))

    def _unfit(self) -> str:
        """Say why texts are no levels of a category."""
        if self._wide or len(self._counts) > MOST_LEVELS:
            return "text of many values"
        if self._numbers and self._fractions:
            return "numbers and text"
        return "text of rare values" if len(self._counts) > 1 else "text of one value"

    def _are_frequent(self, min_cell: int) -> bool:
        """Return whether each different text has at least this many rows; never for fractions."""
        known = bool(self._counts) and not self._fractions
        return known and min(self._counts.values()) >= min_cell

    def _is_boolean(self) -> bool:
        texts = {text.lower() for text in self._counts}
        return not (self._wide or self._fractions) and texts <= _BOOLEAN

    def has_codes(self) -> bool:
        """Return whether the texts are 0 and 1, or true and false."""
        return {text.lower() for text in self._counts} <= {"0", "1", *TRUTH}

    def _is_identifier(self) -> bool:
        """Return whether whole numbers look like numbers of patients."""
        if self._fractions or not 0 < self._numbers == self._cells:
            return False
        if len(self._whole) < _UNIQUE * self._compared:
            return False
        values = np.array(sorted(self._whole))[:, None]
        return bool(identifiers(Dataset(values, np.zeros(len(values)), ("x",))))

    def labels(self, min_cell: int) -> Sequence[str]:
        """Return the labels of two classes, the rarer one last, or none if they are not shown."""
        frequent = self._are_frequent(min_cell)
        labels = sorted(sorted(self._counts), key=self._counts.__getitem__, reverse=True)
        return labels if frequent and len(labels) == 2 else ()


def _read(
    table: TableFile, outcome: Sequence[str], min_cell: int
) -> tuple[Sequence[_Seen], Sequence[str]]:
    """Return the columns, and the words for missing cells that they have in the place of numbers.

    Such a word is a missing cell of every column, so the table is read again with the words.
    """
    words = dict[str, None]()
    while True:
        seen, known = _seen(table, [*words]), len(words)
        for name, column in zip(table.names, seen, strict=True):
            if name not in (*outcome, "") and _is_key(name):
                words.update(dict.fromkeys(column.words(min_cell)))
        if len(words) == known:
            return seen, [*words]


def _seen(table: TableFile, words: Sequence[str]) -> Sequence[_Seen]:
    missing = Missing(table.missing_labels, words)
    seen = [_Seen(missing) for _ in table.names]
    for block in table.blocks(range(len(table.names))):
        for column, cells in zip(seen, block.cells, strict=True):
            column.add(cells)
    if table.faults:
        raise DataError.of(table.faults)
    return seen


def _outcome(target: str | None, seen: _Seen | None, min_cell: int) -> _Line:
    if target is None or seen is None:
        notes = ["name the column, and positive: the label that counts as 1, or family:"]
        return _Line("", 'column: ""', notes, is_outcome=True)
    labels, settings = seen.labels(min_cell), f"column: {_written(target)}"
    if not labels:
        notes = ["positive: the label that counts as 1, threshold:, classes: or family:"]
        return _Line(target, settings, notes, 1, is_outcome=True)
    if set(labels) == {"0", "1"} or {one.lower() for one in labels} <= TRUTH.keys():
        return _Line(target, settings, is_outcome=True)
    other, positive = map(_written, labels)
    notes = [f"counts as 1; the other choice: {other}"]
    return _Line(target, f"{settings}, positive: {positive}", notes, is_outcome=True)


def _of_two_columns(outcome: Mapping[str, str], *, codes: bool) -> _Line:
    """Return the line of an outcome with the column of its event or exposure.

    ``codes``: whether events are written as they must be.
    """
    target, (setting, name) = outcome["target"], [*outcome.items()][1]
    first, *others = [COX] if setting == "event" else EXPOSED
    notes = [f"or {' or '.join(others)}"] if others else []
    if not codes:
        notes = [f"write {name} as 1 for an event and 0 for none in the tables"]
    settings = f"column: {_written(target)}, family: {first}, {setting}: {_written(name)}"
    return _Line(target, settings, notes, is_outcome=True)


def _reading(form: CsvForm | None, words: Sequence[str], *, comma: bool) -> Iterator[str]:
    """Yield how the file is written, where that is not the default."""
    settings = list[str]()
    if form is not None:
        if form.separator != ",":
            separator = "tab" if form.separator == "\t" else _written(form.separator)
            settings.append(f"separator: {separator}")
        if comma:
            settings.append('decimal: ","')
        if form.encoding != "utf-8":
            settings.append(f"encoding: {form.encoding}")
    if words:
        settings.append(f"na_values: [{', '.join(map(_written, words))}]")
    if settings:
        yield f"reading: {{{', '.join(settings)}}}"


def _guessed_form(path: Path) -> CsvForm | None:
    """Return the form of a CSV file by its beginning; None of a Parquet file."""
    suffix = path.suffix.lower()
    if suffix == ".parquet" or not path.is_file():
        return None
    compression = COMPRESSIONS.get(suffix, "none")
    form = CsvForm(compression=compression)
    with form.open_packed(path) as file:
        start = file.read(1 << 16)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = start.decode(encoding, errors="replace").lstrip("\ufeff\r\n")
    header = re.split("[\r\n]", text, maxsplit=1)[:1]
    separator = max(_SEPARATORS, key=lambda sign: [*map(len, csv.reader(header, delimiter=sign))])
    form = CsvForm(separator, encoding, compression)
    return form if _is_decoded(path, form) else CsvForm(separator, "cp1252", compression)


def _is_decoded(path: Path, form: CsvForm) -> bool:
    with form.open(path) as file:
        try:
            while file.read(1 << 20):
                pass
        except UnicodeDecodeError:
            return False
    return True


def _written(text: str) -> str:
    """Write a text as YAML, which a schema must have without signs that nobody can see."""
    if _PLAIN.fullmatch(text):
        return text
    quoted = re.sub(r'["\\]', r"\\\g<0>", text)
    signs = [sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in quoted]
    return f'"{"".join(signs)}"'
