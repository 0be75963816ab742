"""Bands of survival curves, compared with statsmodels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from example_pages import make_table
from statsmodels.duration.survfunc import SurvfuncRight

from fl_he.report.blocks import Charts, Note, Section
from fl_he.report.page.table_page import survival_bands, table_page

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("rows", [25, 400])
def test_bands_hold_the_quantiles_that_statsmodels_intervals_hold(rows: int) -> None:
    times = np.ceil(RNG.exponential(20.0, rows))
    theirs = SurvfuncRight(times, RNG.random(rows) < 0.7)
    bands = survival_bands(
        {"survival": theirs.surv_prob.tolist(), "standard_error": theirs.surv_prob_se.tolist()}
    )
    known = [
        (t, s, band)
        for t, s, band in zip(theirs.surv_times, theirs.surv_prob, bands, strict=True)
        if band is not None and s < 1
    ]
    assert len(known) > 10
    for share in (0.25, 0.5, 0.75):
        # Their interval of a quantile is of the times whose band of survival holds the share: from
        # the first one until the first time after the last one.
        held = [t for t, _, (low, high) in known if low <= share <= high]
        after = [t for t in theirs.surv_times if t > max(held)]
        found = theirs.quantile_ci(1 - share, method="cloglog")
        assert found == (min(held), min(after, default=np.inf))
    assert all(0.0 < low < s < high < 1.0 for _, s, (low, high) in known)


def survival(metrics: dict[str, Any]) -> Section:
    return next(one for one in table_page(metrics).sections if one.title == "Survival")


def test_the_page_has_bands_unless_there_is_noise_or_many_groups() -> None:
    metrics = copy.deepcopy(make_table())
    (charts,) = (one for one in survival(metrics).blocks if isinstance(one, Charts))
    assert " Intervals: F " in charts.charts[0].alt
    notes = [one.text for one in survival(metrics).blocks if isinstance(one, Note)]
    assert any("pointwise 95% intervals" in one for one in notes)
    names = ("epsilon", "epsilon_towards_a_hospital", "epsilon_of_one_update")
    metrics["privacy"] = dict.fromkeys(names, 1.0) | {"delta": 1e-5, "contributors_counted": 3}
    metrics["table"]["noise"] = 1.0
    assert "Intervals" not in str(survival(metrics).blocks)
    assert "pointwise" not in str(survival(metrics).blocks)
    metrics["privacy"] = None
    metrics["table"] |= {"groups": [*"abcde"], "sizes": [24] * 5, "variables": []}
    first, *_ = metrics["table"]["survival"]["curves"]
    metrics["table"]["survival"]["curves"] = [first] * 6
    assert "Intervals" not in str(survival(metrics).blocks)
