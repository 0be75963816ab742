"""CaPC in one process without encryption, for studies, and what can be refused before a run.

Only a simulation can do either: it has everybody's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc.data import capc_data
from fl_he.capc.run import Budget, write_run
from fl_he.capc.simulation import capc_terms, integer_model, mapped_queries, outcome, plain_votes
from fl_he.config import Backend, Config
from fl_he.experiment.run import execute
from fl_he.learning.voting.gnmax import epsilon_by_votes
from fl_he.learning.voting.noisy_vote import noisy_labels
from fl_he.wire.events import BatchEnded, Listener, StepEnded, unheard


def check(config: Config) -> None:
    """Refuse what the run would refuse later: data, models, budget.

    Raises
    ------
    DataError, CryptoError, PrivacyError
    """
    data, _ = capc_data(config), Budget(config)
    capc_terms(config)
    if config.capc.backend is Backend.plain:
        return  # it evaluates the models as they are
    for party in range(config.hospitals):
        integer_model(config, data, party)
    for party in data.pools:
        mapped_queries(config, data, party, config.capc.queries)


def run_plain(config: Config, folder: Path, on_event: Listener = unheard) -> dict[str, Any]:
    """Compute the same votes as an encrypted run in this process; see `execute`."""
    return execute(lambda tell: PlainBatches(config, folder, tell), config, folder, on_event)


class PlainBatches:
    """Batches of the querying parties, answered without encryption; see `Run` for the methods.

    Parameters
    ----------
    config : Config
        With ``capc.enabled``.
    folder : Path
        Where metrics.json and report.html go.
    tell : callable
        Is told each batch, as a step.
    """

    def __init__(self, config: Config, folder: Path, tell: Listener) -> None:
        self._start = perf_counter()
        self._config, self._folder, self._tell = config, folder, tell
        self._budget = Budget(config)
        self._data, self._terms = capc_data(config), capc_terms(config)
        self._results: list[dict[str, Any]] = []
        self._votes: list[NDArray[np.float64]] = []

    def rounds(self) -> Iterator[BatchEnded]:
        """See Run."""
        config, data, terms = self._config, self._data, self._terms
        for number in sorted(config.capc.querying):
            if queries := self._budget.next_batch():
                party = f"hospital-{number}"
                self._tell(StepEnded(f"votes on the queries of {party}, not encrypted"))
                votes = plain_votes(config, data, number - 1, queries)
                labels = noisy_labels(
                    votes, terms.variance_gnmax, terms.threshold, terms.variance_threshold
                )
                self._results.append(outcome(config, data, number - 1, labels, votes))
                self._votes += list(votes.astype(np.float64))
                yield BatchEnded(party, queries)

    def finish(self) -> dict[str, Any]:
        """See Run."""
        analysis, noise = None, self._budget.noise
        if noise is not None:
            bound = epsilon_by_votes(self._votes, noise, self._config.capc.delta)
            analysis = {"epsilon_by_votes": bound, "releasable": False}
        return write_run(
            self._config,
            self._folder,
            results=self._results,
            privacy=self._budget.spent(),
            steps=[],
            seconds=perf_counter() - self._start,
            analysis=analysis,
        )
