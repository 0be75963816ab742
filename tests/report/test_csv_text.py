from __future__ import annotations

import csv
import io

import pytest

from fl_he.report.csv_text import csv_text, text_cell


@pytest.mark.parametrize(
    "cell",
    [
        *("-0.5", "+2", "-1.5e-07", "-.5", "-12,345.6", "-3%", "-inf"),
        *("-0.99266 to 1.76355", "-0.35 (0.10)", "-1.2 (-1.9 to -0.5)", "-0.06 (mean: -0.06)"),
        *("age", "age; -0.5", "a=b", "x-y", "", "  F", "mean (SD)"),
    ],
)
def test_figures_and_words_stay_as_they_are(cell: str) -> None:
    assert text_cell(cell) == cell


@pytest.mark.parametrize(
    ("cell", "neutral"),
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("-1 to =A1", "'-1 to =A1"),
        ("-1 (A1)", "'-1 (A1)"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-", "'-"),
        ("\t=A1", "' =A1"),
        ("\r=A1", "' =A1"),
        ("crp\n=A1", "crp\n'=A1"),
        ("  =A1", "'  =A1"),
        ("\uff1dA1", "'\uff1dA1"),
        ("crp;=A1", "crp;'=A1"),
    ],
)
def test_parts_that_a_spreadsheet_would_run_get_an_apostrophe(cell: str, neutral: str) -> None:
    assert text_cell(cell) == neutral
    ((read, _),) = csv.reader(io.StringIO(csv_text([(cell, "-1")]), newline=""))
    assert read == neutral
