"""The search of the example finds what it must, in every form, and nothing by chance."""

from __future__ import annotations

import numpy as np
import pytest
from plaintext_search import DOUBLES, found_in, private_values, telling

from fl_he.learning.tables.data import Dataset

RNG = np.random.default_rng(1)
HOSPITALS = [
    Dataset(RNG.normal(size=(m, 2)), RNG.integers(0, 2, m).astype(float), ("a", "b"))
    for m in (7, 12)
]


def test_the_values_are_the_updates_numbers() -> None:
    values = private_values(HOSPITALS, [(np.zeros(2), 0.0)])
    data = HOSPITALS[1]
    expected = (0.5 - data.labels) @ data.features / 12
    assert values["model 0, hospital 1: gradient[1]"] == pytest.approx(expected[1])
    assert values["model 0, hospital 1: weighted gradient[0]"] == pytest.approx(12 * expected[0])
    assert values["model 0, hospital 0: loss"] == pytest.approx(np.log(2))
    assert values["model 0, hospital 1: examples"] == 12
    assert len(values) == 2 * (2 * 5 + 1)


@pytest.mark.parametrize(
    "form",
    [
        np.array([np.pi], "<f8").tobytes(),
        np.array([np.pi], ">f8").tobytes(),
        b"3.14159265358979",
    ],
)
def test_every_form_is_found(form: bytes) -> None:
    values = {"pi": np.pi, "e": np.e, "zero": 0.0}
    assert found_in(b"\0" * 9 + form + b"x", values, DOUBLES) == {"pi"}


def test_text_is_found_whose_next_digit_would_round_it_up() -> None:
    values = {"ours": 19.255727699530514, "other": 19.2557286}
    assert found_in(b'{"mean": 19.255727699530514}', values) == {"ours"}


def test_single_precision_is_found_unless_it_is_left_out() -> None:
    seen = np.array([np.pi], "<f4").tobytes()
    assert found_in(seen, {"pi": np.pi}) == {"pi"}
    assert found_in(seen, {"pi": np.pi}, DOUBLES) == set()


def test_telling_values() -> None:
    values = {"half": 0.5, "count": 12.0, "pi": np.pi, "ours": np.log(2), "theirs": np.log(2)}
    assert set(telling(values)) == {"pi"}
