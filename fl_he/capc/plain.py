"""CaPC in one process without encryption, for studies, and what can be refused before a run.

Only a simulation can do either: it has everybody's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc.all_labels import voted_labels
from fl_he.capc.data import capc_data
from fl_he.capc.run import Batches, budget_of
from fl_he.capc.simulation import SimulatedParty
from fl_he.config.capc import Backend
from fl_he.config.run import Config
from fl_he.experiment.run import execute
from fl_he.learning.voting.gnmax import ConfidentGNMax, epsilon_by_votes
from fl_he.learning.voting.many_labels import ClippedVotes
from fl_he.learning.voting.noisy_vote import noisy_labels
from fl_he.wire.events import BatchEnded, Listener, StepEnded, unheard


def check(config: Config) -> None:
    """Refuse what the run would refuse later: data, models, budget.

    Raises
    ------
    DataError, CryptoError, PrivacyError
    """
    data, _ = capc_data(config), budget_of(config)
    _ = SimulatedParty(config, 0).terms
    if config.capc.backend is Backend.plain:
        return  # it evaluates the models as they are
    for index in range(config.hospitals):
        for label in voted_labels(config.capc):
            SimulatedParty(config, index, label).model()
    for index in data.pools:
        SimulatedParty(config, index).queries(config.capc.queries)


def run_plain(config: Config, folder: Path, on_event: Listener = unheard) -> dict[str, Any]:
    """Compute the same votes as an encrypted run in this process; see `execute`."""
    return execute(lambda tell: PlainBatches(config, folder, tell), config, folder, on_event)


class PlainBatches(Batches):
    """Batches that are answered without encryption; each is told as a step."""

    def __init__(self, config: Config, folder: Path, tell: Listener) -> None:
        super().__init__(config, folder, tell)
        self._votes: list[NDArray[np.float64]] = []

    def rounds(self) -> Iterator[BatchEnded]:
        """See Run."""
        for number, queries in self._batches():
            name = f"hospital-{number}"
            self._tell(StepEnded(f"votes on the queries of {name}, not encrypted"))
            self._add([self._answered(number - 1, queries, label) for label in self._labels])
            yield BatchEnded(name, queries)

    def _answered(self, index: int, queries: int, label: int) -> dict[str, Any]:
        """Answer a batch; return what the querying party says of it."""
        party, capc = SimulatedParty(self._config, index, label), self._config.capc
        if capc.tau is not None:
            clipped = ClippedVotes(len(capc.labels), capc.tau, capc.sigma_gnmax)
            return party.learn(clipped.answers(party.plain_classes(queries)))
        votes, terms = party.plain_votes(queries), party.terms
        labels = noisy_labels(
            votes, terms.variance_gnmax, terms.threshold, terms.variance_threshold
        )
        self._votes += list(votes.astype(np.float64))
        return party.learn(labels, votes)

    def finish(self) -> dict[str, Any]:
        """See Run."""
        analysis, noise = None, self._noise
        if isinstance(noise, ConfidentGNMax):
            bound = epsilon_by_votes(self._votes, noise, self._config.capc.delta)
            analysis = {"epsilon_by_votes": bound, "releasable": False}
        return self._write(analysis=analysis)
