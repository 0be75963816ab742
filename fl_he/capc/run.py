"""A run of CaPC: the querying parties one after another, the budget, the run's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.serverapp import Grid

from fl_he.capc.agreement import Agreement
from fl_he.capc.all_labels import of_all_labels, voted_labels
from fl_he.capc.coordinator.roster import CapcRoster
from fl_he.capc.coordinator.rounds import CaPC
from fl_he.config.capc import Backend
from fl_he.config.run import Config
from fl_he.experiment.run import origin_figures
from fl_he.learning.errors import PrivacyError
from fl_he.learning.voting.gnmax import ConfidentGNMax, VotingBudget, noise_of
from fl_he.learning.voting.many_labels import ClippedVotes
from fl_he.report import files
from fl_he.run_files import metrics_contract
from fl_he.strategies.grid import HopWatch
from fl_he.strategies.pairing import require_masks
from fl_he.strategies.update_sum import segments_of
from fl_he.wire.events import BatchEnded, Listener, StepEnded
from fl_he.wire.records import ProtocolError

#: What only a simulation knows of a querying party.
_UNTOLD = (
    *("answered", "refused", "label_accuracy", "equal_to_plain_majority", "examples"),
    *("before", "after"),
)


class Batches:
    """Batches of the querying parties, one after another; see `Run` for the methods of each kind.

    Parameters
    ----------
    config : Config
        With ``capc.enabled``.
    folder : Path
        Where metrics.json and report.html go.
    tell : callable
        Is told each hop and each step.
    """

    def __init__(self, config: Config, folder: Path, tell: Listener) -> None:
        self._start = perf_counter()
        self._config, self._folder, self._tell = config, folder, tell
        self._noise, self._budget = budget_of(config)
        self._labels = voted_labels(config.capc)
        self._results: list[dict[str, Any]] = []  # what each querying party said of itself

    def _batches(self) -> Iterator[tuple[int, int]]:
        """Yield the configured parties, and how many cases each asks about within the budget.

        In a binary vote each label of a case counts as a query.
        """
        for number in sorted(self._config.capc.querying):
            cases, votes = self._config.capc.queries, len(self._labels)
            if self._budget is not None:
                cases = min(cases, self._budget.affordable() // votes)
                self._budget.spend(cases * votes)
            if cases:
                yield number, cases

    def _add(self, learned: Sequence[dict[str, Any]]) -> None:
        """Add what a querying party says of its batch, or of its batch for each label."""
        names = self._config.capc.labels
        self._results.append(of_all_labels(learned, names) if learned[1:] else learned[0])

    def _write(
        self,
        *,
        steps: Sequence[dict[str, Any]] = (),
        keys: Sequence[Mapping[str, str]] = (),
        agreement: Agreement | None = None,
        masked_votes: int = 0,
        analysis: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write metrics.json and report.html; return what the former holds.

        Parameters
        ----------
        steps : sequence of dict
            What each step cost; none without encryption.
        keys : sequence of mapping
            Fingerprints of the public keys, as `CaPC.fingerprints` returns them; none without
            encryption.
        agreement : Agreement, optional
            Of deployed nodes.
        masked_votes : int
            Fewest votes that are masked for each other in a batch; 0 without masks.
        analysis : dict, optional
            What only somebody who knows all votes can say, not to be released with the labels.
        """
        noise, delta = self._noise, self._config.capc.delta
        if agreement is not None:
            noise, delta = agreement.noise, agreement.delta
        # Who got no answer is known to the querying party alone, so every query counts as answered.
        asked = sum(result["queries"] for result in self._results)
        epsilon = None if noise is None else noise.epsilon(asked, delta)
        metrics = {
            **origin_figures(),
            "protocol": metrics_contract.CAPC,
            "config": asdict(self._config),
            "encrypted": self._config.capc.backend is Backend.encrypted,
            "querying": self._results,
            "privacy": {"epsilon": epsilon, "delta": delta, "queries": asked},
            "analysis": analysis,
            "steps": list(steps),
            "keys": list(keys),
            "agreement": None if agreement is None else agreement.fingerprint,
            "masked_votes": masked_votes,
            "seconds": perf_counter() - self._start,
        }
        return files.write_run(self._folder, metrics)


class EncryptedBatches(Batches):
    """Batches that are answered over a grid.

    Deployed parties tell nobody what came of their batches. How much of the budgets earlier runs
    have spent is in the answering parties' ledgers, which refuse what is too much.

    Parameters
    ----------
    grid : Grid
    config, folder, tell
        See Batches.

    Raises
    ------
    FlHeError
        If the nodes or the budget are such that nobody can ask.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        super().__init__(config, folder, tell)
        self._names: dict[int, str] = {}
        self._masked_votes = 0
        self._roster = CapcRoster(
            HopWatch(grid, lambda node: self._names.get(node, f"node {node}"), tell),
            config.hospitals,
            timeout=config.hop_timeout,
            on_step=lambda step: tell(StepEnded(step)),
        )
        self._names = self._roster.names
        if self._roster.agreement is not None and config.capc.labels:
            raise ProtocolError(
                "capc.labels must be left out with deployed nodes, whose agreement is on one vote "
                "for each case: agree on the subsets of labels as classes"
            )
        require_masks(config.crypto.collusion, self._roster.masked_set)
        segments = segments_of(config.segments, config.hospitals - 1)
        self._protocol = CaPC(self._roster, topology=config.topology, segments=segments)

    def rounds(self) -> Iterator[BatchEnded]:
        """See Run."""
        simulated = self._roster.agreement is None
        named = ((f"hospital-{number}", queries) for number, queries in self._batches())
        for party, queries in named if simulated else self._deployed():
            learned = [self._protocol.ask(party, queries, label) for label in self._labels]
            if self._roster.masked_set:
                votes = len(self._roster.answering(party))
                self._masked_votes = min(self._masked_votes or votes, votes)
            untold = {"party": party, "queries": queries, **dict.fromkeys(_UNTOLD)}
            self._add(learned if simulated else [untold])
            yield BatchEnded(party, queries)

    def finish(self) -> dict[str, Any]:
        """See Run."""
        agreement = self._roster.agreement
        if agreement is not None and not self._results:
            raise ProtocolError(
                "no party has open cases, or an answering party has no budget or no capc-queries "
                "left: give cases (capc-cases) or raise that party's limit"
            )
        return self._write(
            steps=[asdict(cost) for cost in self._roster.costs.values()],
            keys=self._protocol.fingerprints,
            agreement=agreement,
            masked_votes=self._masked_votes,
        )

    def _deployed(self) -> Iterator[tuple[str, int]]:
        """Yield each party that has open cases, in the order of names."""
        for name in sorted(self._roster.parties):
            queries = min(self._config.capc.queries, self._protocol.askable(name))
            if queries > 0:
                yield name, queries


def budget_of(
    config: Config,
) -> tuple[ConfidentGNMax | ClippedVotes | None, VotingBudget | None]:
    """Return the noise of a vote, None if something is released without any, and the budget.

    Raises
    ------
    PrivacyError
        If the budget does not pay for one case, or dp-accounting is not installed.
    """
    capc = config.capc
    noise: ConfidentGNMax | ClippedVotes | None
    noise = noise_of(capc.sigma_gnmax, capc.sigma_threshold, capc.threshold)
    if noise is None:
        return None, None
    if capc.tau is not None:
        noise = ClippedVotes(len(capc.labels), capc.tau, capc.sigma_gnmax)
    noise.epsilon(1, capc.delta)  # refused now if dp-accounting is not there
    if capc.epsilon is None:
        return noise, None
    budget = VotingBudget(noise, capc.epsilon, capc.delta)
    votes = len(voted_labels(capc))
    if budget.affordable() < votes:
        each = f" for each of the {votes} labels" if votes > 1 else ""
        raise PrivacyError(
            f"capc.epsilon must allow one query at least{each}, got {capc.epsilon:g}: raise it, or "
            "the sigmas"
        )
    return noise, budget
