"""Layouts of updates as other nodes send them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.records import ProtocolError
from fl_he.wire.update_layout import UpdateLayout, first_value, read_first_value

GOOD: dict[str, Any] = {
    "arrays": [["arrays", "w", "float64", [2], "encrypted"]],
    "metric_record": "metrics",
    "metrics": [["loss", None, True]],
    "weighted_by": "num-examples",
    "fraction_bits": 24,
}


def test_a_long_layout_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ProtocolError, match="a layout must have at most 1048576 characters"):
        UpdateLayout.from_json("[" + "[[[[]]]]," * 200_000 + "[]]")


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": [["arrays", "w", "complex128", [2], "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [-1], "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [True], "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [2**40], "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [2**20, 2**20], "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [2], "open"]]},
        {"arrays": [["arrays", 1, "float64", [2], "encrypted"]]},
        {"arrays": GOOD["arrays"] * 2},
        {"arrays": [["arrays", "w", "float64", [2**30] * 200_000, "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [0, 2**30, 2**30, 2**30], "encrypted"]]},
        {"arrays": [["arrays", "w", "float64", [1] * 33, "encrypted"]]},
        {"arrays": [["metrics", "w", "float64", [2], "encrypted"]]},
        {"metrics": [[f"m{i}", 2**30, False] for i in range(9)]},
        {"weighted_by": "x" * 2**22},
        {"arrays": 3},
        {"metrics": [["loss", None, True], ["loss", 2, True]]},
        {"metrics": [["num-examples", None, True]]},
        {"metrics": [["loss", -1, True]]},
        {"metrics": [["loss", None, 1]]},
        {"metrics": [["loss", 2**20, False], ["cost", 1, False]]},
        {"weighted_by": None},
        {"fraction_bits": 64},
    ],
    ids=lambda change: str(change)[:60],
)
def test_hostile_layouts_are_refused(change: dict[str, Any]) -> None:
    UpdateLayout.from_json(json.dumps(GOOD))
    with pytest.raises(ProtocolError):
        UpdateLayout.from_json(json.dumps({**GOOD, **change}))


@given(st.text() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        UpdateLayout.from_json(text)


@pytest.mark.parametrize(
    ("total", "reason"),
    [
        (np.zeros(3), "a total must hold 5 values"),
        (np.zeros(5), "the total of 'num-examples' must be positive"),
        (np.array([1.0, -2.0, 0.0, 0.0, 0.0]), "must be positive"),
        (np.array([1.0, np.nan, 0.0, 0.0, 0.0]), "must be positive"),
    ],
)
def test_totals_of_another_length_or_weight_are_refused(
    total: np.ndarray[Any, Any], reason: str
) -> None:
    layout = UpdateLayout.from_json(json.dumps(GOOD))
    with pytest.raises(ProtocolError, match=reason):
        layout.mean(total, np.empty(0))


def test_a_mean_that_does_not_fit_its_dtype_is_refused() -> None:
    layout = UpdateLayout.from_json(json.dumps(GOOD).replace("float64", "float16"))
    with pytest.raises(ProtocolError, match="'w' does not fit float16"):
        layout.mean(np.array([1.0, 1.0, 1e6, 0.0, 0.0]), np.empty(0))


def test_deeply_nested_text_is_refused() -> None:
    with pytest.raises(ProtocolError, match="a layout must be a JSON object"):
        UpdateLayout.from_json("[" * 100_000)


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("room", [1, 2, 3, 4, 5, 511, 512])
def test_a_sum_shows_how_many_misfit_whatever_there_is_room_for(
    room: int, *, restricted: bool
) -> None:
    packing = Packing(max_contributors=room)
    sign = -1 if restricted else 1
    for contributors in {1, room // 2, room} - {0}:
        for misfits in {0, 1, contributors}:
            firsts = [
                first_value(packing, fits=number >= misfits, restricted=restricted)
                for number in range(contributors)
            ]
            total = int(packing.encode(np.array(firsts)).sum())
            unpacked = packing.unpack([total], 1, 2048)
            value = float(packing.decode(unpacked)[0])
            assert read_first_value(value, packing) == (sign * contributors, misfits)
