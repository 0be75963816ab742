"""A run of CaPC: the querying parties one after another, the budget, the run's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.serverapp import Grid

from fl_he.capc.agreement import Agreement
from fl_he.capc.coordinator.rounds import CaPC
from fl_he.config import Backend, Config
from fl_he.experiment.run_figures import origin_figures
from fl_he.learning.errors import PrivacyError
from fl_he.learning.voting.gnmax import ConfidentGNMax, VotingBudget
from fl_he.report import files
from fl_he.run_files import metrics_contract
from fl_he.strategies.hop_watch import HopWatch
from fl_he.strategies.topologies import segments_of
from fl_he.wire.hop import OnHop
from fl_he.wire.records import ProtocolError

#: What only a simulation knows of a querying party.
_UNTOLD = (
    *("answered", "refused", "label_accuracy", "equal_to_plain_majority", "examples"),
    *("before", "after"),
)

_GUARDIAN = "the privacy guardian"

#: What is told while a run goes on.
OnStep = Callable[[str], None]


def run_encrypted(
    grid: Grid,
    config: Config,
    folder: Path,
    on_step: OnStep = lambda _: None,
    on_hop: OnHop = lambda _: None,
) -> dict[str, Any]:
    """Have the querying parties' batches answered over the grid, and write the run's files.

    Parameters
    ----------
    grid : Grid
    config : Config
        With ``capc.enabled``.
    folder : Path
        Where metrics.json and report.html go.
    on_step : callable
        Is told each step.
    on_hop : callable
        Is told when a message goes out to a node and when its answer comes.

    Returns
    -------
    dict
        What metrics.json holds; docs/capc.md documents it.

    Raises
    ------
    ProtocolError, CryptoError, DataError, PrivacyError
        Whatever was refused; no file is written then.
    """
    start = perf_counter()
    budget = Budget(config)
    names: dict[int, str] = {}
    protocol = CaPC(
        HopWatch(
            grid, lambda node: names.get(node, _GUARDIAN if names else f"node {node}"), on_hop
        ),
        config.hospitals,
        topology=config.topology,
        segments=segments_of(config.segments, config.hospitals - 1),
        timeout=config.hop_timeout,
        on_step=on_step,
    )
    names.update((node, name) for name, node in protocol.parties.items())
    if protocol.agreement is not None:
        return _run_deployed(protocol, protocol.agreement, config, folder, start)
    results = []
    for number in sorted(config.capc.querying):
        if queries := budget.next_batch():
            results.append(protocol.ask(protocol.parties[f"hospital-{number}"], queries).report)
    steps = [asdict(cost) for cost in protocol.costs.values()]
    return write_run(
        config,
        folder,
        budget,
        results=results,
        steps=steps,
        seconds=perf_counter() - start,
        keys=protocol.fingerprints,
    )


def _run_deployed(
    protocol: CaPC, agreement: Agreement, config: Config, folder: Path, start: float
) -> dict[str, Any]:
    """Ask for each party that has open cases, in the order of names.

    What came of them the parties tell nobody. How much of the budgets earlier runs have spent is in
    the answering parties' ledgers, which refuse what is too much.
    """
    results, asked = [], 0
    for name, node in sorted(protocol.parties.items()):
        if (queries := min(config.capc.queries, protocol.askable(node))) > 0:
            protocol.ask(node, queries)
            asked += queries
            results.append({"party": name, "queries": queries, **dict.fromkeys(_UNTOLD)})
    if not results:
        raise ProtocolError(
            "CaPC must have a party with open cases, and budget left with all who answer, got none"
        )
    noise = ConfidentGNMax(agreement.sigma_gnmax, agreement.sigma_threshold)
    epsilon = noise.epsilon(asked, asked, agreement.delta)
    return _write(
        config,
        folder,
        results=results,
        privacy={"epsilon": epsilon, "delta": agreement.delta, "queries": asked},
        steps=[asdict(cost) for cost in protocol.costs.values()],
        seconds=perf_counter() - start,
        keys=protocol.fingerprints,
        agreement=agreement.fingerprint,
    )


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
    budget: Budget,
    *,
    results: list[dict[str, Any]],
    steps: list[dict[str, Any]],
    seconds: float,
    keys: Sequence[Mapping[str, str]] = (),
    analysis: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write metrics.json and report.html; return what the former holds.

    Parameters
    ----------
    config : Config
    folder : Path
        Made if it does not exist.
    budget : Budget
        As it was spent.
    results : list of dict
        What each querying party said of itself.
    steps : list of dict
        What each step cost; none without encryption.
    seconds : float
        Of the whole run.
    keys : sequence of mapping
        Fingerprints of the public keys, as `CaPC.fingerprints` returns them; none without
        encryption.
    analysis : dict, optional
        What only somebody who knows all votes can say, not to be released with the labels.
    """
    return _write(
        config,
        folder,
        results=results,
        privacy=budget.spent(),
        steps=steps,
        seconds=seconds,
        keys=keys,
        analysis=analysis,
    )


def _write(
    config: Config,
    folder: Path,
    *,
    results: list[dict[str, Any]],
    privacy: dict[str, Any],
    steps: list[dict[str, Any]],
    seconds: float,
    keys: Sequence[Mapping[str, str]],
    agreement: str | None = None,
    analysis: dict[str, Any] | None = None,
) -> dict[str, Any]:
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
