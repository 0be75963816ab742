"""Columns that look like identifiers, and measurements that do not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.identifiers import identifier_warning, identifiers

RNG = np.random.default_rng(11)


def found(*columns: NDArray[np.generic]) -> tuple[str, ...]:
    features = np.column_stack(columns).astype(float)
    names = tuple("abc"[: len(columns)])
    return identifiers(Dataset(features, np.zeros(len(features)), names))


def test_serial_numbers_are_identifiers() -> None:
    measured = RNG.normal(62, 12, 900).round()
    assert found(measured, 1_000_000 + np.arange(900)) == ("b",)
    assert found(RNG.permutation(20) + 1.0) == ("a",)
    assert found(10.0 * RNG.permutation(30)) == ("a",), "a check digit of 0 is no range"


def test_a_few_repeated_patients_hide_no_identifier() -> None:
    numbers = np.arange(1000.0)
    numbers[-40:] = numbers[:40]
    assert found(numbers) == ("a",)
    numbers[-60:] = numbers[:60]
    assert found(numbers) == ()


def test_numbers_of_records_are_identifiers_in_few_rows_too() -> None:
    assert found(RNG.choice(10_000_000, 25, replace=False)) == ("a",)


@pytest.mark.parametrize(
    "lab",
    [
        RNG.permutation(np.arange(150, 400))[:40],  # platelets, thousands
        1000 * RNG.permutation(np.arange(150, 400))[:40],  # platelets, single
        np.exp(RNG.normal(6, 1.5, 60)).round(),  # NT-proBNP
        RNG.normal(140, 4, 500).round(),  # sodium
        RNG.normal(27, 4, 900),  # no integers
        np.arange(19.0),  # too few rows
        RNG.normal(1, 0.1, 200) * 1e150,  # float64 has no others of that size
    ],
)
def test_measurements_are_none(lab: NDArray[np.float64]) -> None:
    assert found(lab) == ()


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "digits"])
def test_no_data_set_of_measurements_has_one(name: str) -> None:
    assert identifiers(load_built_in(name)) == ()


def test_the_warning_names_the_columns() -> None:
    assert identifier_warning(("id",)) == (
        "the column 'id' is a feature whose values are integers that almost all differ: leave it "
        "out if it names patients and measures nothing"
    )
