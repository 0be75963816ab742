"""Drafts of schemas: each is read again, and names the columns with faults."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from command_line import fl_he
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.learning.errors import DataError
from fl_he.learning.tables.columns import as_number
from fl_he.learning.tables.schema.application import check_table
from fl_he.learning.tables.schema.description import read_schema
from fl_he.learning.tables.schema.draft import draft_schema

ROWS, MIN_CELL = 12, 2
TRUTH = {"0", "1", "true", "false", "yes", "no"}
SEPARATORS = {",": "csv", ";": "csv", "\t": "tsv", "|": "txt"}
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=6)
#: A first line of a separator or of ``sep=`` is refused as no line of names.
names = texts.map(str.strip).filter(
    lambda name: (
        name
        and not set(name) & set(SEPARATORS)
        and as_number(name) is None
        and not name.lower().startswith("sep=")
    )
)
numbers = st.one_of(
    st.sampled_from(["0", "1", "1.0", "-3", "2.5", "1e3", "inf", "9007199254740993", "007"]),
    st.sampled_from(["1,5", "1.234", "1 000"]),
)
words = st.sampled_from(["yes", "no", "Yes", "TRUE", "false", "<0.3", "NA", "", "null", "?", "~"])
dates = st.sampled_from(["2023-01-31", "31.01.2023", "01/02/2023", "13/02/2023", "2023-02-30"])
pools = st.lists(st.one_of(numbers, words, dates, texts), min_size=1, max_size=5)


@st.composite
def columns(draw: st.DrawFn) -> dict[str, list[str]]:
    """Return a table's columns by their names, ``died`` among them."""
    found = {}
    for name in draw(st.lists(names, unique=True, max_size=5)):
        pool = st.sampled_from(draw(pools))
        found[name] = draw(st.lists(pool, min_size=ROWS, max_size=ROWS))
    labels = draw(st.sampled_from([("yes", "no"), ("0", "1"), ("a", "b", "c"), ("sick", "", "0")]))
    found["died"] = draw(st.lists(st.sampled_from(labels), min_size=ROWS, max_size=ROWS))
    return found


def write(folder: str, table: dict[str, list[str]], separator: str, encoding: str) -> Path:
    path = Path(folder) / f"table.{SEPARATORS[separator]}"
    with path.open("w", newline="", encoding=encoding) as file:
        rows = csv.writer(file, delimiter=separator)
        rows.writerow(table)
        rows.writerows(zip(*table.values(), strict=True))
    return path


@settings(deadline=None)
@given(columns(), st.sampled_from([*SEPARATORS]), st.sampled_from(["utf-8", "utf-16"]))
def test_a_draft_is_read_again_and_names_the_columns_with_faults(
    table: dict[str, list[str]], separator: str, encoding: str
) -> None:
    with TemporaryDirectory() as folder:
        path, file = write(folder, table, separator, encoding), Path(folder) / "schema.yaml"
        text = draft_schema(path, "died", MIN_CELL)
        file.write_text(text, "utf-8")
        if text.startswith("# No column can be used"):
            with pytest.raises(DataError, match="columns"):
                read_schema(file)
            return
        schema = read_schema(file)
        checked = check_table(path, schema)
    lines = text.partition("columns:\n")[2].splitlines()
    outcome = next(line for line in lines if line.startswith("outcome: "))
    notes = dict(zip(schema.columns, lines, strict=False)) | {"died": outcome}
    with_faults = {fault.column for fault in checked.faults}
    told = ("has missing cells", "positive: the label", "fl-he check names faults")
    noted = {name for name, line in notes.items() if any(words in line for words in told)}
    assert noted - {"died"} == with_faults - {"died"}
    assert with_faults <= noted
    assert [*schema.columns] == [name for name in table if name != "died" and "`" not in name]
    for name, cells in table.items():
        if name in schema.columns and {cell.strip().lower() for cell in cells} <= TRUTH:
            assert schema.columns[name].type == "boolean"


def test_a_rare_yes_among_zeros_is_no_word_for_a_missing_cell(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("smokes,died\n" + "0,0\n0,1\n" * 20 + "yes,0\nyes,1\n" * 5, "utf-8")
    text = draft_schema(path, "died", MIN_CELL)
    assert "smokes: {type: boolean}" in text
    assert "missing" not in text.partition("columns:")[2]


def test_names_that_a_schema_cannot_have_are_told(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    signs, long = "\u200b" * 150, "n" * 201
    path.write_text(f"x{signs}y,{long},age,died\n" + "1,2,3,0\n1,2,4,1\n" * 6, "utf-8")
    text = draft_schema(path, "died", MIN_CELL)
    lines = [line for line in text.splitlines() if "no name for a schema" in line]
    assert [line.startswith("  # ") for line in lines] == [True, True]
    assert text.isprintable() or set(filter(lambda sign: not sign.isprintable(), text)) == {"\n"}
    path.with_suffix(".yaml").write_text(text)
    assert [*read_schema(path.with_suffix(".yaml")).columns] == ["age"]


def test_separators_in_quoted_names_are_no_separators(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for separator, form in ((";", 'separator: ";"'), ("\t", "separator: tab")):
        names = separator.join(('"Age, in years"', '"a;b"', "died"))
        path.write_text(f"{names}\n" + f"3{separator}2{separator}0\n" * 6)
        text = draft_schema(path, "died", MIN_CELL)
        assert f"reading: {{{form}}}" in text
        assert '"Age, in years": {type: integer}' in text


def test_a_boolean_shows_no_text_of_rare_cells(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("smoker,died\n" + "no,0\n" * 8 + "Yes,1\n" + "0,1\nTRUE,1\n")
    assert "smoker: {type: boolean}\n" in draft_schema(path, "died", 5)


def test_a_word_for_missing_numbers_is_missing_in_every_column(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [("1.5", "TRUE", "I", "31.01.2023"), ("2", "FALSE", "II", "01.02.2023")] * 10
    rows += [(".", ".", ".", ".")] * 3
    cells = "".join(f"{','.join(row)},{place % 2}\n" for place, row in enumerate(rows))
    path.write_text(f"hb,diabetes,ASA,day,died\n{cells}")
    lines = draft_schema(path, "died", MIN_CELL).splitlines()
    numeric = "has missing cells; instead of refuse: drop-row, indicator or mean"
    assert lines[3:7] == [
        f"  hb: {{type: number, missing: refuse}}  # {numeric}",
        f"  diabetes: {{type: boolean, missing: refuse}}  # {numeric}",
        "  ASA: {type: category, levels: [I, II], missing: refuse}  # the first is the reference; "
        "has missing cells; instead of refuse: drop-row or level",
        "  day: {type: date, since: 2000-01-01, format: DD.MM.YYYY, missing: refuse}  # "
        f"{numeric}",
    ]
    assert lines[-1] == 'reading: {na_values: ["."]}'
    path.with_suffix(".yaml").write_text("\n".join(lines))
    faults = check_table(path, read_schema(path.with_suffix(".yaml"))).faults
    assert [fault.words.partition(",")[0] for fault in faults] == [
        f"column '{name}': 3 missing cells" for name in ("hb", "diabetes", "ASA", "day")
    ]


def test_an_outcome_of_two_columns_is_drafted(tmp_path: Path) -> None:
    path, draft = tmp_path / "table.csv", tmp_path / "draft.yaml"
    rows = "".join(f"{30 + n},{n % 9},{n % 2},{n / 4 + 0.25}\n" for n in range(20))
    path.write_text(f"age,months,died,years seen\n{rows}")
    for others, line in (
        ({"event": "died"}, "outcome: {column: months, family: cox, event: died}"),
        (
            {"exposure": "years seen"},
            "outcome: {column: months, family: poisson, exposure: years seen}  "
            "# or negative_binomial or gamma",
        ),
    ):
        text = draft_schema(path, "months", MIN_CELL, **others)
        assert line in text.splitlines()
        draft.write_text(text)
        schema = read_schema(draft)
        assert not {*schema.columns} & {"months", *others.values()}
        assert check_table(path, schema).faults == ()
    path.write_text(path.read_text().replace(",1,", ",yes,"))
    text = draft_schema(path, "months", MIN_CELL, event="died")
    assert (
        "event: died}  # write died as 1 for an event and 0 for none in the tables; fl-he" in text
    )


def test_the_command_drafts_an_outcome_of_two_columns(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("age,months,died\n" + "50,3,0\n60,4,1\n" * 6)
    for option, family in (("--event", "cox"), ("--exposure", "poisson")):
        command = ("schema", "table.csv", "--target", "months", option, "died")
        code, printed, errors = fl_he(tmp_path, *command)
        assert code == 0, errors
        line = f"outcome: {{column: months, family: {family}, {option[2:]}: died}}"
        assert line in printed


@pytest.mark.parametrize(
    ("target", "others", "words"),
    [
        (None, {"event": "died"}, "event or exposure, one of them, must come with target"),
        ("age", {"event": "died", "exposure": "died"}, "one of them, must come with target"),
        ("age", {"event": "dead"}, "event must be one of the columns 'age', 'died', got 'dead'"),
        ("age", {"exposure": "age"}, "must be other columns than target"),
    ],
)
def test_columns_that_are_no_outcome_together_are_refused(
    tmp_path: Path, target: str | None, others: dict[str, str], words: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("age,died\n1,0\n2,1\n")
    with pytest.raises(DataError, match=words):
        draft_schema(path, target, MIN_CELL, **others)


def test_a_column_that_is_not_read_has_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [("x", "1.5", "a", f"v{place}") for place in range(40)]
    rows += [("", "x", "b" if place else "c", f"w{place}") for place in range(40)]
    cells = "".join(f"{','.join(row)},{place % 9},{place}.5\n" for place, row in enumerate(rows))
    path.write_text(f"one,mixed,rare,many,visits,hb\n{cells}")
    assert draft_schema(path, "hb", MIN_CELL).splitlines()[3:9] == [
        "  one: {type: drop}  # text of one value",
        "  mixed: {type: drop}  # numbers and text",
        "  rare: {type: drop}  # text of rare values",
        "  many: {type: drop}  # text of many values",
        "  visits: {type: integer}",
        "outcome: {column: hb}  # positive: the label that counts as 1, threshold:, classes: or "
        "family:",
    ]


def test_numbers_with_fractions_behind_whole_ones_are_neither_classes_nor_levels(
    tmp_path: Path,
) -> None:
    values = ["1"] * 8 + ["2"] * 9 + ["1.5"] * 7
    marks = ["low"] * 8 + ["7"] * 9 + ["7.5"] * 7
    rows = [
        f"{mark},{one % 5},{value}"
        for one, (mark, value) in enumerate(zip(marks, values, strict=True))
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["mark,a,stay", *rows, ""]))
    text = draft_schema(path, "stay", 5)
    assert "outcome: {column: stay}  # positive: the label that counts as 1, threshold:" in text
    assert "  mark: {type: drop}  # numbers and text\n" in text
