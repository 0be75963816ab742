from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.bench.federation import (
    FULL,
    KEY_BITS,
    QUICK,
    CountingSum,
    FederationPlan,
    GroupGrid,
    SideBySide,
    all_apps,
    all_variants,
    descent,
    measure_variants,
)
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.wire.model import update_content
from fl_he.wire.records import ENCRYPTED_STYPE

PLAN = FederationPlan(warm_up=1, blocks=2, rounds=3)
VARIANTS = [
    "encrypted",
    "plain",
    "plain, fl-he's polling",
    "plain, train only",
    "empty messages",
]


@pytest.fixture
def config() -> Config:
    return compose("config", "crypto.key_bits=1024")


@pytest.fixture
def grid(config: Config) -> LocalGrid:
    return LocalGrid(all_apps(config), simulated_nodes(3))


def test_each_variant_is_measured_as_often(config: Config, grid: LocalGrid) -> None:
    section = measure_variants(grid, config, PLAN, lambda *_: None)
    assert [row["variant"] for row in section["variants"]] == VARIANTS
    empty = section["variants"][-1]["median_seconds"]
    for row in section["variants"]:
        assert row["rounds"] == 4, "the first round of each block is discarded"
        assert 0 < row["lower_quartile"] <= row["median_seconds"] <= row["upper_quartile"]
        assert row["beyond_empty_seconds"] == row["median_seconds"] - empty
        # Of one process here, which works on these rounds alone.
        assert 0 <= row["cpu_seconds"] < 3 * row["mean_seconds"] + 0.05
    by_name = {row["variant"]: row for row in section["variants"]}
    encrypted = by_name["encrypted"]
    assert [ratio["encrypted_to"] for ratio in section["ratios"]] == VARIANTS[1:]
    for ratio in section["ratios"]:
        other = by_name[ratio["encrypted_to"]]
        assert ratio["of_medians"] == encrypted["median_seconds"] / other["median_seconds"]
        assert ratio["of_means"] == encrypted["mean_seconds"] / other["mean_seconds"]
    assert all(value > 0 for value in section["steps"].values())
    assert not any(message.has_error() for message in grid.received)


def records(message: Any) -> tuple[bool, bool]:
    """Tell whether a message holds plain metrics, and whether it holds an encrypted sum."""
    content = message.content
    encrypted = any(
        array.stype == ENCRYPTED_STYPE
        for record in content.array_records.values()
        for array in record.values()
    )
    return bool(content.metric_records), encrypted


@pytest.mark.parametrize(
    ("variant", "kinds", "replies"),
    [
        ("encrypted", {"train": 3, "query.decrypt": 1}, {(False, True): 3, (False, False): 1}),
        ("plain", {"train": 3, "evaluate": 3}, {(True, False): 6}),
        ("plain, fl-he's polling", {"train": 3, "evaluate": 3}, {(True, False): 6}),
        ("plain, train only", {"train": 3}, {(True, False): 3}),
        ("empty messages", {"train": 4}, {(False, False): 4}),
    ],
)
def test_a_round_sends_what_the_variant_says(
    config: Config,
    grid: LocalGrid,
    variant: str,
    kinds: dict[str, int],
    replies: dict[tuple[bool, bool], int],
) -> None:
    variants = all_variants(grid, config, CountingSum(descent(config), iter([5, 6])))
    grid.sent.clear()
    grid.received.clear()
    assert len(variants[variant](2)) == 2
    assert Counter(message.metadata.message_type for message in grid.sent) == {
        kind: 2 * count for kind, count in kinds.items()
    }
    assert Counter(records(message) for message in grid.received) == {
        kind: 2 * count for kind, count in replies.items()
    }
    if variant == "empty messages":
        messages = grid.sent + grid.received
        assert all(not message.content for message in messages)
        first = [message.metadata.dst_node_id for message in grid.sent[:4]]
        assert first == [1000, 1001, 1002, 1003], "hospitals, then company X"


def test_plain_rounds_use_flowers_own_loop(
    config: Config, grid: LocalGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(messages: object, *, timeout: float | None = None) -> None:
        raise AssertionError(timeout)

    variants = all_variants(grid, config, CountingSum(descent(config), iter([1])))
    monkeypatch.setattr(grid, "send_and_receive", refuse)
    for name in ("plain", "plain, train only"):
        with pytest.raises(AssertionError, match="120"):
            variants[name](1)
    for name in ("plain, fl-he's polling", "empty messages"):
        assert len(variants[name](1)) == 1


def test_plain_and_encrypted_learn_the_same(config: Config, grid: LocalGrid) -> None:
    numbers = iter(range(1, 100))
    variants = all_variants(grid, config, CountingSum(descent(config), numbers))
    losses = {}
    for name in ("encrypted", "plain"):
        grid.sent.clear()
        variants[name](3)
        models = [m for m in grid.sent if m.metadata.message_type == "train"]
        losses[name] = models[-1].content.array_records["arrays"]["coefficients"].numpy()
    assert abs(losses["encrypted"]).max() > 0.01
    assert abs(losses["encrypted"] - losses["plain"]).max() < 1e-6


def test_quick_selects_less() -> None:
    assert QUICK.blocks < FULL.blocks
    assert KEY_BITS == 2048
    assert FULL.rounds > 1
    assert QUICK.rounds > 1


def app_that_says(name: str) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(update_content(None, MetricRecord({name: 1})), reply_to=message)

    return app


def who_answers(grid: LocalGrid | GroupGrid) -> list[str]:
    nodes = list(grid.get_node_ids())
    replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in nodes])
    return [next(iter(m.content.metric_records.values())).popitem()[0] for m in replies]


def test_a_group_has_its_own_app() -> None:
    app = SideBySide(app_that_says("default"), {"other": app_that_says("other")})
    grid = LocalGrid(app, simulated_nodes(2))
    assert who_answers(grid) == ["default"] * 3
    assert who_answers(GroupGrid(grid, "other")) == ["other"] * 3
    assert who_answers(GroupGrid(grid, "unheard of")) == ["default"] * 3


def test_pushed_messages_are_labelled_too() -> None:
    grid = LocalGrid(app_that_says("x"), simulated_nodes(2))
    list(GroupGrid(grid, "g").push_messages([Message(RecordDict(), 1000, "train")]))
    assert [message.metadata.group_id for message in grid.sent] == ["g"]
