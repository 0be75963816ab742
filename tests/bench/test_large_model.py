from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest
from local_grid import LocalGrid, simulated_nodes

from fl_he.bench import federation, large_model
from fl_he.bench.federation import FederationPlan, Rounds
from fl_he.bench.large_model import (
    FULL,
    HOSPITALS,
    KINDS,
    QUICK,
    all_apps,
    all_variants,
    masked_sum,
    measure_rounds,
)
from fl_he.wire.records import ENCRYPTED_STYPE

PLAN = FederationPlan(warm_up=1, blocks=2, rounds=3)
VARIANTS = ["encrypted", "plain", "plain, fl-he's polling"]
WIDTH = 20
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture
def grid() -> LocalGrid:
    return LocalGrid(all_apps(1024), simulated_nodes(HOSPITALS))


def variants_of(grid: LocalGrid, name: str) -> dict[str, Rounds]:
    kind = BY_NAME[name]
    return all_variants(grid, WIDTH, kind, masked_sum(kind, itertools.count(1)))


def test_each_variant_is_measured_as_often(grid: LocalGrid) -> None:
    section = measure_rounds(grid, WIDTH, PLAN, lambda *_: None)
    rows = section["rows"]
    assert [(row["round"], row["variant"]) for row in rows] == [
        (kind.name, name) for kind in KINDS for name in VARIANTS
    ]
    for kind in KINDS:
        own = [row for row in rows if row["round"] == kind.name]
        encrypted = own[0]["median_seconds"]
        for row in own:
            assert row["rounds"] == 4, "the first round of each block is discarded"
            assert 0 < row["lower_quartile"] <= row["median_seconds"] <= row["upper_quartile"]
            assert row["encrypted_to_this"] == encrypted / row["median_seconds"]
            assert row["added_seconds"] == encrypted - row["median_seconds"]
            cpu = row["cpu_seconds"]
            assert row["encrypted_to_this_cpu"] == (own[0]["cpu_seconds"] / cpu if cpu else None)
    figures = [section[name] for name in ("hospitals", "parameters", "scheme", "topology")]
    assert figures == [3, WIDTH**2, "masks", "fold"]
    assert all(value > 0 for value in section["steps"].values())
    assert not any(message.has_error() for message in grid.received)


def test_rounds_without_measurable_cpu_time_have_no_ratio_of_it(
    grid: LocalGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "family_cpu_seconds", lambda: 0.0)
    monkeypatch.setattr(large_model, "KINDS", KINDS[-1:])
    section = measure_rounds(grid, WIDTH, FederationPlan(1, 1, 2), lambda *_: None)
    assert {row["encrypted_to_this_cpu"] for row in section["rows"]} == {None}
    json.dumps(section, allow_nan=False)  # as bench.json is written


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("kind", "plain", "sums"),
    [
        ("5 passes, evaluate", {"train": 3, "evaluate": 3}, 2),
        ("5 passes", {"train": 3}, 1),
        ("1 pass", {"train": 3}, 1),
        ("no training", {"train": 3}, 1),
    ],
)
def test_a_round_sends_what_the_variant_says(
    grid: LocalGrid, kind: str, plain: dict[str, int], sums: int, variant: str
) -> None:
    variants = variants_of(grid, kind)
    grid.sent.clear()
    grid.received.clear()
    assert len(variants[variant](2)) == 2
    kinds = plain | ({"query.decrypt": sums} if variant == "encrypted" else {})
    assert Counter(message.metadata.message_type for message in grid.sent) == {
        name: 2 * count for name, count in kinds.items()
    }
    for update in (m for m in grid.received if m.metadata.message_type == "train"):
        (record,) = update.content.array_records.values()
        (array,) = record.values()
        if variant == "encrypted":
            # Seven bytes for each value with three contributors, where a float has four.
            assert array.stype == ENCRYPTED_STYPE
            assert len(array.data) >= 7 * WIDTH**2
            assert not update.content.metric_records
        else:
            assert (array.dtype, array.shape) == ("float32", (WIDTH, WIDTH))


def test_plain_rounds_use_flowers_own_loop(
    grid: LocalGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(messages: object, *, timeout: float | None = None) -> None:
        raise AssertionError(timeout)

    variants = variants_of(grid, "1 pass")
    monkeypatch.setattr(grid, "send_and_receive", refuse)
    with pytest.raises(AssertionError, match="120"):
        variants["plain"](1)
    assert len(variants["plain, fl-he's polling"](1)) == 1


@pytest.mark.parametrize("kind", BY_NAME)
def test_plain_and_encrypted_learn_the_same(grid: LocalGrid, kind: str) -> None:
    variants, moved = variants_of(grid, kind), {}
    for name in ("encrypted", "plain"):
        grid.sent.clear()
        variants[name](2)
        sent = [m for m in grid.sent if m.metadata.message_type == "train"]
        (first,), (last,) = (
            m.content.array_records["arrays"].to_numpy_ndarrays() for m in (sent[0], sent[-1])
        )
        assert last.dtype == "float32"
        moved[name] = last - first
    assert (abs(moved["plain"]).max() > 0.01) == bool(BY_NAME[kind].passes)
    assert abs(moved["encrypted"] - moved["plain"]).max() < 1e-6


def test_quick_selects_less() -> None:
    assert QUICK.blocks < FULL.blocks
    assert (HOSPITALS, large_model.WIDTH**2) == (3, 1_000_000)
    assert min(FULL.rounds, QUICK.rounds) > 1
