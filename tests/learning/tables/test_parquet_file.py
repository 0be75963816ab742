from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cpu_time import at_most
from quick import slow

from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import load_table
from fl_he.learning.tables.parquet_file import MOST_ROWS
from fl_he.learning.tables.table import open_table, read_features

WHOLE = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
DAY = datetime.datetime(2023, 4, 5, 6, 7)


def saved(folder: Path, **columns: Any) -> Path:
    path = folder / "table.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.mark.parametrize("kind", [*WHOLE, "Float32", "Float64"])
def test_numbers_of_every_width_are_features_and_labels(tmp_path: Path, kind: str) -> None:
    column = pl.Series([0, 1, 1], dtype=getattr(pl, kind))
    data = load_table(saved(tmp_path, age=column, died=column), "died")
    assert data.features[:, 0].tolist() == data.labels.tolist() == [0.0, 1.0, 1.0]
    assert data.positive == "1"
    other = saved(tmp_path, age=column, died=column)
    assert load_table(other, "died", positive="1").labels.tolist() == [0.0, 1.0, 1.0]
    assert load_table(other, "died", threshold=1).labels.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    "kind", [pl.UInt64, pl.Decimal(20, 0), pl.Decimal(22, 2), pl.String, pl.Categorical]
)
def test_integers_beyond_float64_are_rounded_and_noted(
    tmp_path: Path, kind: Any, form: str
) -> None:
    large = pl.Series([2**64 - 1, 2**53, 2**53 + 1, 7])
    large = large.cast(pl.String) if kind == pl.Categorical else large
    frame = pl.DataFrame(
        {
            "patient": large.cast(kind),
            "dropped": large.cast(kind),
            "weight": [1e300, 2.0**60, 3.5, 4.0],
            "score": large.cast(kind),
        }
    )
    path = tmp_path / f"table.{form}"
    frame.write_csv(path) if form == "csv" else frame.write_parquet(path)
    data = load_table(path, "score", threshold=2.0**53 + 1, drop=["dropped"])
    assert data.features[:, 0].tolist() == [2.0**64, 2.0**53, 2.0**53, 7.0]
    assert data.labels.tolist() == [1.0, 1.0, 1.0, 0.0]
    first = 2 if form == "csv" else 1
    assert data.notes == tuple(
        f"column '{name}' has 2 integers, the first in row {first}, of more digits than float64 "
        "has: they are rounded, and some that differ may be equal now; leave the column out if it "
        "names patients"
        for name in ("score", "patient")
    )


def test_a_missing_cell_beside_large_integers_is_refused(tmp_path: Path) -> None:
    column = pl.Series([2**53 + 1, None], dtype=pl.Int64)
    with pytest.raises(DataError, match=r"got 1 missing cell in row 2; fill missing"):
        load_table(saved(tmp_path, age=column, died=[0, 1]), "died")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([True, False]), [1.0, 0.0]),
        (pl.Series([Decimal("0.50"), Decimal("-1.25")]), [0.5, -1.25]),
        (pl.Series(["1.5", " 2"]), [1.5, 2.0]),
        (pl.Series(["1.5", "2"], dtype=pl.Categorical), [1.5, 2.0]),
        (pl.Series(["1.5", "2"], dtype=pl.Enum(["2", "1.5"])), [1.5, 2.0]),
    ],
)
def test_what_stands_for_numbers_is_read(
    tmp_path: Path, column: pl.Series, expected: list[float]
) -> None:
    found, _ = read_features(saved(tmp_path, age=column), ["age"], "a table")
    assert found[:, 0].tolist() == expected


_DATES = "; write dates as numbers, such as years or days ('admitted')"
REMEDIES = {
    "2 cells of text": "; code categories as columns of 0 and 1 ('admitted')",
    **dict.fromkeys(("2 dates", "2 dates with a time"), _DATES),
}


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pl.Series(["M", "F"], dtype=pl.Categorical), "2 cells of text"),
        (pl.Series(["M", "F"], dtype=pl.Enum(["F", "M"])), "2 cells of text"),
        (pl.Series([DAY.date()] * 2), "2 dates"),
        (pl.Series([DAY] * 2), "2 dates with a time"),
        (pl.Series([DAY.time()] * 2), "2 times of day"),
        (pl.Series([DAY - DAY] * 2), "2 durations"),
        (pl.Series([[1.0], [2.0]]), "2 lists"),
        (pl.Series([[1.0], [2.0]], dtype=pl.Array(pl.Float64, 1)), "2 lists"),
        (pl.Series([{"x": 1}] * 2), "2 records"),
        (pl.Series([b"1", b"2"]), "2 cells of bytes"),
    ],
)
def test_what_is_no_number_is_refused_by_name(
    tmp_path: Path, column: pl.Series, found: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_features(saved(tmp_path, size=[1, 2], admitted=column), ["size", "admitted"], "x")
    assert str(caught.value) == (
        f"column 'admitted' must be numeric, got {found}, the first in row 1"
        f"{REMEDIES.get(found, '')}"
    )
    dropped = saved(tmp_path, size=[1, 2], admitted=column, died=[0, 1])
    assert load_table(dropped, "died", drop=["admitted"]).feature_names == ("size",)


@pytest.mark.parametrize("kind", ["Int128", "UInt128"])
def test_longer_whole_numbers_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    wide = pl.Series([1, 2], dtype=getattr(pl, kind))
    with pytest.raises(DataError) as caught:
        open_table(saved(tmp_path, size=[1, 2], number=wide))
    assert str(caught.value) == (
        "integers must be of at most 64 bits; they are longer in column 'number': save them as "
        "Int64 or Float64"
    )


@pytest.mark.parametrize("kind", [pl.Float64, pl.Int64, pl.Boolean, pl.String, pl.Null])
def test_missing_cells_are_counted_with_their_row(tmp_path: Path, kind: Any) -> None:
    first = None if kind is pl.Null else {pl.String: "1"}.get(kind, 1)
    column = pl.Series([first, None, None], dtype=kind, strict=False)
    with pytest.raises(DataError) as caught:
        read_features(saved(tmp_path, age=column), ["age"], "a table")
    missing = (
        "3 missing cells, the first in row 1"
        if first is None
        else ("2 missing cells, the first in row 2")
    )
    assert str(caught.value) == (
        f"column 'age' must have no missing values, got {missing}; fill missing values in, or "
        "leave their rows out ('age')"
    )


@pytest.mark.parametrize(
    "target",
    [
        pl.Series([True, False, True]),
        pl.Series(["true", "False", "TRUE"]),
        pl.Series([1.0, 0.0, 1.0]),
        pl.Series([Decimal("1.0"), Decimal("0.0"), Decimal("1.0")]),
        pl.Series(["1", "0", "1"], dtype=pl.Categorical),
    ],
)
def test_targets_of_zero_and_one_or_truth_values_need_nothing_else(
    tmp_path: Path, target: pl.Series
) -> None:
    data = load_table(saved(tmp_path, age=[1, 2, 3], died=target), "died")
    assert data.labels.tolist() == [1.0, 0.0, 1.0]


def test_classes_are_read_from_categories(tmp_path: Path) -> None:
    kinds = pl.Series(["b", "a", "c"], dtype=pl.Categorical)
    data = load_table(saved(tmp_path, age=[1, 2, 3], kind=kinds), "kind", classes=["a", "b", "c"])
    assert data.labels.tolist() == [1.0, 0.0, 2.0]


def test_names_with_dots_are_columns_of_their_own(tmp_path: Path) -> None:
    path = saved(tmp_path, **{"age": [1, 2], "age.mean": [3, 4], "age.sd": [5, 6]})
    found, _ = read_features(path, ["age.sd", "age"], "a table")
    assert found.tolist() == [[5.0, 1.0], [6.0, 2.0]]


def test_long_files_are_read_in_batches(tmp_path: Path) -> None:
    cells = np.arange(150_000)
    missing = pl.Series(cells).replace(149_999, None)
    path = saved(tmp_path, age=cells, size=missing)
    assert len(list(open_table(path).blocks([0]))) > 1
    found, rows = read_features(path, ["age"], "a table")
    np.testing.assert_array_equal(found[:, 0], cells)
    np.testing.assert_array_equal(rows.numbers, cells + 1)
    with pytest.raises(DataError, match=r"got 1 missing cell in row 150000;"):
        read_features(path, ["size"], "a table")


@pytest.mark.parametrize("change", [0xFF, *slow((0x01,), (0x80,))])
def test_a_file_that_is_damaged_anywhere_ends_no_process(tmp_path: Path, change: int) -> None:
    """A change of each byte: on some of them polars aborted the whole process."""
    path = tmp_path / "table.parquet"
    pl.DataFrame({"age": [1.0, 2.0], "state": ["sick", "well"]}).write_parquet(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= change
        path.write_bytes(damaged)
        try:
            load_table(path, "state", positive="sick")
        except DataError:
            refused += 1
    assert refused > len(whole) / 3


@pytest.mark.slow
def test_a_small_file_of_a_huge_table_is_refused_before_its_cells_are_made(
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.parquet"
    zeros = pa.array(np.zeros(MOST_ROWS + 1, np.uint8))
    labels = pa.array(["a" * 1_000_000] * 1100)
    tables = [
        (pa.table({"x": zeros, "y": zeros}), "10000000 rows, got 10000001"),
        (pa.table({"x": zeros[:1100], "y": labels}), "1073741824 bytes of text, got 1100000000"),
    ]
    for table, words in tables:
        pq.write_table(table, path, compression="zstd")
        assert path.stat().st_size < 1_000_000
        refused = pytest.raises(DataError, match=f"^data file must have at most {words}")
        with at_most(millions=15), refused:
            load_table(path, "y")


def test_reading_a_parquet_file_does_not_load_pandas(tmp_path: Path) -> None:
    path = saved(tmp_path, a=[1, None], b=[True, None], c=["x", "y"], d=[1.5, 2.5])
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fl_he.learning.tables.table import open_table\n"
        "print(sum(len(block.rows) for block in open_table(Path(sys.argv[1])).blocks(range(4))))\n"
        "print('pandas' in sys.modules, 'pyarrow' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["2", "False", "True"]
