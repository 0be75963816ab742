"""CaPC in one process without encryption, for studies, and what can be refused before a run.

Only a simulation can do either: it has everybody's data.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fl_he.capc.data import capc_data
from fl_he.capc.run import Budget, OnStep, write_run
from fl_he.capc.simulation import capc_terms, integer_model, mapped_queries, outcome, plain_votes
from fl_he.config import Backend, Config
from fl_he.learning.voting.gnmax import epsilon_by_votes
from fl_he.learning.voting.noisy_vote import noisy_labels


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


def run_plain(config: Config, folder: Path, on_step: OnStep = lambda _: None) -> dict[str, Any]:
    """Compute the same votes without encryption, in this process; see `capc_run.run_encrypted`."""
    start = perf_counter()
    budget, data, terms = Budget(config), capc_data(config), capc_terms(config)
    results, all_votes = [], []
    for number in sorted(config.capc.querying):
        if queries := budget.next_batch():
            on_step(f"votes on the queries of hospital-{number}, not encrypted")
            votes = plain_votes(config, data, number - 1, queries)
            labels = noisy_labels(
                votes, terms.variance_gnmax, terms.threshold, terms.variance_threshold
            )
            results.append(outcome(config, data, number - 1, labels, votes))
            all_votes += list(votes.astype(np.float64))
    analysis = None
    if budget.noise is not None:
        analysis = {
            "epsilon_by_votes": epsilon_by_votes(all_votes, budget.noise, config.capc.delta),
            "releasable": False,
        }
    return write_run(
        config,
        folder,
        budget,
        results=results,
        steps=[],
        seconds=perf_counter() - start,
        analysis=analysis,
    )
