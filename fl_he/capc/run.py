"""A run of CaPC: the querying parties one after another, the budget, the run's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.serverapp import Grid

from fl_he.capc.coordinator.roster import GUARDIAN
from fl_he.capc.coordinator.rounds import CaPC
from fl_he.config import Backend, Config
from fl_he.experiment.run import origin_figures
from fl_he.learning.errors import PrivacyError
from fl_he.learning.voting.gnmax import ConfidentGNMax, VotingBudget
from fl_he.report import files
from fl_he.run_files import metrics_contract
from fl_he.strategies.grid import HopWatch
from fl_he.strategies.update_sum import segments_of
from fl_he.wire.events import BatchEnded, Listener, StepEnded
from fl_he.wire.records import ProtocolError

#: What only a simulation knows of a querying party.
_UNTOLD = (
    *("answered", "refused", "label_accuracy", "equal_to_plain_majority", "examples"),
    *("before", "after"),
)


class EncryptedBatches:
    """Batches of the querying parties, answered over a grid; see `Run` for the methods.

    Deployed parties tell nobody what came of their batches. How much of the budgets earlier runs
    have spent is in the answering parties' ledgers, which refuse what is too much.

    Parameters
    ----------
    grid : Grid
    config : Config
        With ``capc.enabled``.
    folder : Path
        Where metrics.json and report.html go.
    tell : callable
        Is told each hop and each step.

    Raises
    ------
    FlHeError
        If the nodes or the budget are such that nobody can ask.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        self._start = perf_counter()
        self._config, self._folder = config, folder
        self._budget = Budget(config)
        self._names: dict[int, str] = {}
        self._protocol = CaPC(
            HopWatch(grid, self._name, tell),
            config.hospitals,
            topology=config.topology,
            segments=segments_of(config.segments, config.hospitals - 1),
            timeout=config.hop_timeout,
            on_step=lambda step: tell(StepEnded(step)),
        )
        self._names.update((node, name) for name, node in self._protocol.parties.items())
        self._results: list[dict[str, Any]] = []

    def rounds(self) -> Iterator[BatchEnded]:
        """See Run."""
        simulated = self._protocol.agreement is None
        for party, queries in self._simulated() if simulated else self._deployed():
            report = self._protocol.ask(self._protocol.parties[party], queries)
            untold = {"party": party, "queries": queries, **dict.fromkeys(_UNTOLD)}
            self._results.append(report if simulated else untold)
            yield BatchEnded(party, queries)

    def finish(self) -> dict[str, Any]:
        """See Run."""
        protocol, agreement = self._protocol, self._protocol.agreement
        if agreement is None:
            privacy = self._budget.spent()
        elif not self._results:
            raise ProtocolError(
                "CaPC must have a party with open cases, and budget left with all who answer, got "
                "none"
            )
        else:
            asked = sum(result["queries"] for result in self._results)
            noise = ConfidentGNMax(agreement.sigma_gnmax, agreement.sigma_threshold)
            epsilon = noise.epsilon(asked, asked, agreement.delta)
            privacy = {"epsilon": epsilon, "delta": agreement.delta, "queries": asked}
        return write_run(
            self._config,
            self._folder,
            results=self._results,
            privacy=privacy,
            steps=[asdict(cost) for cost in protocol.costs.values()],
            seconds=perf_counter() - self._start,
            keys=protocol.fingerprints,
            agreement=None if agreement is None else agreement.fingerprint,
        )

    def _simulated(self) -> Iterator[tuple[str, int]]:
        """Yield the parties that the configuration names, as long as the budget lasts."""
        for number in sorted(self._config.capc.querying):
            if queries := self._budget.next_batch():
                yield f"hospital-{number}", queries

    def _deployed(self) -> Iterator[tuple[str, int]]:
        """Yield each party that has open cases, in the order of names."""
        for name, node in sorted(self._protocol.parties.items()):
            queries = min(self._config.capc.queries, self._protocol.askable(node))
            if queries > 0:
                yield name, queries

    def _name(self, node: int) -> str:
        return self._names.get(node, GUARDIAN if self._names else f"node {node}")


class Budget:
    """How many queries may still be asked, and what they have cost.

    Who got no answer is known to the querying party alone, so every query counts as answered.
    """

    def __init__(self, config: Config) -> None:
        capc = config.capc
        self._queries, self._delta = capc.queries, capc.delta
        self._noise: ConfidentGNMax | None = None
        self._budget: VotingBudget | None = None
        self._asked = 0
        tested = capc.threshold is None or capc.sigma_threshold is not None
        if capc.sigma_gnmax is not None and tested:
            threshold = 0.0 if capc.threshold is None else capc.threshold
            self._noise = ConfidentGNMax(capc.sigma_gnmax, capc.sigma_threshold, threshold)
            self._noise.epsilon(1, 1, capc.delta)  # refused now if dp-accounting is not there
        if self._noise is not None and capc.epsilon is not None:
            self._budget = VotingBudget(self._noise, capc.epsilon, capc.delta)
            if not self._budget.affordable():
                raise PrivacyError(
                    f"capc.epsilon must allow one query at least, got {capc.epsilon:g}: raise it, "
                    "or the sigmas"
                )

    @property
    def noise(self) -> ConfidentGNMax | None:
        """The noise of a vote; None if something is released without any."""
        return self._noise

    def next_batch(self) -> int:
        """Return the size of the next batch, 0 if nothing is left, and count it as spent."""
        queries = self._queries
        if self._budget is not None:
            queries = min(queries, self._budget.affordable())
            self._budget.spend(queries, queries)
        self._asked += queries
        return queries

    def spent(self) -> dict[str, Any]:
        """Return what may be said of privacy: for any votes, and every query as answered."""
        epsilon = None
        if self._noise is not None:
            epsilon = self._noise.epsilon(self._asked, self._asked, self._delta)
        return {"epsilon": epsilon, "delta": self._delta, "queries": self._asked}


def write_run(
    config: Config,
    folder: Path,
    *,
    results: list[dict[str, Any]],
    privacy: dict[str, Any],
    steps: list[dict[str, Any]],
    seconds: float,
    keys: Sequence[Mapping[str, str]] = (),
    agreement: str | None = None,
    analysis: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write metrics.json and report.html; return what the former holds.

    Parameters
    ----------
    config : Config
    folder : Path
        Made if it does not exist.
    results : list of dict
        What each querying party said of itself.
    privacy : dict
        What may be said of the budget that was spent.
    steps : list of dict
        What each step cost; none without encryption.
    seconds : float
        Of the whole run.
    keys : sequence of mapping
        Fingerprints of the public keys, as `CaPC.fingerprints` returns them; none without
        encryption.
    agreement : str, optional
        Fingerprint of what deployed nodes have agreed on.
    analysis : dict, optional
        What only somebody who knows all votes can say, not to be released with the labels.
    """
    metrics = {
        **origin_figures(),
        "protocol": metrics_contract.CAPC,
        "config": asdict(config),
        "encrypted": config.capc.backend is Backend.encrypted,
        "querying": results,
        "privacy": privacy,
        "analysis": analysis,
        "steps": steps,
        "keys": list(keys),
        "agreement": agreement,
        "seconds": seconds,
    }
    return files.write_run(folder, metrics)
