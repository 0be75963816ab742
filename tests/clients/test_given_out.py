"""Sums that compare hospitals, without those of too few."""

from __future__ import annotations

import numpy as np
import pytest

from fl_he.clients.given_out import given_out, of_sites
from fl_he.wire.update_layout import CONTRIBUTORS, EXAMPLES, ArraySlot, UpdateLayout

LAYOUT = UpdateLayout(
    arrays=(
        ArraySlot("arrays", "counts", "<f8", (2,)),
        ArraySlot("arrays", "own", "<f8", (2, 3)),
        ArraySlot("arrays", "scores", "<f8", (2, 2)),
    ),
    metric_record="metrics",
    metrics=(),
    weighted_by="num-examples",
    fraction_bits=24,
)


def total_of(contributors: int, fits: int) -> np.ndarray:
    return np.array([-contributors, 500.0, fits, contributors, *range(1, 7), *range(7, 11)])


@pytest.mark.parametrize(
    ("contributors", "fits", "told", "own", "scores"),
    [
        (12, 5, 5, True, True),
        (12, 3, 3, True, True),
        (12, 2, -1, False, True),
        (12, 1, -1, False, True),
        (12, 0, 0, False, True),
        (9, 9, 9, True, False),
        (10, 2, -1, False, True),
    ],
)
def test_sums_of_too_few_hospitals_do_not_leave(
    contributors: int, fits: int, told: int, own: bool, scores: bool
) -> None:
    total = total_of(contributors, fits)
    kept = of_sites(total, LAYOUT, 3)
    assert kept[[CONTRIBUTORS, EXAMPLES]].tolist() == [contributors, 500.0]
    assert kept[2:4].tolist() == [told, contributors]
    assert kept[4:10].tolist() == (total[4:10].tolist() if own else [0.0] * 6)
    assert kept[10:].tolist() == (total[10:].tolist() if scores else [0.0] * 4)


def test_a_total_for_each_purpose_leaves_by_its_own_rule() -> None:
    total = total_of(12, 1)
    assert given_out("train", total, LAYOUT, 3) is total
    assert given_out("sites", total, LAYOUT, 3).tolist() == of_sites(total, LAYOUT, 3).tolist()
    assert set(given_out("separation", total, LAYOUT, 3)[2:].tolist()) == {1.0}
