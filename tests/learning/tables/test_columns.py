from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from fl_he.learning.errors import Fault
from fl_he.learning.tables.columns import Numbers, as_number, too_large
from fl_he.learning.tables.labels import Labels
from fl_he.learning.tables.table_file import Cells, RowNumbers, Unreadable


def size(cells: Cells) -> int:
    return 3 if isinstance(cells, Unreadable) else len(cells)


def numbers(*blocks: Cells) -> Numbers:
    """Return one column, whose cells are in rows 2, 4, 6, ... of a file."""
    column, row = Numbers(["age"]), 2
    for cells in blocks:
        column.add(np.arange(row, row + 2 * size(cells), 2), [cells])
        row += 2 * size(cells)
    return column


def labels(*cells: str) -> Labels:
    column = Labels("died")
    half = len(cells) // 2
    column.add(np.arange(2, 2 + half), cells[:half])
    column.add(np.arange(2 + half, 2 + len(cells)), cells[half:])
    return column


def words(faults: Sequence[Fault]) -> str:
    (fault,) = faults
    return fault.words


def test_text_and_numbers_are_read_as_numbers() -> None:
    read = numbers(("1", " 2.5", "-3e2 "), np.array([7.0]), ("+1.", ".5", "0012"))
    assert list(read.faults()) == []
    assert read.values[:, 0].tolist() == [1.0, 2.5, -300.0, 7.0, 1.0, 0.5, 12.0]


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (("9007199254740992", "-9007199254740994", "9007199254740993e0", "2e300"), None),
        (("1", " 9007199254740993", "-9007199254740993.00", ""), "2 integers, the first in row 4"),
        (("0" * 5000 + "9007199254740993", "x"), "1 integer in row 2"),
        (("123456789012345678.5", "true", "9" * 400), None),
    ],
)
def test_integers_that_float64_rounds_are_noted(cells: tuple[str, ...], found: str | None) -> None:
    note = (
        f"column 'age' has {found}, of more digits than float64 has: they are rounded, and some "
        "that differ may be equal now; leave the column out if it names patients"
    )
    assert numbers(cells).notes == (() if found is None else (note,))


@pytest.mark.parametrize(
    ("blocks", "row"),
    [
        ([("1", "", "", "  ", "2")], 4),
        ([("1", "NaN"), ("-nan", " NAN", "2")], 4),
        ([np.array([1.0, 1.0, np.nan]), np.array([np.nan, np.nan, 2.0])], 6),
    ],
)
def test_missing_numbers_are_counted(blocks: list[Cells], row: int) -> None:
    (fault,) = numbers(*blocks).faults()
    assert fault == Fault(
        f"column 'age' must have no missing values, got 3 missing cells, the first in row {row}",
        "drop",
        "age",
        remedies=("fill missing values in, or leave their rows out",),
    )


@pytest.mark.parametrize("text", ["SECRET", "2,5", "1_000", "\uff11\uff12", "0x10", "1 2", "-"])
def test_text_among_numbers_is_counted_and_not_shown(text: str) -> None:
    (fault,) = numbers(("1", "2", text), ("3", text)).faults()
    kind = "decimal commas" if text == "2,5" else "cells of text"
    assert fault.words == f"column 'age' must be numeric, got 2 {kind}, the first in row 6"
    assert text not in fault.words


GROUPED = (
    *("1 234", "1\u00a0234", "-12\u202f345 678,5"),
    *("1'234.5", "1\u2019234", "1.234.567", "1.234,5"),
)


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        (("320,137", "101", "-1,234"), "2 cells with a decimal comma or a thousands separator"),
        (("320,137", "101.5", "1,234"), "2 cells with thousands separators"),
        (("320,137", "1,500.0", "4"), "2 cells with thousands separators"),
        (("320,137", "1,234,567", "4"), "2 cells with thousands separators"),
        (("320,137", "0,137", "4"), "2 decimal commas"),
        (("320,137", "2,5", "4"), "2 decimal commas"),
        (("1,062e-11", "8,5E2", "4"), "2 decimal commas"),
        (("1,2,3", "1,23,456", "4"), "2 cells of text"),
    ],
)
def test_a_comma_may_be_for_decimals_or_thousands(cells: Cells, kinds: str) -> None:
    found = words(list(numbers(cells, ("7",)).faults()))
    assert found == f"column 'age' must be numeric, got {kinds}, the first in row 2"


@pytest.mark.parametrize("text", GROUPED)
def test_blanks_points_and_apostrophes_separate_thousands(text: str) -> None:
    (fault,) = numbers(("1", text), ("3", text)).faults()
    what = "cells with thousands separators (blanks, points or apostrophes)"
    assert fault.words == f"column 'age' must be numeric, got 2 {what}, the first in row 4"
    assert fault.remedies == ("leave thousands separators out",)


def test_a_comma_beside_other_separators_of_thousands_may_be_for_decimals() -> None:
    found = words(list(numbers(("1 234", "9,500")).faults()))
    assert "1 cell with a decimal comma or a thousands separator in row 4 and 1 cell" in found


@pytest.mark.parametrize(
    ("cells", "remedy"),
    [
        (("320,137",), "write decimal commas as points, and leave thousands separators out"),
        (("1,500.0",), "leave thousands separators out"),
        (("1,500.0", "1 500"), "leave thousands separators out"),
        (("0,137",), "write decimal points"),
    ],
)
def test_the_advice_on_commas_is_right_for_each_reading(cells: Cells, remedy: str) -> None:
    (fault,) = numbers(cells).faults()
    assert fault.remedies == (remedy,)


@pytest.mark.parametrize(("count", "coded"), [(10, True), (40, False), (51, False)])
def test_free_text_is_no_category(count: int, coded: bool) -> None:
    texts = [f"note {number}" for number in range(count)]
    (fault,) = numbers(texts, texts[:20]).faults()
    assert fault.remedies == (("code categories as columns of 0 and 1",) if coded else ())


@pytest.mark.parametrize(
    ("cells", "same"),
    [
        (("x", "x "), True),
        (("1,5", "1,5"), True),
        (("2024-01-02", "2024-01-02"), True),
        (("x",), False),
        (("x", "y"), False),
        (("x", "x", ""), False),
        (("x", "x", "1"), False),
        (("x", "x", "true"), False),
    ],
)
def test_a_column_of_one_text_is_to_be_left_out(cells: Cells, same: bool) -> None:
    (fault,) = numbers(cells).faults()
    assert (fault.remedies == ("leave out a column that does not vary",)) is same


@pytest.mark.parametrize("text", ["NA", " na ", "", "NaN", "N/A", "#N/A", "<NA>", "NULL"])
def test_a_text_for_a_missing_cell_is_no_text(text: str) -> None:
    (fault,) = numbers(("1", text, "2.5")).faults()
    assert fault.words.startswith("column 'age' must have no missing values, got 1 missing cell in")
    outcome = labels("yes", text, "no")
    outcome.is_class("yes")
    assert words(outcome.faults) == (
        "column 'died' must have no missing values, got 1 missing cell in row 3"
    )


@pytest.mark.parametrize("cells", [("1", "inf"), ("1", "-1e999"), np.array([1.0, -np.inf])])
def test_infinite_numbers_are_refused(cells: Cells) -> None:
    found = words(list(numbers(cells).faults()))
    assert found == "column 'age' must be finite, got 1 infinite cell in row 4"


def test_all_kinds_of_cells_are_told_of_one_column() -> None:
    assert words(list(numbers(("1", "x", "", "inf", "y")).faults())) == (
        "column 'age' must hold finite numbers only, got 2 cells of text, the first in row 4 and "
        "1 infinite cell in row 8 and 1 missing cell in row 6"
    )


def test_all_columns_are_told() -> None:
    column = Numbers(["a", "b", "c"])
    column.add(np.arange(2, 4), [("1", ""), ("1", "2"), Unreadable("date{s}")])
    first, second = column.faults()
    assert first.words.startswith("column 'a' must have no missing values, got 1 missing cell in")
    assert second.words == "column 'c' must be numeric, got 2 dates, the first in row 2"


def test_a_column_of_truth_values_is_one_of_zeros_and_ones() -> None:
    read = numbers(("true", "False"), (" TRUE ",))
    assert list(read.faults()) == []
    assert read.values[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_truth_values_among_numbers_are_text() -> None:
    found = words(list(numbers(("1", "true"), ("false", "x")).faults()))
    assert found == "column 'age' must be numeric, got 3 cells of text, the first in row 4"
    found = words(list(numbers(("", "true"), ("false",)).faults()))
    assert found == "column 'age' must have no missing values, got 1 missing cell in row 2"


@pytest.mark.parametrize(
    ("cell", "number"), [("1e3", 1000.0), ("1_0", None), ("\u0661", None), ("x", None), ("", None)]
)
def test_a_number_is_spelt_in_ascii_without_underscores(cell: str, number: float | None) -> None:
    assert as_number(cell) == number


def test_a_long_name_is_cut() -> None:
    column = Numbers(["x" * 100_000])
    column.add(np.array([2]), [("",)])
    assert len(words(list(column.faults()))) < 200


def test_cells_with_which_a_computation_overflows_are_told_by_column_and_row() -> None:
    wrong = np.array([[False, True, False], [False, True, True]])
    assert str(too_large(["a", "b", "c"], wrong, RowNumbers(np.array([2, 5]), header=1))) == (
        "column 'b' must be of numbers that can be computed with, got 2 cells too large, the first "
        "in row 2; column 'c' must be of numbers that can be computed with, got 1 cell too large "
        "in row 5 (the header is row 1)"
    )
    assert str(too_large(["a", "b", "c"], wrong)).endswith("too large in row 2")


ZERO_ONE = [
    ("0", "1", "1"),
    ("0.0", "1.0", "1.0"),
    ("0", "1.0", " 01 "),
    ("-0", "1e0", "+1"),
    ("false", "true", "true"),
    ("False", "TRUE", "True"),
]


@pytest.mark.parametrize("cells", ZERO_ONE)
def test_zero_and_one_or_false_and_true_need_no_positive_label(cells: tuple[str, ...]) -> None:
    column = labels(*cells)
    found, positive = column.is_zero_or_one()
    assert column.faults == []
    assert found.tolist() == [0.0, 1.0, 1.0]
    assert positive == ("true" if cells[0].isalpha() else "1")


def test_one_class_of_zero_and_one_is_welcome() -> None:
    assert labels("0", "0").is_zero_or_one()[0].tolist() == [0.0, 0.0]
    assert labels("true", "true").is_zero_or_one()[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (("yes", "no", "yes", "no"), "2 other labels: 'no', 'yes'"),
        (("0", "1", "2", "1", "0", "2"), "1 other label: '2'"),
        (("0", "1", "1", "0", "Ada Lovelace"), "1 other label in row 6"),
        (("1_0", "1_0"), "1 other label: '1_0'"),
    ],
)
def test_other_labels_need_a_positive_one(cells: tuple[str, ...], found: str) -> None:
    column = labels(*cells)
    column.is_zero_or_one()
    assert column.faults == [
        Fault(
            "target 'died' must hold 0 and 1, or true and false, where no positive label is named, "
            f"got {found}",
            "meaning",
            "died",
            row=6 if found.endswith("row 6") else None,
        )
    ]


def test_the_positive_class_is_one() -> None:
    assert labels("M", " B", "M ").is_class(" M").tolist() == [1.0, 0.0, 1.0]
    assert labels("2", "4", "4").is_class("4").tolist() == [0.0, 1.0, 1.0]
    assert labels("2.0", "4.0").is_class("4").tolist() == [0.0, 1.0]
    assert labels("true", "false").is_class("true").tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("positive", "expected"), [("B", [1.0, 1.0]), ("M", [0.0, 0.0])])
def test_one_class_only_is_welcome(positive: str, expected: list[float]) -> None:
    column = labels("B", "B")
    assert column.is_class(positive).tolist() == expected
    assert column.faults == []


@pytest.mark.parametrize("positive", ["True", "TRUE", " true"])
def test_a_positive_label_may_spell_true_in_any_case(positive: str) -> None:
    column = labels("TRUE", "FALSE", "TRUE")
    assert column.is_class(positive).tolist() == [1.0, 0.0, 1.0]
    assert column.faults == []


def test_labels_are_the_classes_that_spell_the_same_number() -> None:
    column = labels("0.0", "2.0", "1.0", "2.0")
    assert column.place_among(["0", "1", "2"]).tolist() == [0.0, 2.0, 1.0, 2.0]
    assert column.faults == []


def test_labels_that_are_no_class_are_named_if_each_has_several_rows() -> None:
    column = labels("a", "a", "b", "b", "z", "z")
    column.place_among(["a", "b"])
    assert words(column.faults) == (
        "target 'died' must hold the classes 'a', 'b' only, got 2 others, the first in row 6: 'z'"
    )


def read_class(column: Labels) -> object:
    return column.is_class("M")


def read_place(column: Labels) -> object:
    return column.place_among(["M", "B", "C"])


@pytest.mark.parametrize("read", [read_class, read_place])
def test_missing_labels_are_counted(read: Callable[[Labels], object]) -> None:
    column = labels("M", "", " ", "nan", "M", "B", "B")
    read(column)
    assert column.faults == [
        Fault(
            "column 'died' must have no missing values, got 3 missing cells, the first in row 3",
            column="died",
            remedies=(
                "rename the label 'nan', which is read as missing",
                "fill missing labels in, or leave their rows out",
            ),
        )
    ]


def test_a_label_that_is_named_is_not_missing() -> None:
    column = Labels("child", ["A", "NA ", "n/a"])
    column.add(np.arange(2, 7), ["A", " NA", "n/a", "na", "B"])
    column.place_among(["A", "NA", "n/a"])
    missing, other = column.faults
    assert missing.words.endswith("got 1 missing cell in row 5")
    assert missing.remedies == ("rename the label 'na', which is read as missing",)
    assert other.words.endswith("only, got 1 other in row 6")


def test_texts_that_spell_a_missing_cell_are_those_of_the_file() -> None:
    column = Labels("child", missing=frozenset(("", "nan")))
    column.add(np.arange(1, 5), ["A", "NA", "A", "NA"])
    assert (column.is_class("A").tolist(), column.faults) == ([1.0, 0.0, 1.0, 0.0], [])


CASE = "write labels that differ in case or blanks alone in one way"


@pytest.mark.parametrize("spelt", ["Dead", "dead\u00a0\u00a0"])
def test_labels_that_differ_in_case_alone_are_shown_and_told(spelt: str) -> None:
    column = labels("dead x", "alive", f"{spelt} x", "alive", "dead x")
    column.is_class("dead x")
    assert column.faults[0].words.startswith("target 'died' must have two classes, got 3, one of")
    assert column.faults[0].words.endswith(f"in row 4: 'alive', 'dead x', {f'{spelt} x'!r}") or (
        column.faults[0].words.endswith(f"in row 4: {f'{spelt} x'!r}, 'alive', 'dead x'")
    )
    assert (column.faults[0].setting, column.faults[0].remedies) == (None, (CASE,))
    column = labels("dead x", "alive", f"{spelt} x", "alive", "dead x")
    column.is_zero_or_one()
    assert column.faults[0].remedies == (CASE,)
    column = labels("dead x", "alive", f"{spelt} x", "alive", "dead x")
    column.place_among(["dead x", "alive", "other"])
    assert column.faults[0].remedies == (CASE,)


def test_blanks_around_labels_are_told_with_their_column_and_count_alone() -> None:
    column = labels("SECRET", " yes", "yes", "no ", "  ")
    assert column.notes == (
        "column 'died' had blanks around 2 labels, the first in row 3: they are left off",
    )
    assert labels("yes", "no").notes == ()


def test_more_than_two_classes_are_named_if_each_has_several_rows() -> None:
    column = labels("M", "B", "C", "M", "B", "C")
    column.is_class("M")
    assert column.faults == [
        Fault("target 'died' must have two classes, got 3: 'B', 'C', 'M'", "meaning", "died")
    ]


@pytest.mark.parametrize(
    "cells",
    [
        ["M", "M", "Ada Lovelace"] * 2 + ["Alan Turing"],
        [f"Ada {index}" for index in range(11)] * 2,
    ],
)
def test_values_that_may_be_persons_are_not_named(cells: list[str]) -> None:
    column = labels(*cells)
    column.is_class("M")
    assert words(column.faults) in (
        "target 'died' must have two classes, got 3, one of them only in row 8",
        "target 'died' must have two classes, got 11",
    )


def test_a_positive_label_that_is_not_there_is_refused() -> None:
    column = labels("M", "B", "M", "B")
    column.is_class("malignant")
    assert column.faults == [
        Fault(
            "positive must be one of the two classes of target 'died': 'B', 'M', got 'malignant'",
            "positive",
            known=("B", "M"),
        )
    ]


def test_a_threshold_needs_numbers() -> None:
    column = labels("1", "x", "3")
    column.is_at_least(2.0)
    assert column.faults == [
        Fault(
            "column 'died' must be numeric, got 1 cell of text in row 3",
            column="died",
            remedies=("correct the cells of text",),
            row=3,
        )
    ]
    column = labels("x", "x")
    column.is_at_least(2.0)
    (fault,) = column.faults
    assert (fault.setting, fault.remedies) == ("positive", ())
    column = labels("1,5", "2,5")
    column.is_at_least(2.0)
    (fault,) = column.faults
    assert (fault.setting, fault.remedies) == (None, ("write decimal points",))
    column = labels("1", " 2", "3")
    found, name = column.is_at_least(2.0)
    assert (found.tolist(), name) == ([0.0, 1.0, 1.0], f"{column.name} >= 2")
    assert (column.faults, column.notes) == ([], ())


def test_labels_are_of_a_type_that_text_can_be_made_of() -> None:
    column = Labels("died")
    column.add(np.array([1, 2, 3]), Unreadable("list{s}"))
    column.is_class("M")
    assert words(column.faults) == "column 'died' must hold labels, got lists: save them as text"
