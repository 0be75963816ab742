"""Rows that are passed over: exactly those that are refused alone, and no other row changes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from quick import slow

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.faulty_rows import FaultyRows
from fl_he.learning.tables.schema.application import features_by_schema
from fl_he.learning.tables.schema.description import schema_of
from fl_he.learning.tables.schema.yaml_text import parse_yaml
from fl_he.learning.tables.table import read_features
from fl_he.learning.tables.table_file import RowNumbers

SCHEMA = schema_of(
    parse_yaml(
        """
columns:
  a: {type: number}
  b: {type: integer, missing: drop-row}
  c: {type: category, levels: [x, y]}
  d: {type: date, since: 2023-01-01}
  e: {type: boolean}
terms: log(a) + b + c + d + e
outcome: {column: z, positive: yes}
"""
    )
)
RIGHT = (("1", "2.5"), ("3", "7"), ("x", "y"), ("2023-02-01", "2022-01-01"), ("yes", "0"))
WRONG = ("", "NA", "foo", "1e400", "-1", "1.5", "2023-02-31", "99", "inf", "1,5")

Read = Callable[[Path, FaultyRows | None], tuple[Array, RowNumbers]]


def by_schema(path: Path, faulty: FaultyRows | None) -> tuple[Array, RowNumbers]:
    found, _, rows = features_by_schema(path, SCHEMA, {}, faulty)
    return found, rows


def numbers(path: Path, faulty: FaultyRows | None) -> tuple[Array, RowNumbers]:
    return read_features(path, ["a", "b"], "a table", faulty)


def saved(folder: Path, rows: Sequence[Sequence[str]]) -> Path:
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(["abcde", *rows])
    return folder / "table.csv"


@pytest.mark.parametrize("read", [by_schema, numbers])
@pytest.mark.parametrize("rate", [0.1, *slow((0.0,), (0.02,), (0.9,))])
def test_the_rows_that_are_refused_alone_are_passed_over(
    tmp_path: Path, read: Read, rate: float
) -> None:
    rng = np.random.default_rng(round(100 * rate))
    for _ in range(4):
        spelt = [
            [str(rng.choice(WRONG if rng.random() < rate else cells)) for cells in RIGHT]
            for _ in range(rng.integers(1, 60))
        ]
        table = [row for row in spelt if any(row)]
        refused = []
        for row in table:
            try:
                read(saved(tmp_path, [row]), None)
            except DataError:
                refused.append(True)
            else:
                refused.append(False)
        faulty, path = FaultyRows(), saved(tmp_path, table)
        if all(refused):
            with pytest.raises(DataError):
                read(path, faulty)
            continue
        found, rows = read(path, faulty)
        assert faulty.wrong.tolist() == refused
        told = faulty.lines(rows)
        assert len(told) == min(sum(refused), 20) + (sum(refused) > 20)
        assert all(": column " in line for line in told[:20])
        right = [row for row, wrong in zip(table, refused, strict=True) if not wrong]
        alone, _ = read(saved(tmp_path, right), None)
        np.testing.assert_array_equal(found[~faulty.wrong], alone)


def test_a_line_stays_a_line_that_no_terminal_obeys() -> None:
    faulty = FaultyRows()
    faulty.add(np.array([False, True]))
    faulty.tell("a\x1b[2J", "cell{s} outside 0 to 1 m\nfl-he: fine\x1b[2J", [3])
    (line,) = faulty.lines(RowNumbers(np.array([2, 3])), ["", "P\n1"])
    assert line.startswith(r"row 3 ('P\n1'): column 'a\x1b[2J': cell outside 0 to 1 m fl-he: fine")
    assert line.isprintable()
