from __future__ import annotations

import statistics
from functools import partial
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.bench.timing import SHORT_SECONDS, Effort, in_turn, spread

SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30)


@given(SECONDS)
def test_a_spread_is_median_and_quartiles(seconds: list[float]) -> None:
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    wanted = {"median_seconds": median, "lower_quartile": lower, "upper_quartile": upper}
    assert spread(seconds) == pytest.approx(wanted)


def test_one_run_is_its_own_spread() -> None:
    assert set(spread([2.0]).values()) == {2.0}


@pytest.mark.parametrize(
    ("runs", "seconds", "done"),
    [
        (0, 99.0, False),  # one run at least, however long it may take
        (1, 10.0, True),  # the limit goes before `least`
        (2, 9.9, False),
        (3, 1.9, False),  # not enough yet
        (3, 2.0, True),
        (5, 0.0, True),  # never more than `most`
        (4, 0.0, False),
    ],
)
def test_an_effort_ends(runs: int, seconds: float, done: bool) -> None:
    effort = Effort(least=3, most=5, enough=2.0, limit=10.0)
    assert effort.is_done(runs, seconds) is done


def test_calls_take_turns() -> None:
    order: list[str] = []
    announced: list[str] = []
    calls = {name: partial(order.append, name) for name in "ab"}
    effort = Effort(least=3, most=3, enough=0.0, limit=1e9)
    results = in_turn(calls, effort, lambda text, *_: announced.append(text))
    assert announced == ["a", "b", "a", "b", "a", "b"]
    assert order == ["a", "a", "b", "b", "a", "a", "b", "b", "a", "a", "b", "b"]
    assert results == {"a": [None] * 3, "b": [None] * 3}


def test_a_short_call_is_measured_the_second_time_and_a_long_one_at_once() -> None:
    numbers = iter(range(10))

    def take(seconds: float) -> int:
        sleep(seconds)
        return next(numbers)

    calls = {"short": partial(take, 0.0), "long": partial(take, 1.1 * SHORT_SECONDS)}
    effort = Effort(least=2, most=2, enough=0.0, limit=1e9)
    assert in_turn(calls, effort, lambda *_: None) == {"short": [1, 4], "long": [2, 5]}


def test_each_call_has_its_own_effort() -> None:
    calls = {"slow": partial(sleep, 0.02), "quick": partial(sleep, 0)}
    results = in_turn(calls, Effort(least=1, most=4, enough=0.02, limit=1e9), lambda *_: None)
    assert {name: len(found) for name, found in results.items()} == {"slow": 1, "quick": 4}
