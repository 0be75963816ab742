"""Tables by their schema: columns of the model, missing cells, and all faults at once."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.tables import csv_file
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.faulty_rows import FaultyRows
from fl_he.learning.tables.schema.application import (
    check_table,
    features_by_schema,
    load_by_schema,
    rows_by_schema,
)
from fl_he.learning.tables.schema.description import Schema, read_schema, schema_of
from fl_he.learning.tables.schema.draft import draft_schema
from fl_he.learning.tables.schema.yaml_text import parse_yaml

SCHEMA = """
columns:
  age: {type: integer, unit: years, bounds: [0, 120]}
  crp: {type: number}
  sex: {type: category, levels: [F, M]}
  smoker: {type: boolean}
  admitted: {type: date, since: 2023-01-01}
  id: {type: drop}
outcome: {column: died, positive: yes}
"""
#: No cell may be shown; these texts occur in no other place.
SECRET = ("Zaphod", "1.7e77", "Trillian")


def schema(*changes: tuple[str, str]) -> Schema:
    text = SCHEMA
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return schema_of(parse_yaml(text))


def table(rows: int = 12) -> pl.DataFrame:
    places = range(rows)
    return pl.DataFrame(
        {
            "id": [f"P{place}" for place in places],
            "age": [40 + place for place in places],
            "crp": [0.5 + place for place in places],
            "sex": ["FM"[place % 2] for place in places],
            "smoker": [str(place % 3 == 0).lower() for place in places],
            "admitted": [f"2023-01-{1 + place:02d}" for place in places],
            "died": [("yes", "no")[place % 4 < 2] for place in places],
        }
    )


def saved(folder: Path, frame: pl.DataFrame) -> Path:
    frame.write_csv(folder / "table.csv")
    return folder / "table.csv"


def cell(frame: pl.DataFrame, column: str, *cells: tuple[int, str | None]) -> pl.DataFrame:
    """Return the table with other cells in some rows, from 2: the header is row 1."""
    found: list[str | None] = frame[column].cast(pl.String).to_list()
    for row, text in cells:
        found[row - 2] = text
    return frame.with_columns(pl.Series(column, found, dtype=pl.String))


def load(folder: Path, frame: pl.DataFrame, *changes: tuple[str, str]) -> Dataset:
    return load_by_schema(saved(folder, frame), schema(*changes))


def column(data: Dataset, name: str) -> list[float]:
    found: list[float] = data.features[:, data.feature_names.index(name)].tolist()
    return found


def test_columns_of_every_type_become_numbers(tmp_path: Path) -> None:
    data = load(tmp_path, table())
    assert data.feature_names == ("age", "crp", "sex[M]", "smoker", "admitted")
    assert data.features[4].tolist() == [44.0, 4.5, 0.0, 0.0, 4.0]
    assert data.features[3].tolist() == [43.0, 3.5, 1.0, 1.0, 3.0]
    assert data.labels.tolist() == [0, 0, 1, 1] * 3
    assert (data.positive, data.levels) == ("yes", ("no", "yes"))
    assert data.rows is not None
    assert data.rows.numbers.tolist() == [*range(2, 14)]


def test_parquets_types_are_read_as_csv(tmp_path: Path) -> None:
    frame, path = table(), tmp_path / "table.parquet"
    frame.with_columns(
        pl.col("sex").cast(pl.Categorical),
        pl.col("smoker") == "true",
        pl.col("admitted").str.to_date(),
    ).write_parquet(path)
    expected = load(tmp_path, frame)
    found = load_by_schema(path, schema())
    np.testing.assert_array_equal(found.features, expected.features)
    stamps = frame.with_columns(pl.col("admitted").str.to_datetime("%Y-%m-%d").dt.offset_by("7h"))
    stamps.with_columns(pl.col("smoker") == "true").write_parquet(path)
    found = load_by_schema(path, schema())
    np.testing.assert_array_equal(found.features, expected.features)


def test_columns_are_found_by_name_and_alias_in_any_order(tmp_path: Path) -> None:
    frame = table()
    expected = load(tmp_path, frame)
    other = frame.select(
        pl.col("died").alias("tot"), pl.lit(3).alias("extra"), *frame.columns[::-1]
    )
    other = other.drop("died", "age").with_columns(pl.Series("Alter", frame["age"]))
    aliases = (("bounds:", "aliases: [Alter], bounds:"), ("died,", "died, aliases: [tot],"))
    found = load(tmp_path, other, *aliases)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.notes == ("not read, as the schema does not name it: column 'extra'",)


def test_a_threshold_has_all_of_its_digits_in_what_1_is_called(tmp_path: Path) -> None:
    outcome = "outcome: {column: size, threshold: 1234567.5}"
    frame = table().with_columns(size=1_234_560.0 + pl.int_range(12))
    data = load(tmp_path, frame, ("outcome: {column: died, positive: yes}", outcome))
    assert data.positive == "size >= 1234567.5"
    assert data.labels.tolist() == [0.0] * 8 + [1.0] * 4


def test_only_columns_of_the_terms_are_read(tmp_path: Path) -> None:
    spoiled = cell(table(), "age", (5, SECRET[0]))
    data = load(tmp_path, spoiled, ("outcome:", "terms: crp*sex\noutcome:"))
    assert data.feature_names == ("crp", "sex[M]", "crp:sex[M]")
    with pytest.raises(DataError, match="column 'age'"):
        load(tmp_path, spoiled)
    checked = check_table(saved(tmp_path, spoiled), schema(("outcome:", "terms: crp\noutcome:")))
    assert [fault.column for fault in checked.faults] == ["age"]


@pytest.mark.parametrize("text", [None, "NA", "na", " n/a ", "NaN", "?", "<0.3"])
def test_missing_cells_are_treated_as_declared(tmp_path: Path, text: str | None) -> None:
    holes = cell(table(), "crp", (4, text), (9, text))
    texts = ("outcome:", 'reading: {na_values: ["?", "<0.3"]}\noutcome:')
    with pytest.raises(DataError, match="column 'crp': 2 missing cells, in rows 4, 9: fill them"):
        load(tmp_path, holes, texts)
    dropped = load(tmp_path, holes, texts, ("crp: {type: number}", DROPPED))
    assert dropped.examples == 10
    assert dropped.rows is not None
    assert dropped.rows.numbers.tolist() == [2, 3, 5, 6, 7, 8, 10, 11, 12, 13]
    np.testing.assert_array_equal(dropped.labels, np.delete([0, 0, 1, 1] * 3, [2, 7]))
    assert dropped.notes == ("2 of 12 rows are left out, as cells are missing (drop-row)",)
    terms = ("outcome:", "terms: crp*sex + log(crp)\noutcome:")
    marked = load(tmp_path, holes, texts, terms, ("crp: {type: number}", MARKED))
    assert marked.feature_names[-1] == "crp[missing]"
    assert column(marked, "crp[missing]") == [float(row in (4, 9)) for row in range(2, 14)]
    blank = [place for place, one in enumerate(column(marked, "crp[missing]")) if one]
    for name in ("crp", "log(crp)", "crp:sex[M]"):
        assert [column(marked, name)[place] for place in blank] == [0.0, 0.0]
    assert column(marked, "crp")[3] == 3.5
    assert "column 'crp': 2 missing cells, in 'crp[missing]' (missing: indicator)" in marked.notes


@pytest.mark.parametrize("text", ["-9", " -9", "-9.0 ", "-9e0"])
def test_a_number_that_means_missing_is_missing_in_every_spelling(
    tmp_path: Path, text: str
) -> None:
    """A number of na_values that was read as a measurement would be in every mean."""
    reading = ("outcome:", 'reading: {na_values: ["-9"]}\noutcome:')
    dropped = ("smoker: {type: boolean}", "smoker: {type: boolean, missing: drop-row}")
    for name in ("crp", "smoker"):
        holes = cell(table(), name, (4, text), (9, text))
        data = load(tmp_path, holes, reading, ("crp: {type: number}", DROPPED), dropped)
        assert data.examples == 10
        assert column(data, "crp") == [0.5 + place for place in range(12) if place not in (2, 7)]


@pytest.mark.parametrize("text", [" -9,5", "-9,50"])
def test_numbers_that_mean_missing_have_the_files_decimal_mark(tmp_path: Path, text: str) -> None:
    reading = 'reading: {na_values: ["-9,5"], separator: ";", decimal: ","}\noutcome:'
    path, holes = (
        tmp_path / "table.csv",
        cell(table(), "crp", *((row, "1") for row in range(2, 14))),
    )
    cell(holes, "crp", (4, text)).write_csv(path, separator=";")
    changes = ("outcome:", reading), ("crp: {type: number}", DROPPED)
    assert load_by_schema(path, schema(*changes)).examples == 11


def test_an_outcome_with_a_point_is_no_fraction_where_commas_are_decimal_marks(
    tmp_path: Path,
) -> None:
    """A stay of 1.234 hours would be read as 1.234 in the place of 1234."""
    outcome = (
        'reading: {separator: ";", decimal: ","}\noutcome: {column: stay, family: gaussian}\n'
        "terms: sex"
    )
    path, cells = tmp_path / "table.csv", [f"{place},5" for place in range(12)]
    reading = schema(("outcome: {column: died, positive: yes}", outcome))
    table().with_columns(pl.Series("stay", cells)).write_csv(path, separator=";")
    assert load_by_schema(path, reading).labels.tolist() == [0.5 + place for place in range(12)]
    cells[3] = cells[9] = "1.234"
    table().with_columns(pl.Series("stay", cells)).write_csv(path, separator=";")
    with pytest.raises(
        DataError, match="column 'stay': 2 cells with a point, in rows 5, 11: write"
    ):
        load_by_schema(path, reading)


def test_numbers_in_parquet_files_are_missing_as_in_csv(tmp_path: Path) -> None:
    path, rows = tmp_path / "table.parquet", np.array([4, 9]) - 2
    holes = [-9.0 if place in rows else 0.5 + place for place in range(12)]
    outcome = "outcome: {column: stay, family: gaussian, missing: drop-row}"
    stays = [-9.0 if place == 11 else 2.5 for place in range(12)]
    frame = table().with_columns(
        *(pl.Series("crp", holes), pl.Series("stay", stays)),
        pl.col("admitted").str.to_date(),
    )
    frame.write_parquet(path)
    reading = f'reading: {{na_values: ["-9"]}}\n{outcome}'
    changes = ("outcome: {column: died, positive: yes}", reading), ("crp: {type: number}", DROPPED)
    data = load_by_schema(path, schema(*changes))
    assert data.examples == 9
    assert data.labels.tolist() == [2.5] * 9
    refused = schema((changes[0][0], reading.replace(", missing: drop-row", "")), changes[1])
    with pytest.raises(DataError, match="column 'stay' must have no missing values"):
        load_by_schema(path, refused)


def test_a_declared_level_is_not_missing_in_any_spelling(tmp_path: Path) -> None:
    reading = ("outcome:", 'reading: {na_values: ["1.0"]}\noutcome:')
    levels = ("levels: [F, M]", "levels: [F, M, 1]")
    data = load(tmp_path, cell(table(), "sex", (4, "1")), reading, levels)
    assert column(data, "sex[1]") == [0.0, 0.0, 1.0] + [0.0] * 9


DROPPED, MARKED = (f"crp: {{type: number, missing: {one}}}" for one in ("drop-row", "indicator"))


def test_missing_cells_of_a_category_can_be_a_level(tmp_path: Path) -> None:
    change = ("[F, M]", "[F, M], missing: level")
    data = load(tmp_path, cell(table(), "sex", (2, None), (5, "NA")), change)
    assert data.feature_names[2:4] == ("sex[M]", "sex[missing]")
    assert column(data, "sex[missing]") == [1.0, 0, 0, 1] + [0.0] * 8
    assert column(load(tmp_path, table(), change), "sex[missing]") == [0.0] * 12


def test_a_declared_level_is_no_missing_cell(tmp_path: Path) -> None:
    cells = cell(table(), "sex", (2, "NA"), (4, " F "))
    data = load(tmp_path, cells, ("[F, M]", "[F, M, NA]"))
    assert column(data, "sex[NA]") == [1.0] + [0.0] * 11
    assert column(data, "sex[M]") == [0.0, 1.0] * 6


def test_rows_without_an_outcome_can_be_left_out(tmp_path: Path) -> None:
    holes = cell(table(), "died", (3, None), (4, "NA"))
    with pytest.raises(DataError, match="column 'died' must have no missing values, got 2"):
        load(tmp_path, holes)
    data = load(tmp_path, holes, ("positive: yes", "positive: yes, missing: drop-row"))
    assert data.rows is not None
    assert data.rows.numbers.tolist() == [2, *range(5, 14)]
    assert data.labels.tolist() == np.delete([0, 0, 1, 1] * 3, [1, 2]).tolist()


def test_an_outcome_can_be_a_threshold_or_classes(tmp_path: Path) -> None:
    numbers = table().with_columns(died=pl.Series([f"{place},5" for place in range(12)]))
    comma = ("outcome:", "reading: {separator: ;, decimal: ','}\noutcome:")
    path = tmp_path / "table.csv"
    numbers.with_columns(crp=pl.lit("1,5")).write_csv(path, separator=";")
    data = load_by_schema(path, schema(comma, ("positive: yes", "threshold: 6.5")))
    assert (data.labels.tolist(), data.positive) == ([0.0] * 6 + [1.0] * 6, "died >= 6.5")
    three = table().with_columns(died=pl.Series(["low", "mid", "high"] * 4))
    data = load(tmp_path, three, ("positive: yes", "classes: [low, mid, high]"))
    assert data.labels.tolist() == [0.0, 1.0, 2.0] * 4


FORMS: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "semicolon": ("table.csv", "separator: ;, decimal: ','", bytes),
    "latin1": ("table.csv", "encoding: latin-1", bytes),
    "utf16": ("table.txt", "encoding: utf-16", bytes),
    "tab": ("table.tsv", "separator: tab", bytes),
    "bar": ("table.txt", "separator: '|'", bytes),
    "gzip": ("table.csv.gz", "decimal: .", gzip.compress),
    "bz2": ("table.csv.bz2", "decimal: .", bz2.compress),
    "xz": ("table.csv", "compression: xz", lzma.compress),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_in_its_declared_form(tmp_path: Path, form: str) -> None:
    name, reading, pack = FORMS[form]
    change = ("outcome:", f"reading: {{{reading}}}\noutcome:")
    renamed = ("crp:", "Größe µg/l:")
    described = schema(change, renamed)
    separator = {"tab": "\t"}.get(described.reading.separator, described.reading.separator)
    text = table().rename({"crp": "Größe µg/l"}).write_csv(separator=separator)
    if described.reading.decimal == ",":
        text = text.replace(".", ",")
    (tmp_path / name).write_bytes(pack(text.encode(described.reading.encoding)))
    found = load_by_schema(tmp_path / name, described)
    expected = load(tmp_path, table())
    np.testing.assert_array_equal(found.features, expected.features)


def test_another_form_than_the_declared_one_is_named(tmp_path: Path) -> None:
    text, path = table().write_csv(separator=";"), tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="got semicolons: declare separator in the schema's r"):
        load_by_schema(path, schema())
    path.write_text(text.replace(";", ","))
    reading = ("outcome:", "reading: {separator: ;}\noutcome:")
    words = "got commas: declare separator in the schema's reading, or save the table with semic"
    with pytest.raises(DataError, match=words):
        load_by_schema(path, schema(reading))
    path.write_bytes(text.replace(";", ",").replace("F", "Ö").encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        load_by_schema(path, schema())
    packed = tmp_path / "table.csv.gz"
    packed.write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(DataError, match="must be a whole gzip file"):
        load_by_schema(packed, schema(reading))
    plain = ("outcome:", "reading: {compression: none}\noutcome:")
    with pytest.raises(DataError, match="gzip file: declare compression in the schema's read"):
        load_by_schema(packed, schema(plain))


def test_the_reading_file_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    path, own, shared = tmp_path / "table.csv", tmp_path / "own.yaml", tmp_path / "schema.yaml"
    shared.write_text(SCHEMA)
    own.write_text("separator: ';'")
    path.write_text(table().write_csv(separator="\t"))
    words = "got tabs: declare separator in the reading file, or save the table with semicolons"
    with pytest.raises(DataError, match=words):
        check_table(path, read_schema(shared, own))
    for text, said in (
        ("reading: {decimal: ','}", "must have the settings of reading, not the key reading"),
        ("a: &x 1", "the reading file has an anchor, an alias or a tag in line 1"),
        ("decimal: '", "the reading file is not YAML"),
        ("{separator: ',', decimal: ','}", "the reading file: separator and decimal must differ"),
    ):
        own.write_text(text)
        with pytest.raises(DataError, match=said):
            read_schema(shared, own)
    with pytest.raises(DataError, match="the reading file must be a file that can be read"):
        read_schema(shared, tmp_path / "nope.yaml")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_a_file_that_is_not_packed_is_told_from_a_damaged_one(tmp_path: Path, ending: str) -> None:
    named, plain = tmp_path / f"table.csv.{ending}", tmp_path / "table.csv"
    named.write_text(table().write_csv())
    kind = {"gz": "gzip"}.get(ending, ending)
    words = rf"by {kind}, got '.*', which is not: leave \.{ending} out of its name"
    with pytest.raises(DataError, match=words):
        load_by_schema(named, schema())
    with pytest.raises(DataError, match=words):
        draft_schema(named, None, 5)
    plain.write_text(table().write_csv())
    reading = ("outcome:", f"reading: {{compression: {kind}}}\noutcome:")
    words = "which is not: declare compression in the schema's reading, or compress it"
    with pytest.raises(DataError, match=words):
        load_by_schema(plain, schema(reading))


def test_advice_on_a_fixed_schema_is_about_cells_and_reading(tmp_path: Path) -> None:
    """Each kind of fault: a schema of a training or of a plan cannot be changed."""
    place = "a reading file (--reading)"
    file, frames = tmp_path / "schema.yaml", [one[1] for one in SPOILED.values()]
    terms = "terms: age + sqrt(crp) + sex + smoker + admitted\noutcome:"
    file.write_text(SCHEMA.replace("outcome:", terms))
    fixed = read_schema(file, place=place)
    frames += [
        cell(table(), "age", (3, "9007199254740993")),
        cell(table(), "crp", (3, "-4")).rename({"smoker": "smokers"}),
        cell(table(), "sex", *((row, "x") for row in range(2, 14))),
    ]
    told = list[str]()
    for frame in frames:
        path = saved(tmp_path, frame)
        for read in (features_by_schema, partial(load_by_schema, fixed=True)):
            try:
                read(path, fixed)
            except DataError as error:
                told += [fault.words for fault in error.faults]
    remedies = {words.partition(": ")[2].partition(": ")[2] for words in told}
    as_missing = f"correct the cells, or declare their text as na_values in {place}"
    assert remedies == {
        "",
        "rename it if that is the column",
        "fill them in",
        "fill them in: a row with missing cells has no prediction",
        "correct the cells",
        as_missing,
        f'write decimal points, or declare decimal: "," in {place}',
    }
    assert sum("declared level" in words for words in told if as_missing in words) == 4
    assert sum(words.endswith(" missing cell in row 2: fill them in") for words in told) == 1


def test_names_with_braces_are_told_as_they_are(tmp_path: Path) -> None:
    changes = (("crp:", "'a{b}':"), ("outcome:", "terms: log(`a{b}`) + age\noutcome:"))
    frame = cell(table(), "crp", (2, "0")).rename({"crp": "a{b}"})
    with pytest.raises(DataError, match=r"1 cell for which log\(a\{b\}\) has no value"):
        load(tmp_path, frame, *changes)
    with pytest.raises(DataError, match=r"1 cell outside 0 to 120 \{years\}, in row 3"):
        load(tmp_path, cell(table(), "age", (3, "130")), ("unit: years", "unit: '{years}'"))


def test_a_packed_file_is_unpacked_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"age,died\n" + b"1,yes\n" * 100_000))
    monkeypatch.setattr(csv_file, "MOST_UNPACKED", 100_000)
    with pytest.raises(DataError, match="more than 100000 bytes unpacked"):
        check_table(path, schema())


#: Ten spoiled tables: changes of the schema, the table, and the words of each planted fault.
SPOILED: dict[str, tuple[tuple[tuple[str, str], ...], pl.DataFrame, list[str]]] = {
    "bounds": (
        (),
        cell(table(), "age", (3, "130"), (7, "-1")),
        ["column 'age': 2 cells outside 0 to 120 years, in rows 3, 7: correct the cells, or bou"],
    ),
    "text and missing": (
        (),
        cell(cell(table(), "crp", (2, SECRET[0]), (3, None)), "age", (12, "")),
        [
            "column 'age': 1 missing cell, in row 12: fill them in, or declare missing: drop-row, "
            "indicator or mean",
            "column 'crp': 1 missing cell, in row 3",
            "column 'crp': 1 cell of text, in row 2: correct the cells, or declare their text",
        ],
    ),
    "levels": (
        (),
        cell(table(), "sex", *((row, SECRET[2]) for row in range(2, 10))),
        ["column 'sex': 8 cells without a declared level, the first in rows 2, 3, 4, 5, 6: "],
    ),
    "dates": (
        (),
        cell(table(), "admitted", (2, "2023-02-30"), (3, "1.1.2023"), (4, SECRET[0])),
        [
            "column 'admitted': 1 cell written YYYY-MM-DD with a day that does not exist, in row 2",
            "column 'admitted': 2 cells not written YYYY-MM-DD, in rows 3, 4: correct the cells, "
            "or declare their text as na_values in the schema's reading, or correct format in the "
            "schema",
        ],
    ),
    "types": (
        (),
        cell(table().with_columns(age=pl.lit("old"), smoker=pl.lit("ja")), "age", (2, None)),
        [
            "column 'age': 1 missing cell, in row 2",
            "column 'age': 11 cells of text, the first in rows 3, 4, 5, 6, 7: correct the cells, "
            "or declare their text as na_values in the schema's reading, or correct type in the "
            "schema",
            "column 'smoker': 12 cells other than 0, 1, true, false, yes and no, the first in rows "
            "2, 3, 4, 5, 6: correct the cells, or declare their text as na_values in the schema'",
        ],
    ),
    "truth": (
        (),
        cell(table(), "smoker", (2, "ja"), (3, "2")),
        ["column 'smoker': 2 cells other than 0, 1, true, false, yes and no, in rows 2, 3: "],
    ),
    "numbers": (
        (),
        cell(cell(table(), "age", (4, "40.5"), (5, "inf")), "crp", (6, "1,5"), (7, "1_0")),
        [
            "column 'age': 1 infinite cell, in row 5",
            "column 'age': 1 number not whole, in row 4: correct the cells, or declare type: num",
            "column 'crp': 1 decimal comma, in row 6: write decimal points, or declare decimal",
            "column 'crp': 1 cell of text, in row 7",
        ],
    ),
    "names": (
        (("age: {", "age: {aliases: [Alter], "),),
        table().rename({"crp": "CRP", "sex": "id2"}).with_columns(Alter=pl.lit(3)),
        [
            "column 'age': must be there once, got columns 'age', 'Alter': rename all but one",
            "column 'crp': missing",
            "column 'sex': missing",
        ],
    ),
    "outcome": (
        (),
        cell(cell(table(), "died", (2, None), (5, SECRET[2])), "age", (3, "x")),
        [
            "column 'age': 1 cell of text, in row 3",
            "column 'died' must have no missing values, got 1 missing cell in row 2: fill them in, "
            "or declare missing: drop-row of outcome",
            "target 'died' must have two classes, got 3",
        ],
    ),
    "functions": (
        (("outcome:", "terms: log(crp) + sqrt(age)\noutcome:"), (", bounds: [0, 120]", "")),
        cell(cell(table(), "crp", (2, "0"), (3, "-1.7e77")), "age", (9, "-4")),
        [
            "column 'crp': 2 cells for which log(crp) has no value, in rows 2, 3: correct the ce",
            "column 'age': 1 cell for which sqrt(age) has no value, in row 9",
        ],
    ),
    "functions of wrong cells": (
        (("outcome:", "terms: log(crp) + sqrt(age)\noutcome:"), ("[0, 120]", "[1, 120]")),
        cell(cell(table(), "crp", (2, "0"), (3, "low")), "age", (9, "-4"), (8, "old")),
        [
            "column 'crp': 1 cell for which log(crp) has no value, in row 2: correct",
            "column 'crp': 1 cell of text, in row 3",
            "column 'age': 1 cell outside 1 to 120 years, in row 9",
            "column 'age': 1 cell of text, in row 8",
        ],
    ),
    "labels": (
        (("age: {type: integer, unit: years, bounds: [0, 120]}", "age: {type: integer}"),),
        cell(table(), "age", (3, "9007199254740993")).with_columns(
            died=pl.Series(["Zaphod", "Trillian", "yes"] * 4)
        ),
        [
            "column 'age': 1 number of 2**53 or more, in row 3: declare type: number, or type: dr",
            "target 'died' must have two classes, got 3",
        ],
    ),
    "positive": (
        (("positive: yes", "positive: dead"),),
        table(),
        [
            "positive must be one of the two classes of target 'died', got 'dead': correct "
            "positive in the schema, fl-he schema TABLE --target died drafts it with frequent "
            "labels",
        ],
    ),
    "points": (
        (("outcome:", "reading: {separator: ;, decimal: ','}\noutcome:"),),
        cell(table(), "age", (3, "1.040,0")).with_columns(crp=pl.lit("1.500")),
        [
            "column 'age': 1 cell with a point, in row 3: write decimal commas and no thousands",
            "column 'crp': 12 cells with a point, the first in rows 2, 3, 4, 5, 6: write decimal",
        ],
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_all_planted_faults_are_found_in_one_call(tmp_path: Path, name: str) -> None:
    changes, frame, expected = SPOILED[name]
    described, path = schema(*changes), tmp_path / "table.csv"
    frame.write_csv(path, separator=described.reading.separator)
    checked = check_table(path, described)
    told = sorted(fault.words for fault in checked.faults)
    assert len(told) == len(expected), told
    for words, wanted in zip(told, sorted(expected), strict=True):
        assert words.startswith(wanted)
    with pytest.raises(DataError) as refusal:
        load_by_schema(path, described)
    for text in (*told, str(refusal.value)):
        assert not any(cell in text for cell in SECRET)


def test_bounds_are_plausible_values(tmp_path: Path) -> None:
    data = load(tmp_path, cell(table(), "age", (2, "0"), (3, "120")))
    assert column(data, "age")[:2] == [0.0, 120.0]


def test_rows_are_left_out_for_columns_of_the_model_alone(tmp_path: Path) -> None:
    holes = saved(tmp_path, cell(table(), "crp", (3, None)))
    change, terms = ("crp: {type: number}", DROPPED), ("outcome:", "terms: age\noutcome:")
    assert load_by_schema(holes, schema(change, terms)).examples == 12
    assert check_table(holes, schema(change, terms)).notes == ()
    assert load_by_schema(holes, schema(change)).examples == 11


def test_rows_are_compared_by_their_cells_alone(tmp_path: Path) -> None:
    frame = cell(cell(table(), "crp", (3, None)), "sex", (4, None))
    missing = (("crp: {type: number}", MARKED), ("[F, M]", "[F, M], missing: level"))
    terms = ("outcome:", "terms: spline(age, knots=[40, 45, 50]) + sex\noutcome:")
    other = (
        ("[F, M]", "[M, D, F], missing: level"),
        ("2023-01-01", "2020-01-01"),
        missing[0],
        terms,
    )
    names, path = ("sex", "admitted", "crp", "age"), saved(tmp_path, frame)
    one = rows_by_schema(path, schema(*missing), names)
    same = rows_by_schema(path, schema(*other), names)
    assert one is not None
    assert same is not None
    assert one.feature_names == same.feature_names == ("admitted", "age", "crp", "sex")
    np.testing.assert_array_equal(one.features, same.features)
    saved(tmp_path, cell(frame, "admitted", (9, "2023-02-28")))
    changed = rows_by_schema(path, schema(*missing), names)
    assert changed is not None
    assert [*np.flatnonzero((changed.features != one.features).any(axis=1))] == [7]
    assert len({*one.features[:4, 3]}) == 3
    assert rows_by_schema(path, schema(*missing), ("id",)) is None


def test_rows_of_another_width_are_told_with_other_faults(tmp_path: Path) -> None:
    path = saved(tmp_path, cell(table(), "age", (3, "200")))
    path.write_text(path.read_text() + "P,1\n")
    told = [fault.words for fault in check_table(path, schema()).faults]
    assert told[0] == "every row must have 7 cells as the header has, got 2 in line 14"
    assert told[1].startswith("column 'age': 1 cell outside 0 to 120 years, in row 3")


def test_a_row_to_predict_must_be_complete_and_needs_no_outcome(tmp_path: Path) -> None:
    frame = table().drop("died", "id")
    features, names, rows = features_by_schema(saved(tmp_path, frame), schema())
    assert names == load(tmp_path, table()).feature_names
    np.testing.assert_array_equal(features, load(tmp_path, table()).features)
    assert rows.numbers.tolist() == [*range(2, 14)]
    holes = saved(tmp_path, cell(frame, "crp", (4, None)))
    with pytest.raises(DataError, match="column 'crp': 1 missing cell, in row 4: fill them in: a"):
        features_by_schema(holes, schema(("crp: {type: number}", DROPPED)))


def test_faulty_rows_are_passed_over_and_told_one_by_one(tmp_path: Path) -> None:
    changes = (
        ("crp: {type: number}", DROPPED),
        ("outcome: {", "terms: age + log(crp) + smoker\noutcome: {"),
    )
    frame = cell(table().drop("died", "id"), "crp", (4, None), (7, "-1"))
    frame = cell(cell(frame, "age", (4, "Zaphod"), (8, "200")), "smoker", (9, "Trillian"))
    faulty = FaultyRows()
    found, names, rows = features_by_schema(saved(tmp_path, frame), schema(*changes), {}, faulty)
    wrong = [2, 5, 6, 7]
    assert np.flatnonzero(faulty.wrong).tolist() == wrong
    whole = load(tmp_path, table(), *changes)
    assert names == whole.feature_names
    np.testing.assert_array_equal(np.delete(found, wrong, 0), np.delete(whole.features, wrong, 0))
    assert np.isnan(found[wrong]).all()
    assert faulty.lines(rows, "abcdefghijkl") == [
        "row 4 ('c'): column 'age': cell of text; column 'crp': missing cell",
        "row 7 ('f'): column 'crp': cell for which log(crp) has no value",
        "row 8 ('g'): column 'age': cell outside 0 to 120 years",
        "row 9 ('h'): column 'smoker': cell other than 0, 1, true, false, yes and no",
    ]


def test_rows_without_any_value_are_told_and_have_no_prediction(tmp_path: Path) -> None:
    path = saved(tmp_path, table())
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["", *lines[:4], "," * 6, "", *lines[4:], "," * 6]) + "\n")
    note = "not read, as without any value: 2 rows, the first is row 6"
    assert check_table(path, schema()).notes == (note,)
    assert load_by_schema(path, schema()).notes == (note,)
    with pytest.raises(DataError) as refusal:
        features_by_schema(path, schema())
    assert [fault.words for fault in refusal.value.faults] == [
        "row 6 has no values, the first of 2 such rows: fill them in, or remove such rows"
    ]


def test_a_table_without_rows_left_is_refused(tmp_path: Path) -> None:
    every = tuple((row, None) for row in range(2, 14))
    with pytest.raises(DataError, match="each of the table's 12 rows has a missing cell"):
        load(tmp_path, cell(table(), "crp", *every), ("crp: {type: number}", DROPPED))
    checked = check_table(tmp_path / "table.csv", schema(("crp: {type: number}", DROPPED)))
    assert [fault.words for fault in checked.faults] == [
        "each of the table's 12 rows has a missing cell"
    ]
    for change in (("crp: {type: number}", DROPPED), ("positive: yes", "missing: drop-row")):
        with pytest.raises(DataError, match="the table has no rows"):
            load(tmp_path, table(0), change)
        checked = check_table(saved(tmp_path, table(0)), schema(change))
        assert [fault.words for fault in checked.faults] == ["the table has no rows"]


def test_infinite_products_are_refused_by_name(tmp_path: Path) -> None:
    large = cell(table(), "crp", (3, "1e300")).with_columns(age=pl.lit("1e200"))
    changes = (("integer, unit: years, bounds: [0, 120]", "number"),)
    with pytest.raises(DataError, match=r"infinite or undefined: 'age:crp'"):
        load(tmp_path, large, *changes, ("outcome:", "terms: age:crp\noutcome:"))


def test_dates_count_from_their_day(tmp_path: Path) -> None:
    days = [(date(2023, 1, 1 + place) - date(2020, 2, 28)).days for place in range(12)]
    frame = table().with_columns(admitted=pl.Series([f"{1 + place}.1.2023" for place in range(12)]))
    change = ("since: 2023-01-01", "since: 2020-02-28, format: DD.MM.YYYY")
    assert column(load(tmp_path, frame, change), "admitted") == days


@pytest.mark.slow
def test_the_faults_of_a_large_table_are_counted(tmp_path: Path) -> None:
    rows, rng = 200_000, np.random.default_rng(1)
    numbers = {f"n{place}": rng.normal(50, 10, rows).round(3) for place in range(70)}
    levels = {f"c{place}": rng.choice(["a", "b", "c"], rows) for place in range(20)}
    days = pl.Series(rng.integers(0, 5000, rows)).cast(pl.Int32).cast(pl.Date)
    dates = {f"d{place}": days for place in range(9)}
    frame = pl.DataFrame({**numbers, **levels, **dates, "died": rng.choice(["yes", "no"], rows)})
    path = saved(tmp_path, cell(frame, "n3", (100_000, "x"), (200_001, "y")))
    kinds = {
        **dict.fromkeys(numbers, "type: number, bounds: [-100, 200]"),
        **dict.fromkeys(levels, "type: category, levels: [a, b, c]"),
        **dict.fromkeys(dates, "type: date, since: 1970-01-01"),
    }
    lines = [f"  {name}: {{{kind}}}" for name, kind in kinds.items()]
    described = schema_of(
        parse_yaml("\n".join(["columns:", *lines, "outcome: {column: died, positive: yes}"]))
    )
    (fault,) = check_table(path, described).faults
    assert fault.words.startswith("column 'n3': 2 cells of text, in rows 100000, 200001: ")


def test_a_wide_table_is_read_in_linear_time(tmp_path: Path) -> None:
    def seconds(columns: int) -> float:
        names = [f"c{place}" for place in range(columns)]
        lines = [f"  {name}: {{type: number, bounds: [0, 9]}}" for name in names]
        described = schema_of(
            parse_yaml("\n".join(["columns:", *lines, "outcome: {column: died, positive: yes}"]))
        )
        values = {name: [0.5, 1.5] * 10 for name in names}
        path = saved(tmp_path, pl.DataFrame({**values, "died": ["yes", "no"] * 10}))
        began = time.process_time()
        assert load_by_schema(path, described).features.shape == (20, columns)
        return time.process_time() - began

    few = min(seconds(1_000) for _ in range(3))
    assert seconds(8_000) < 8 * 4 * few, "quadratic: 64 times"
