from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.tables.table_file import read_table


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        " a ,b \r\n1,x\r\n2,y",
        "\ufeffa,b\n1,x\n\n2,y\n\n,\n",
        'a,"b"\n"1",x\n2,"y"\n',
    ],
)
def test_a_csv_file_is_read_as_text_with_stripped_names(tmp_path: Path, content: str) -> None:
    table, _ = read_table(written(tmp_path, content))
    assert table.to_dict(as_series=False) == {"a": ["1", "2"], "b": ["x", "y"]}


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    table, rows = read_table(written(tmp_path, "a,b\n1,x\n\n,\n2,\n3,\n"))
    assert table["a"].to_list() == ["1", "2", "3"]
    assert rows.numbers.to_list() == [2, 5, 6]
    assert rows.first(table["b"].is_null()) == "row 5 (the header is row 1)"


def test_rows_of_a_parquet_file_are_numbered_from_one(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"a": [1, None, None]}).write_parquet(path)
    table, rows = read_table(path)
    assert rows.first(table["a"].is_null()) == "row 2"


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "table.PARQUET"
    pl.DataFrame({"a ": [1, 2], " b": ["x", "y"]}).write_parquet(path)
    table, _ = read_table(path)
    assert table.schema == {"a": pl.Int64, "b": pl.String}
    assert table["a"].to_list() == [1, 2]


def test_a_name_with_wildcards_is_one_file(tmp_path: Path) -> None:
    written(tmp_path, "a,b\n1,2\n", "one.csv")
    with pytest.raises(DataError, match="which was not found"):
        read_table(tmp_path / "*.csv")
    table, _ = read_table(written(tmp_path, "a,b\n3,4\n", "[on]*.csv"))
    assert table.row(0) == ("3", "4")


def test_an_absent_file_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "absent.csv"
    with pytest.raises(DataError) as caught:
        read_table(path, hint="it is on the shelf")
    assert str(caught.value) == (
        f"data file must exist, got {str(path)!r}, which was not found: it is on the shelf"
    )
    with pytest.raises(DataError, match=r"which was not found$"):
        read_table(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a \.csv or \.parquet file, got '.*\.xlsx'"):
        read_table(written(tmp_path, "a\n1\n", "table.xlsx"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.parquet", b"SECRET"),
        ("table.parquet", b""),
    ],
)
def test_a_damaged_file_is_refused_without_its_content(
    tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(DataError, match="must be a readable table, got") as caught:
        read_table(written(tmp_path, content, name))
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("at", [49, 159])
def test_a_file_on_which_polars_panics_is_refused(tmp_path: Path, at: int) -> None:
    path = tmp_path / "table.parquet"
    table = pl.DataFrame({"age": [1.0, 2.0], "state": [0.0, 1.0]})
    table.write_parquet(path, compression="uncompressed")
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="must be a readable table, got"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must have a header and rows, got an empty file '.*/table.csv'$"),
        (b"\n\n", "must have a header and rows, got an empty file"),
        (b"a,b\n1,2\n1,SECRET,3\n", "every row must have 2 cells .*, got 3 in line 3$"),
        (b'a,b\n1,"SECRET\n3,4', "quotes must .* be closed, .* before line 3$"),
        (b'a,b\n1,"x"SECRET\n3,4', "quotes must enclose whole cells .* before line 2$"),
        (b"a,b\n1,\xff\xfe\n", "must be UTF-8 text, got another encoding$"),
        ("a,b\n1,2\n".encode("utf-16"), "must be UTF-8 text, got another encoding$"),
        (b"a;b\n1;2,5\n", "separated by commas, got a header of one cell with semicolons: save"),
        (b"a\tb\n1\t2\n", "separated by commas, got a header of one cell with tabs: save"),
        (b"a|b\n1|2\n", "separated by commas, got a header of one cell with bars: save"),
    ],
)
def test_text_that_is_no_csv_file_of_ours_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_table(written(tmp_path, content))
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.mkdir()
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value) == f"data file must be a file, got the folder {str(path)!r}"
    assert caught.value.setting == "path"


def test_the_path_that_was_looked_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"got '{tmp_path}/no.csv', which was not found$"):
        read_table(Path("no.csv"))


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have rows, got none"):
        read_table(written(tmp_path, "a,b\n\n"))


@pytest.mark.parametrize("header", ["a,b,a", "a,b,a ", " b,b,c"])
def test_columns_of_one_name_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(
        DataError, match=r"column names must differ, got '[ab]' more than once: rename"
    ):
        read_table(written(tmp_path, f"{header}\n1,2,3\n"))


def test_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 2 without a name, the first is column 2 of 3"):
        read_table(written(tmp_path, "a,, \n1,2,3\n"))


def test_a_file_without_a_header_is_refused_without_its_first_record(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, "Ada Lovelace,36,1.61\nAlan Turing,41,1.78\n"))
    assert str(caught.value) == (
        "data file must have a header of names, got 2 names that are numbers: "
        "put a row with the names of the columns first"
    )
