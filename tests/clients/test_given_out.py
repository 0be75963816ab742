"""Sums that compare hospitals, and sums of outcomes, without those of too few."""

from __future__ import annotations

import numpy as np
import pytest

from fl_he.clients.given_out import figures_of, given_out, of_sites
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.regression.calibration import outcome_sums
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.records import ProtocolError
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


def outcomes(rows: int = 90, packing: Packing | None = None) -> np.ndarray:
    """Return the total of counts that are all above 0, but for four at the smallest forecasts."""
    packing, features = packing or Packing(), np.linspace(-2.0, 2.0, rows)
    labels = np.where(np.arange(rows) < 4, 0.0, 2.0)
    data = Dataset(features[:, None], labels, ("a",), family="poisson")
    limbs = Limbs(packing.fraction_bits, packing.integer_bits)
    vector = outcome_sums(data, np.array([1.0, 0.0])).to_vector(limbs)
    return np.array([-3.0, rows, *vector])


@pytest.mark.parametrize("packing", [Packing(), Packing(fraction_bits=16, integer_bits=20)])
def test_outcomes_that_are_numbers_leave_in_bins_without_small_cells(packing: Packing) -> None:
    total = outcomes(packing=packing)
    withheld = figures_of(total, packing, 5)
    assert (withheld.examples, withheld.calibration, [*withheld.withheld]) == (
        *(90, None),
        ["calibration"],
    )
    told = figures_of(total, packing, 4)
    assert told.min_cell == 4
    assert [one.examples for one in told.calibration or ()] == [45, 45]
    assert (told.calibration or ())[0].observed == 2.0, "of 82 / 45, in steps of 0.2"


def test_outcomes_of_other_rows_than_the_total_says_do_not_leave() -> None:
    total = outcomes()
    total[EXAMPLES] += 1.0
    with pytest.raises(ProtocolError, match="counts must be of all held-out examples"):
        figures_of(total, Packing(), 5)
    with pytest.raises(ProtocolError, match="counts must be of one model, and they are not"):
        figures_of(np.append(outcomes(), 0.0), Packing(), 5)
