from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.voting.case_files import note_labels, open_cases

NAMES = ("age", "größe")


def test_cases_are_open_until_they_have_a_label_whatever_their_place(tmp_path: Path) -> None:
    cases, labelled = tmp_path / "cases.csv", tmp_path / "labels.csv"
    cases.write_text("größe,age,id\n0.1,1,a\n0.2,2,b\n0.1,1,c\n-0.0,3,d\n")
    found = open_cases(cases, labelled, NAMES)
    assert found.tolist() == [[1.0, 0.1], [2.0, 0.2], [3.0, 0.0]], "each once"
    note_labels(labelled, NAMES, found[[0, 2]], ["bösartig", None])
    assert labelled.read_text() == "age,größe,label\n1.0,0.1,bösartig\n3.0,-0.0,\n"
    assert stat.S_IMODE(labelled.stat().st_mode) == 0o600
    cases.write_text("größe,age,id\n0.0,3,d\n0.5,5,e\n0.2,2,b\n0.1,1,a\n")
    assert open_cases(cases, labelled, NAMES).tolist() == [[5.0, 0.5], [2.0, 0.2]]
    note_labels(labelled, NAMES, np.array([[2.0, 0.2], [5.0, 0.5]]), ['a "b", c', "x"])
    assert open_cases(cases, labelled, NAMES).shape == (0, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"cases.csv", "labels.csv"}


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(40, 2)) ** 9
    note_labels(tmp_path / "labels.csv", NAMES, rows, ["x"] * 40)
    cases = "".join(f"{a!r},{b!r}\n" for a, b in rows.tolist())
    (tmp_path / "cases.csv").write_text("age,größe\n" + cases)
    assert len(open_cases(tmp_path / "cases.csv", tmp_path / "labels.csv", NAMES)) == 0


@pytest.mark.parametrize(
    ("text", "names", "reason"),
    [
        ("age\n1\n", NAMES, "features; missing:"),
        ("age,größe\n1,\n", NAMES, "no missing values"),
        ("label\n1\n", ("label",), "must not be called 'label'"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, text: str, names: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        open_cases(tmp_path / "cases.csv", tmp_path / "labels.csv", names)
