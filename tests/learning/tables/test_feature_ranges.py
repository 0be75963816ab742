"""Files of declared ranges: reading and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.tables.feature_ranges import Ranges, read_ranges


@pytest.mark.parametrize(
    ("low", "high"), [([0.0], [0.0]), ([1.0], [0.0]), ([0.0], [1.0, 2.0]), ([np.nan], [1.0])]
)
def test_ranges_that_are_none_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(DataError):
        Ranges(np.array(low), np.array(high))


def test_ranges_are_read_in_the_order_of_the_features(tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("feature,low,high\nage,0,120\n weight ,2.5,300\n")
    ranges = read_ranges(file, ["weight", "age"])
    assert ranges.low.tolist() == [2.5, 0.0]
    assert ranges.high.tolist() == [300.0, 120.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature,low,high\n", "each feature needs a range; without one: 'age'"),
        ("feature,low,high\nage,0,120\nage,0,120\n", "got 'age' twice, in row 3 "),
        (
            "feature,low,high\nage,0,120\nheight,0,3\n",
            "got 'height' which is no feature, in row 3 ",
        ),
        (
            "\nfeature,low,high\n\nage,0,old\n",
            r"row 4 must have a feature and the numbers low and high \('age'\)",
        ),
        (
            "feature,low\nage,0\n",
            r"row 2 must have a feature and the numbers low and high \('age'\)",
        ),
        ("feature,low,high\nage,120,0\n", r"low must be below high .* in row 2 \('age'\) "),
        ("feature,low,high\nage,0,inf\n", r"both finite in row 2 \('age'\) "),
        ("feature,low,high\nage,nan,1\n", r"both finite in row 2 \('age'\) "),
    ],
)
def test_a_file_of_ranges_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ranges(file, ["age"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, "must be a CSV or JSON file"),
        ("[" + "[[[[]]]]," * 200_000 + "[]]", "must have at most 1048576 characters"),
        (
            f'[{{"feature": "age", "low": 0, "high": 1{"0" * 400}}}]',
            "entry 1 must have a feature and the numbers low and high",
        ),
        (
            '[{"feature": 5, "low": 0, "high": 1}]',
            "entry 1 must have a feature and the numbers low and high; .* without one: 'age'",
        ),
        ('{"feature": "age"}', "ranges.json must contain a JSON list of ranges, not dict"),
    ],
)
def test_hostile_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "ranges.json"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ranges(file, ["age"])


def test_a_missing_file_of_ranges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"ranges must be a file that can be read, got .*: No such file"
    ):
        read_ranges(tmp_path / "none.csv", ["age"])


def test_all_that_is_wrong_with_ranges_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("feature,low,high\nage,2,-2\nhb,0,x\nheigth,0,3\n")
    with pytest.raises(DataError) as caught:
        read_ranges(file, ["age", "hb", "height", "crp"])
    assert str(caught.value) == (
        "low must be below high and both finite in row 2 ('age'); row 3 must have a feature and "
        "the numbers low and high ('hb'); ranges must be one for each "
        "feature, got 'heigth' which is no feature, in row 4; each feature needs a range; "
        f"without one: 'height', 'crp' ({file}, the header is row 1)"
    )


def test_ranges_of_another_table_are_refused_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("feature,low,high\nheight,0,3\nweight,0,300\n")
    with pytest.raises(DataError, match=r"not of this table's features: 'age', 'hb'; ranges=FILE"):
        read_ranges(file, ["age", "hb"])
