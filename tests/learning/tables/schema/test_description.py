"""Schemas in files: their meaning, and refusals of hostile and mistaken ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from cpu_time import at_most
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.learning.errors import DataError
from fl_he.learning.tables.schema import yaml_text
from fl_he.learning.tables.schema.description import Schema, read_schema, schema_of
from fl_he.learning.tables.schema.yaml_text import MOST_TEXT, parse_yaml

SCHEMA = """
columns:
  age: {type: number, unit: years, bounds: [0, 120], aliases: [Alter]}
  sex: {type: category, levels: [M, F], reference: F}
  smoker: {type: category, levels: [no, yes], missing: level}
  crp: {type: number, bounds: [0, inf], missing: drop-row}
  admitted: {type: date, since: 2023-01-01, bounds: [2022-01-01, 2024-01-01]}
  id: {type: drop}
outcome: {column: died, positive: yes}
reading: {separator: ";", decimal: ",", encoding: latin-1, na_values: [-, "<0.3"]}
"""


def parsed(text: str) -> Schema:
    return schema_of(parse_yaml(text))


def test_a_schema_is_read(tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(SCHEMA)
    schema = read_schema(path)
    assert schema.used == ("age", "sex", "smoker", "crp", "admitted")
    assert schema.columns["age"].limits == (0.0, 120.0)
    assert schema.columns["crp"].limits == (0.0, math.inf)
    assert schema.columns["admitted"].limits == (-365.0, 365.0)
    assert schema.columns["sex"].coded == ("F", "M")
    assert schema.columns["smoker"].coded == ("no", "yes", "missing")
    assert schema.outcome.positive == "yes"
    assert schema.reading.na_values == ("-", "<0.3")


def test_the_digest_is_of_the_meaning() -> None:
    same = SCHEMA.replace("{type: drop}", "# not read\n    type: drop").replace(
        "{column: died, positive: yes}", "{positive: 'yes', column: died}"
    )
    assert parsed(SCHEMA).digest == parsed(same).digest
    assert parsed(SCHEMA).digest != parsed(SCHEMA.replace("120", "121")).digest
    assert parsed(parsed(SCHEMA).text).digest == parsed(SCHEMA).digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("type: number, unit", "typ: number, unit"), "column 'age': has no setting 'typ'; did"),
        (("reading:", "readings:"), "has no setting 'readings'; did you mean reading?"),
        (("positive:", "positiv:"), "outcome: has no setting 'positiv'; did you mean positive?"),
        (("decimal:", "comma:"), "reading: has no setting 'comma'; known are separator, decimal"),
        (("type: drop", "type: dropped"), "column 'id': type: must be one of 'number', 'integer'"),
        (("reference: F", "reference: f"), "reference must be one of the levels, got 'f'"),
        (("[M, F]", "[F]"), "levels must be at least 2 different texts"),
        (("[M, F]", "[F, F]"), "levels must be at least 2 different texts"),
        (("[0, 120]", "[120, 0]"), "bounds must be the lower one, then the higher one"),
        (("[0, 120]", "[0, nan]"), "bounds must be the lower one, then the higher one"),
        (("[0, 120]", "[0]"), "column 'age': bounds: must be two values, the lower one, then"),
        (("[0, 120]", "[0, 1, 2]"), "column 'age': bounds: must be two values, the lower one, th"),
        (("[0, 120]", "[0, .inf]"), "bounds must be two numbers, or -inf and inf for no bound"),
        (("since: 2023-01-01, ", ""), "since must be given for a date, such as 2020-01-01"),
        (("since: 2023-01-01", "since: 1.1.2023"), "since: must be a date such as 2020-01-31"),
        (("missing: level", "missing: mean"), "missing must be one of refuse, drop-row, level"),
        (("missing: drop-row", "missing: level"), "missing must be one of refuse, drop-row, ind"),
        (
            ("missing: drop-row", "missing: median"),
            "drop-row, indicator, mean for type number, got 'median'",
        ),
        (("{type: drop}", "{type: drop, unit: g}"), "unit must be left out of a column of type"),
        (("[Alter]", "[crp]"), "names and aliases must differ, got 'crp' for 'age' and 'crp'"),
        (("[Alter]", "Alter"), "column 'age': aliases: must be a list"),
        (("  id:", "  died:"), "columns must not name the outcome's column"),
        (("  id:", "  (Intercept):"), "must be another name: that is a model's constant term"),
        (("  id:", "  ' id':"), "without blanks around it"),
        (('";", decimal', '",", decimal'), "separator and decimal must differ"),
        (("latin-1", "utf-7"), "reading: encoding: must be one of 'utf-8'"),
        (("positive: yes", "positive: yes, threshold: 3"), "at most one of positive, threshold"),
        (("positive: yes", "classes: [a, b]"), "classes must be at least 3 different labels"),
        (("positive: yes", "threshold: inf"), "outcome: threshold: "),
        (("reading:", "terms: age + sexe\nreading:"), "at position 7; did you mean 'sex'?"),
        (
            ("reading:", "terms: age + id\nreading:"),
            "got 'id' at position 7, which is of type drop",
        ),
        (
            ("reading:", "terms: age + died\nreading:"),
            "got 'died' at position 7, which is the outc",
        ),
        (("reading:", "terms: Alter\nreading:"), "position 1, which is an alias of 'age'"),
        (("reading:", "terms: log(sex)\nreading:"), "log must be of numbers, got 'sex'"),
        (
            ("reading:", "terms: log(crp)\nreading:"),
            "terms: log(crp) has no value at 0, which is within the bounds of 'crp': raise the "
            "lower bound",
        ),
        (
            ("reading:", "terms: age:log(sqrt(crp))\nreading:"),
            "terms: log(sqrt(crp)) has no value at",
        ),
        (
            ("reading:", "terms: 'spline(age, knots=[-1, 20, 30, 121])'\nreading:"),
            "knots of spline(age) must be within the bounds of 'age', 0 to 120, got -1, 121",
        ),
        (
            ("reading:", "terms: 'spline(admitted, knots=[-365, 0, 366])'\nreading:"),
            "of spline(admitted) must be within the bounds of 'admitted', -365 to 365, got 366",
        ),
        (
            ("reading:", "terms: 'spline(sqrt(age), knots=[1, 2, 11])'\nreading:"),
            "knots of spline(sqrt(age)) must be within the bounds of 'age', 0 to 10.9545, got 11",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_named(change: tuple[str, str], words: str) -> None:
    assert SCHEMA.count(change[0]) == 1
    with pytest.raises(DataError) as refusal:
        parsed(SCHEMA.replace(*change))
    assert words in str(refusal.value)


def test_functions_fit_the_bounds() -> None:
    splines = "spline(age, knots=[0, 50, 120]) + spline(sqrt(crp), knots=[0, 1, 9])"
    terms = f"log(size) + sqrt(crp) + {splines}"
    columns = "  size: {type: number, bounds: [-inf, 9]}\n  crp:"
    text = SCHEMA.replace("  crp:", columns).replace("reading:", f"terms: {terms}\nreading:")
    assert len(parsed(text).model) == 4
    wrong = text.replace("[0, 50, 120]", "[0, 50, 121]").replace("sqrt(crp) +", "log(crp) +")
    with pytest.raises(DataError) as refusal:
        parsed(wrong)
    assert all(
        words in str(refusal.value)
        for words in ("terms: log(crp) has no value at 0", "; terms: knots")
    )


def test_all_mistakes_are_told_at_once() -> None:
    text = SCHEMA.replace("type: drop", "typ: drop").replace("[0, 120]", "[9, 1]")
    with pytest.raises(DataError) as refusal:
        parsed(text.replace("decimal", "decimals"))
    told = [fault.words for fault in refusal.value.faults]
    assert len(told) == 4
    assert "column 'id': type: must be given" in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x 1\nb: *x", "a schema has an anchor, an alias or a tag in line 1: write the value"),
        ("b: *x", "an anchor, an alias or a tag in line 1"),
        ("a: !!python/object/apply:os.system ['true']", "an anchor, an alias or a tag in line 1"),
        ("a: !!int 3", "an anchor, an alias or a tag in line 1"),
        ("a: 1\nb: 2\na: 3", "a key must be there once, got 'a' again in line 3"),
        ("a: {b: 1, b: 2}", "a key must be there once, got 'b' again in line 1"),
        ("? [a, b]\n: 1", "a key must be text, not a list or a map, in line 1"),
        ("a: 1\n---\nb: 1", "a schema must be one document, got 2"),
        ("", "a schema must be one document, got 0"),
        (r'a: "\UFFFFFFFF"', "a schema is not YAML"),
        (r'a: "\ud800"', "a schema is not YAML"),
        (
            "a: [1, 2",
            "a schema is not YAML in or before line 2: brackets, braces and quotes must be",
        ),
        ("a: {b: 1\nc: 2\nd: 3\n", "a schema is not YAML in or before line"),
        ("[" * 100_000, "a schema has more than 8 levels in line 1"),
        ("{a: " * 100_000, "a schema has more than 8 levels in line 1"),
        ("- " * 100_000, "a schema has more than 8 levels in line 1"),
        ("a: \x1b[2J", "a schema has control characters: it must be printable text"),
        ("a" * (MOST_TEXT + 1), f"a schema must have at most {MOST_TEXT} characters"),
        ("- a", "a schema must be a map of columns, outcome, terms, reading"),
        ("columns", "a schema must be a map of columns, outcome, terms, reading"),
        ("columns: 3\noutcome: 3", "columns: must be a map; outcome: must be a map of settings"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_refused_at_once(text: str, words: str) -> None:
    with at_most(millions=30), pytest.raises(DataError) as refusal:
        parsed(text)
    assert words in str(refusal.value)


@given(st.text(alphabet="ab:{}[]-?|>&*!%@,\"'#\\ \nUx0F~", max_size=80))
@settings(max_examples=400, deadline=None)
def test_no_text_gets_past_the_reader(text: str) -> None:
    try:
        parsed(text)
    except DataError:
        return
    raise AssertionError("such a text is no schema")


def test_the_reader_without_libyaml_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "_Loader", yaml.BaseLoader)
    assert parsed(SCHEMA).text
    for text in ('a: "\\UFFFFFFFF"', "a: &x 1", "a: !!int 1", "[" * 100, "a: 1\na: 1", "a: [1"):
        with pytest.raises(DataError):
            parsed(text)


def test_scalars_are_the_texts_that_they_are() -> None:
    assert parse_yaml("a: [no, 1.10, null, 0x10, '']") == {"a": ["no", "1.10", "null", "0x10", ""]}


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a schema must be a file that can be read"):
        read_schema(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes("columns: {Größe: {}}".encode("latin-1"))
    with pytest.raises(DataError, match="a schema is not UTF-8 text"):
        read_schema(tmp_path / "latin.yaml")


def test_a_wide_schema_is_read_in_linear_time() -> None:
    def text(columns: int) -> str:
        lines = [f"  c{place}: {{type: number}}" for place in range(columns)]
        return "\n".join(["columns:", *lines, "outcome: {column: died, positive: yes}"])

    with at_most(millions=30):
        assert len(parsed(text(8_000)).model) == 8_000
