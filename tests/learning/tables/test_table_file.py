from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from cpu_time import at_most

from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import load_table
from fl_he.learning.tables.table import open_table
from fl_he.learning.tables.table_file import Block, TableFile


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def blocks(table: TableFile) -> list[Block]:
    return list(table.blocks(range(len(table.names))))


def read(path: Path) -> tuple[dict[str, list[object]], list[int]]:
    """Return a small table's columns by name, and the numbers of its rows."""
    table = open_table(path)
    (block,) = blocks(table)
    columns = {name: list(cells) for name, cells in zip(table.names, block.cells, strict=True)}  # type: ignore[arg-type]
    return columns, block.rows.tolist()


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        " a ,b \r\n1,x\r\n2,y",
        "\ufeffa,b\n1,x\n\n2,y\n\n,\n",
        'a,"b"\n"1",x\n2,"y"\n',
        "a,b\r1,x\r2,y\r",
    ],
)
def test_a_csv_file_is_read_as_text_with_stripped_names(tmp_path: Path, content: str) -> None:
    columns, _ = read(written(tmp_path, content))
    assert columns == {"a": ["1", "2"], "b": ["x", "y"]}


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    columns, rows = read(written(tmp_path, "a,b\n1,x\n\n,\n2,\n3,\n4,\n"))
    assert columns == {"a": ["1", "2", "3", "4"], "b": ["x", "", "", ""]}
    assert rows == [2, 5, 6, 7]


def test_rows_of_another_width_are_counted_and_short_ones_not_filled_up(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "a,b\n1,x\n4\n5,y,z\n6\n7,u\n"))
    (block,) = blocks(table)
    assert (block.rows.tolist(), block.cells) == ([2, 4, 6], [("1", "5", "7"), ("x", "y", "u")])
    assert [fault.words for fault in table.faults] == [
        "every row must have 2 cells as the header has, got 1 in line 3, the first of 2 such lines",
        "every row must have 2 cells as the header has, got 3 in line 4",
    ]


def test_short_rows_under_a_wide_header_cost_what_the_file_does(tmp_path: Path) -> None:
    """Filled-up rows of 342 kB once made 75,000,000 cells, and took minutes."""
    names = ",".join(f"c{number}" for number in range(50_000))
    path = written(tmp_path, f"{names},y\n" + "1\n" * 1500)
    refused = pytest.raises(DataError, match="the first of 1500 such lines; data file has no rows")
    with at_most(millions=45), refused:
        load_table(path, "y")


def test_a_long_file_is_read_in_blocks(tmp_path: Path) -> None:
    cells = [str(number) for number in range(50_000)]
    table = open_table(written(tmp_path, "\n".join(["a", *cells])))
    found = blocks(table)
    assert len(found) > 1
    assert [cell for block in found for cell in block.cells[0]] == cells  # type: ignore[union-attr]
    assert [row for block in found for row in block.rows.tolist()] == list(range(2, 50_002))


def test_a_header_below_blank_lines_is_the_header(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "\n\na,b\n1,x\n"))
    assert (table.names, table.header) == (["a", "b"], 3)
    assert blocks(table)[0].rows.tolist() == [4]


def test_rows_of_a_parquet_file_are_numbered_from_one(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"a": [1, 2, 3]}).write_parquet(path)
    assert open_table(path).header is None
    assert read(path)[1] == [1, 2, 3]


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "table.PARQUET"
    pl.DataFrame({"a ": [1, 2], " b": ["x", "y"]}).write_parquet(path)
    assert read(path)[0] == {"a": [1.0, 2.0], "b": ["x", "y"]}


def test_a_name_with_wildcards_is_one_file(tmp_path: Path) -> None:
    written(tmp_path, "a,b\n1,2\n", "one.csv")
    with pytest.raises(DataError, match="which was not found"):
        open_table(tmp_path / "*.csv")
    assert read(written(tmp_path, "a,b\n3,4\n", "[on]*.csv"))[0] == {"a": ["3"], "b": ["4"]}


def test_an_absent_file_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "absent.csv"
    with pytest.raises(DataError) as caught:
        open_table(path, hint="it is on the shelf")
    assert str(caught.value) == (
        f"data file must exist, got {str(path)!r}, which was not found: it is on the shelf"
    )
    with pytest.raises(DataError, match=r"which was not found$"):
        open_table(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a \.csv or \.parquet file, got '.*\.xlsx'"):
        open_table(written(tmp_path, "a\n1\n", "table.xlsx"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PAR1\x15", "a Parquet file: name it .parquet"),
        (b"PK\x03\x04\x14", "an Excel workbook or another zip file: save the table as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook: save the table as CSV UTF-8"),
        (b"\x1f\x8b\x08", "a gzip file: unpack it"),
        (b"ARROW1\0\0", "an Arrow file: save the table as Parquet"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".pq"])
def test_a_file_under_another_ending_is_named_as_what_it_is(
    tmp_path: Path, content: bytes, kind: str, ending: str
) -> None:
    if ending == ".parquet" and b"PAR1" in content:
        kind = "cannot be read"
    with pytest.raises(DataError, match=f"{ending}', which (is )?{kind}"):
        open_table(written(tmp_path, content + b"\0PAR1", f"table{ending}"))


@pytest.mark.parametrize("content", [b"SECRET", b"", b"PAR1", b"PAR1" * 3])
def test_a_damaged_file_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    whole = content.startswith(b"PAR1")
    words = "must be a readable table, got" if whole else "must be a whole Parquet file, got .*copy"
    with pytest.raises(DataError, match=words) as caught:
        open_table(written(tmp_path, content, "table.parquet"))
    assert "SECRET" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data file is empty, it has no header: '.*/table.csv'$"),
        (b"\n\n", "data file is empty, it has no header"),
        (b'a,b\n1,"SECRET\n3,4', "quotes must .* be closed: look at line 3 and above$"),
        (b'a,b\n1,"x"SECRET\n3,4', "quotes must enclose whole cells .* at line 2 and above$"),
        (
            b"a,b\n1,\xff\xfe\n",
            "is not UTF-8 text: save the table as CSV UTF-8$",
        ),
        (
            "a,b\n1,2\n".encode("utf-16"),
            "is not UTF-8 text: save the table as CSV UTF-8$",
        ),
        (b"a;b\n1;2,5\n", "separated by commas, got semicolons: save"),
        (b"a\tb\n1\t2\n", "separated by commas, got tabs: save"),
        (b"a|b\n1|2\n", "separated by commas, got bars: save"),
        (b"a, 1;b;c\n1;2;3\n", "separated by commas, got semicolons: save"),
        (b"a, 1;b;c\n1,5;2,5;3\n", "separated by commas, got semicolons: save"),
        (
            b"# SECRET\na,b\n1,2\n",
            "must begin with the names .*, but line 1 is a title, .*: remove",
        ),
        (b"\nsep=,\na,b\n1,2\n", "must begin with the names .*, but line 2 is a title, .*: remove"),
    ],
)
def test_text_that_is_no_csv_file_of_ours_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        blocks(open_table(written(tmp_path, content)))
    assert "SECRET" not in str(caught.value)
    assert caught.value.__context__ is None


def test_names_may_have_other_separators(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "a;b;c,x|y\n1,2\n"))
    assert table.names == ["a;b;c", "x|y"]


@pytest.mark.parametrize(
    ("more", "message"),
    [("", "got 3 in line 3"), ("1,2,3,4\n", "got 3 in line 3, the first of 2 such lines")],
)
def test_rows_longer_than_the_header_are_a_fault(tmp_path: Path, more: str, message: str) -> None:
    table = open_table(written(tmp_path, f"a,b\n1,2\n1,SECRET,3\n{more}"))
    blocks(table)
    (fault,) = table.faults
    assert fault.words == f"every row must have 2 cells as the header has, {message}"


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.mkdir()
    with pytest.raises(DataError) as caught:
        open_table(path)
    assert str(caught.value) == f"data file must be a file, got the folder {str(path)!r}"
    assert caught.value.faults[0].setting == "path"


def test_the_path_that_was_looked_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"got '{tmp_path}/no.csv', which was not found$"):
        open_table(Path("no.csv"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "a,b,a",
            "column names must differ, got several columns called 'a': rename them in the file",
        ),
        (
            "a,b,a ",
            "column names must differ, got several columns called 'a': rename them in the file",
        ),
        (" b,a,b,a", "got several columns called 'b', 'a': rename"),
        ("a,, ", "must name every column, got 2 without a name, the first is column 2 of 3"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_a_fault(
    tmp_path: Path, header: str, words: str
) -> None:
    table = open_table(written(tmp_path, f"{header}\n1,2,3\n"))
    (fault,) = table.name_faults()
    assert words in fault.words
    assert ": an index" not in fault.words


def test_a_first_column_without_a_name_is_taken_for_an_index(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, ",x,y\n0,1,2\n"))
    (fault,) = table.name_faults()
    assert fault.words.endswith("column 1 of 3: an index, as pandas and R write it")
    assert list(table.name_faults(unnamed=False)) == []


def test_a_file_without_a_header_is_refused_without_its_first_record(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_table(written(tmp_path, "Ada Lovelace,36,1.61\nAlan Turing,41,1.78\n"))
    assert str(caught.value) == (
        "data file must have a header of names, got numbers in columns 2, 3 of 3: put a row with "
        "the names of the columns first, or rename such columns"
    )


def test_inf_and_nan_are_names_beside_others(tmp_path: Path) -> None:
    assert open_table(written(tmp_path, "age,inf,nan\n1,2,3\n")).names == ["age", "inf", "nan"]
    with pytest.raises(DataError, match="got numbers in columns 1, 2 of 2: put"):
        open_table(written(tmp_path, "nan,1.5\n1,2\n"))
    with pytest.raises(DataError, match="got numbers in column 2 of 3: put"):
        open_table(written(tmp_path, "nan,2023,y\n1,2,3\n"))
