from __future__ import annotations

import threading
from functools import partial

import pytest

from fl_he.crypto.paillier.threads import available_cores, run_all


def test_results_come_in_order_of_the_calls() -> None:
    assert run_all(partial(pow, i, 2) for i in range(20)) == [i * i for i in range(20)]
    assert run_all([lambda: 3]) == [3]


def test_calls_run_side_by_side() -> None:
    barrier = threading.Barrier(3, timeout=120)
    assert sorted(run_all([barrier.wait] * 3)) == [0, 1, 2]


def test_an_exception_of_any_call_is_raised() -> None:
    def fail() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_all([lambda: 1, fail])
    with pytest.raises(KeyError):
        run_all([fail, lambda: 1])


def test_there_is_a_core() -> None:
    assert available_cores() >= 1
