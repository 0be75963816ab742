from __future__ import annotations

import copy
import csv
import io
from pathlib import Path

import pytest
from command_line import fl_he
from example_metrics import make_metrics
from example_pages import EXAMPLES, HOSTILE
from quick import slow, slow_but

from fl_he.report.blocks import Facts, Note, Page, Row, Section, Sheet
from fl_he.report.files import page_of
from fl_he.report.page.text import COLUMNS, as_csv, as_markdown
from fl_he.run_files.metrics import write_metrics

SHEET = Sheet("Ratios | of *x*", ("feature", "ratio"), [Row(("age", "1.5")), Row(("new\nline",))])
PAGE = Page(
    title="Model of <died>",
    subtitle="two\x1b[2J words",
    tiles={"ROC AUC": "0.83"},
    notes=[Note("Warning: look", warning=True)],
    sections=[Section("Coefficients", [SHEET, Facts({"AIC": "12.5"}), Note("said")])],
)


def test_markdown_has_titles_figures_tables_and_notes() -> None:
    first, *lines = as_markdown([PAGE]).splitlines()
    assert first.startswith("<!-- Made by fl-he ")
    assert [line for line in lines if line] == [
        "# Model of \\<died\\>",
        "two \\[2J words",
        "**Warning: look**",
        "- ROC AUC: 0.83",
        "## Coefficients",
        "**Ratios \\| of \\*x\\***",
        "| feature | ratio |",
        "| --- | ---: |",
        "| age | 1.5 |",
        "| new line |  |",
        "- AIC: 12.5",
        "said",
    ]


def test_csv_has_a_line_for_each_cell_and_fact() -> None:
    header, *lines = csv.reader(io.StringIO(as_csv({"out/1": PAGE})))
    assert tuple(header) == COLUMNS
    assert lines == [
        ["out/1", "", "", "", "ROC AUC", "0.83"],
        ["out/1", "Coefficients", "Ratios | of *x*", "age", "ratio", "1.5"],
        ["out/1", "Coefficients", "", "", "AIC", "12.5"],
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_run_has_both_and_names_from_elsewhere_are_text(name: str) -> None:
    page = page_of(copy.deepcopy(EXAMPLES[name]))
    text = as_markdown([page])
    assert "<script>" not in text
    assert {len(row) for row in csv.reader(io.StringIO(as_csv({"": page})))} == {len(COLUMNS)}
    if name == "newton":
        assert HOSTILE in as_csv({"": page}).replace('""', '"')


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    write_metrics(tmp_path / "run", make_metrics())
    return tmp_path


@pytest.mark.parametrize(
    ("form", "start"), [("md", "<!-- Made by"), *slow(("csv", "run,section,table"))]
)
def test_the_command_prints_or_writes_them_and_nothing_else(
    run: Path, form: str, start: str
) -> None:
    code, printed, errors = fl_he(run, "report", "run", "--format", form)
    assert (code, errors) == (0, "")
    assert printed.startswith(start)
    assert "0.830" in printed
    assert [path.name for path in (run / "run").iterdir()] == ["metrics.json"]
    (run / "report.txt").write_text(printed.splitlines()[0])
    assert fl_he(run, "report", "run", f"--format={form}", "--output=report.txt")[:2] == (0, "")
    assert (run / "report.txt").read_text() == printed


@pytest.mark.parametrize("form", slow_but(("md", "csv"), "csv"))
def test_the_command_replaces_no_other_file(run: Path, form: str) -> None:
    (run / "mine.txt").write_text("mine")
    code, _, errors = fl_he(run, "report", "run", f"--format={form}", "--output=mine.txt")
    assert code == 1
    assert "already exists" in errors
    assert (run / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_command_says_where_it_cannot_write(run: Path) -> None:
    code, _, errors = fl_he(run, "report", "run", "--format=md", "--output=no/where.txt")
    assert (code, errors) == (1, "fl-he: --output must be a file that can be written\n")


@pytest.mark.slow
def test_html_stays_the_form_if_none_is_named(run: Path) -> None:
    code, printed, _ = fl_he(run, "report", "run")
    assert code == 0
    assert "report: run/report.html" in printed
    assert (run / "run" / "report.html").is_file()


def test_names_that_a_spreadsheet_would_run_are_no_formulas() -> None:
    sheet = Sheet("=A1", ("", "@b"), [Row(("-2+3", "-0.5")), Row(("x", "+4"))])
    page = Page("t", "s", {}, [], [Section("S", [sheet])])
    _, *lines = csv.reader(io.StringIO(as_csv({"": page})))
    assert lines == [
        ["", "S", "'=A1", "'-2+3", "'@b", "-0.5"],
        ["", "S", "'=A1", "x", "'@b", "+4"],
    ]
