"""A run that makes a table of descriptive statistics: one encrypted sum and no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.serverapp import Grid

from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.data import simulated_data
from fl_he.experiment.plan import described_form, study_plan
from fl_he.experiment.private_settings import with_private_settings
from fl_he.experiment.run import config_figures, encrypted_sum, origin_figures
from fl_he.experiment.tables import with_unit
from fl_he.experiment.terms import packing_of, privacy_of
from fl_he.learning.describing.cells import Bounded
from fl_he.learning.describing.form import TableForm
from fl_he.learning.describing.noisy import noisy_sum
from fl_he.learning.describing.statistics import Table
from fl_he.report import files
from fl_he.run_files import metrics_contract
from fl_he.strategies.grid import HopWatch
from fl_he.strategies.pairing import require_masks
from fl_he.wire.events import Listener, StepEnded
from fl_he.wire.table import table_question


class TableRun:
    """One encrypted sum of counts, of which company X gives out a table; see `Run`.

    Parameters
    ----------
    grid : Grid
    config : Config
        With ``describe.enabled``.
    folder : Path
        Where metrics.json, table1.csv, table1.md and report.html go.
    tell : callable
        Is told each hop.

    Raises
    ------
    FlHeError
        If the nodes cannot take part, or have no such columns.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        self._start = perf_counter()
        self._config, self._folder = config, folder
        self._strategy = strategy = encrypted_sum(config)
        self._roster = roster = strategy.call_roll(grid)
        if roster.simulated:
            config = self._config = with_private_settings(config)
        elif config.privacy.name != "none":
            raise ConfigError(
                "privacy must be none with describe.enabled=true for deployed hospitals: a study "
                "plan has no table under privacy"
            )
        self._terms = privacy_of(config)
        require_masks(config.crypto.collusion, roster.masked_set)
        roster.require_packing(packing_of(config.crypto, roster.packing.max_contributors))
        self._form = self._planned() if not roster.simulated else self._own()
        roster.grid = HopWatch(grid, roster.name, tell)
        self._table: Table | None = None

    def _own(self) -> TableForm:
        """Return the form of a simulation's table."""
        return described_form(self._config, simulated_data(self._config).train)

    def _planned(self) -> TableForm:
        """Return the form that the study plan of deployed hospitals has."""
        plan = study_plan(self._config)
        if plan is None or plan.table is None:
            raise ConfigError(
                "plan must be set with describe.enabled=true for deployed hospitals, got null: "
                "their tables are those of a study plan"
            )
        return plan.table

    def rounds(self) -> Iterator[StepEnded]:
        """See Run: the one sum."""
        self._table = self._strategy.table(1, table_question(self._form, self._terms))
        yield StepEnded("table 1")

    def _privacy(self) -> dict[str, Any] | None:
        """Return what patients are promised, ``None`` without privacy."""
        if (terms := self._terms) is None:
            return None
        sums = Bounded(self._config.crypto.fraction_bits)
        made = noisy_sum(self._form, sums)
        variance, others = made.variance(1.0, terms), terms.contributors - 1

        def epsilon(counted: int) -> float:
            return made.cost(variance, counted).epsilon(terms.delta)

        return {
            "epsilon": epsilon(terms.contributors),
            "epsilon_towards_a_hospital": epsilon(others) if others else None,
            "epsilon_of_one_update": epsilon(1),
            "delta": terms.delta,
            "contributors_counted": terms.contributors,
        }

    def _time(self) -> str | None:
        """Return the name and unit of the time to the event; ``None`` where nobody tells them."""
        if self._table is None or self._table.survival is None or not self._roster.simulated:
            return None
        return with_unit(simulated_data(self._config).train.positive, self._config.data)

    def finish(self) -> dict[str, Any]:
        """See Run."""
        if self._table is None:
            raise ConfigError("a table must be summed up before it is written")
        total, roster, crypto = self._strategy.sums[-1], self._roster, self._config.crypto
        key = roster.public_key
        metrics = {
            **origin_figures(),
            "protocol": metrics_contract.TABLE,
            "simulated": roster.simulated,
            "config": config_figures(self._config, simulated=roster.simulated),
            "hospitals": total.contributors,
            "skipped": [one.name for one in total.skipped],
            "rows": simulated_data(self._config).rows if roster.simulated else None,
            "table": {**asdict(self._table), "time": self._time()},
            "privacy": self._privacy(),
            "crypto": {
                "scheme": roster.scheme(crypto.scheme),
                "key_bits": key.key_bits,
                "key_fingerprint": key.fingerprint,
                "ciphertexts_per_update": total.ciphertexts,
                "bytes_per_update": total.update_bytes,
                "ticket_bytes_per_update": total.ticket_bytes,
                "masked_set": len(roster.masked_set),
            },
            "bytes_sent": total.cost.bytes_sent,
            "seconds": perf_counter() - self._start,
        }
        written = files.write_run(self._folder, metrics)
        roster.end()
        return written
