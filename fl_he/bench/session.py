"""Several strategies that meet the same nodes in one Ray session, and their rounds' times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl_he.learning_messages import LearningTerms
from fl_he.strategies.sequential_paillier import SequentialPaillier

#: Seconds to wait for replies: what is measured takes a fraction of it.
HOP_TIMEOUT = 120.0


class CountingSum(SequentialPaillier):
    """Numbers its sums on from one start to the next: a key holder opens a round once.

    Parameters
    ----------
    strategy : Strategy
        The wrapped one.
    numbers : iterator of int
        Gives each sum its number; strategies that share a key holder share it.
    topology, segments
        See SequentialPaillier.
    """

    def __init__(
        self,
        strategy: Strategy,
        numbers: Iterator[int],
        topology: str = "fold",
        segments: int | str = 1,
    ) -> None:
        super().__init__(strategy, topology=topology, segments=segments, hop_timeout=HOP_TIMEOUT)
        self._numbers = numbers

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See SequentialPaillier; ``server_round`` starts from 1 each time."""
        return super().aggregate_train(next(self._numbers), replies)


def timed_rounds(strategy: Strategy, grid: Grid, model: ArrayRecord, rounds: int) -> list[float]:
    """Run a strategy as any Flower app does and return the wall seconds of each round.

    Parameters
    ----------
    strategy : Strategy
    grid : Grid
    model : ArrayRecord
        Where it starts.
    rounds : int
        How many rounds.
    """
    marks: list[float] = []

    def mark(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        marks.append(perf_counter())
        return None

    # Units in which no gradient outgrows its slot, without a round to find them.
    strategy.start(
        grid,
        initial_arrays=model,
        num_rounds=rounds,
        timeout=HOP_TIMEOUT,
        train_config=LearningTerms("local").to_config(),
        evaluate_config=LearningTerms("local").to_config(),
        evaluate_fn=mark,
    )
    seconds: list[float] = np.diff(marks).tolist()
    return seconds
