"""Training that can be resumed, open and sealed alike: rounds, checkpoint, and the run's files."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.serverapp import Grid

from fl_he.atomic import replace_file
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.helper import helped
from fl_he.experiment.run import Run, config_figures, origin_figures
from fl_he.experiment.tables import schema_of_tables
from fl_he.experiment.terms import packing_of
from fl_he.report.files import draw_run, write_run
from fl_he.run_files import metrics_contract
from fl_he.run_files.checkpoint import (
    SCHEMA,
    Checkpoint,
    CheckpointError,
    CheckpointFile,
    load_checkpoint,
    plain_config,
)
from fl_he.strategies.grid import HopWatch
from fl_he.strategies.opened_sum import OpenedSum
from fl_he.strategies.pairing import require_masks
from fl_he.strategies.roster import Roster
from fl_he.strategies.sealed.progress import SealedSum
from fl_he.strategies.update_sum import FOLD
from fl_he.wire.events import Event, Listener, RoundEnded

#: Figures of a round that nobody may know.
_FIGURES = ("loss", "accuracy", "test_loss", "test_accuracy", "gradient_norm", "distance")
#: Members of metrics.json that not every coordinator knows.
_UNKNOWN: Mapping[str, Any] = {
    **dict.fromkeys(("local", "pooled", "tested_on", "class_shares", "sites", "imputed")),
    **dict.fromkeys(("rows", "diagnostics", "inference", "evaluation")),
    "federated": {
        **dict.fromkeys(("examples", *metrics_contract.FIGURES)),
        "coefficients": [],
        "intercept": None,
    },
}


class TrainingRun(Run):
    """Rounds of one encrypted sum each, from a checkpoint to the run's files; see `Run`.

    Parameters
    ----------
    config : Config
    folder : Path
        Where the run's files and, after every round, ``checkpoint.json`` go. With ``resume`` it
        holds the checkpoint to continue from.

    Attributes
    ----------
    _chosen : dict
        Member ``optimizer`` of metrics.json.
    _privacy : dict or None
        Member ``privacy``, but for what is known at the end.

    Raises
    ------
    CheckpointError
        If the run cannot be resumed.
    """

    _chosen: dict[str, str]
    _privacy: dict[str, Any] | None

    def __init__(self, config: Config, folder: Path) -> None:
        self._start = perf_counter()
        self._config, self._folder = config, folder
        self._file = CheckpointFile(folder)
        self._earlier = None if config.resume is None else load_checkpoint(folder, config)

    def _called(self, roster: Roster) -> Roster:
        """Take note of the time until all nodes were there; refuse hospitals without their masks.

        Raises
        ------
        ConfigError
            If the configuration has a schema, and the hospitals are deployed.
        ProtocolError
            If `crypto.collusion` asks for masks, and hospitals have none.
        """
        self._start_seconds = perf_counter() - self._start
        require_masks(self._config.crypto.collusion, roster.masked_set)
        if not roster.simulated and self._config.data.schema is not None:
            raise ConfigError(
                "data.schema must be left out for deployed hospitals: each names its own copy by "
                "schema in its node configuration"
            )
        return roster

    def _begin(self, grid: Grid, tell: Listener, roster: Roster) -> None:
        """Make the state from which the run continues, new or the earlier run's.

        Parameters
        ----------
        grid : Grid
        tell : callable
            Is told each hop from now on.
        roster : Roster
            With company X's key and session, which may be new ones.

        Raises
        ------
        CheckpointError
            If the earlier run was of other features or of another schema.
        ProtocolError
            If company X opens sums in another packing than the configuration's.
        """
        crypto = self._config.crypto
        roster.require_packing(packing_of(crypto, roster.packing.max_contributors))
        self._roster, features = roster, list(roster.features)
        roster.grid = self._grid = HopWatch(grid, roster.name, tell)
        session, key, earlier = roster.session, roster.public_key.fingerprint, self._earlier
        if earlier is None:
            self._state = Checkpoint(plain_config(self._config), features, session, key)
        else:
            self._require_earlier("features", earlier.features, features)
            self._state = replace(earlier, session=session, key_fingerprint=key)
            if session != earlier.session:
                self._state = replace(self._state, first_sum=None, unopened=None)
            self._start -= earlier.seconds
        if self._config.data.schema is not None:
            self._keep_schema(self._config.data.schema)

    def _keep_schema(self, path: str) -> None:
        """Write the schema into the run's folder, or require that of the run that is resumed."""
        schema, copy = schema_of_tables(path), self._folder / SCHEMA
        if self._earlier is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(copy, schema.text.encode())
        else:
            self._require_earlier("schema", schema_of_tables(str(copy)).digest, schema.digest)

    def _require_earlier(self, name: str, earlier: object, now: object) -> None:
        if earlier != now:
            raise CheckpointError(
                f"the {name} must be as in the run that is resumed, {earlier}, got {now}"
            )

    def _keep(self, **changes: Any) -> None:
        """Change members of the checkpoint; they are on the disk when this returns."""
        seconds = perf_counter() - self._start
        self._state = replace(self._state, seconds=seconds, **changes)
        self._file.write(self._state)

    def rounds(self) -> Iterator[Event]:
        """See Run."""
        self._grid.take()  # what came before the first round is in no entry
        for number in range(1, self._config.rounds - len(self._state.rounds) + 1):
            if self.is_over():
                return
            self._round(number)
            yield RoundEnded(self._state.rounds[-1])

    def is_over(self) -> bool:
        """Return whether more rounds would change nothing."""
        return any(entry.get("converged") for entry in self._state.rounds)

    @abstractmethod
    def _round(self, number: int) -> None:
        """Have one sum opened and end the round; the number counts from the run's resumption."""

    def _end_round(
        self,
        done: OpenedSum | SealedSum,
        ciphertexts: int,
        figures: dict[str, Any],
        **changes: Any,
    ) -> None:
        """Keep the round's entry, the figures of its encryption, and other members.

        Parameters
        ----------
        done : OpenedSum or SealedSum
        ciphertexts : int
            Of one hospital's update.
        figures : dict
            Contributors, those skipped, and what is known of the model.
        """
        rounds = self._state.rounds
        entry = {
            "round": len(rounds) + 1,
            **dict.fromkeys(_FIGURES),
            "converged": False,
            **figures,
            **asdict(done.cost),
            **({} if self._roster.simulated else dict.fromkeys(self._unknown_seconds())),
            "hops": self._grid.take(),
        }
        key, packing = self._roster.public_key, self._roster.packing
        crypto = {
            "scheme": self._roster.scheme(self._config.crypto.scheme),
            "key_bits": key.key_bits,
            "key_kind": key.key_kind.value,
            "key_fingerprint": key.fingerprint,
            "slots_per_ciphertext": packing.slots_per_ciphertext(key.key_bits),
            "ciphertexts_per_update": ciphertexts,
            "bytes_per_update": done.update_bytes,
            "ticket_bytes_per_update": done.ticket_bytes,
            "masked_set": len(self._roster.masked_set),
        }
        self._keep(rounds=[*rounds, entry], crypto=crypto, **changes)

    def _unknown_seconds(self) -> tuple[str, ...]:
        """Return the figures of a round that deployed nodes keep."""
        kept = "encrypt_seconds", "decrypt_seconds"
        return kept if self._config.topology == FOLD else (*kept, "add_seconds")

    def _reference_levels(self) -> dict[str, str] | None:
        """Return the reference of each category with columns in the model; none without a schema.

        An interaction without its main effects has a column for the reference, too.
        """
        if (path := self._config.data.schema) is None:
            return None
        schema = schema_of_tables(path)
        columns = {part for name in self._state.features for part in name.split(":")}
        references = {
            name: schema.columns[name].coded[0]
            for name in schema.used
            if schema.columns[name].type == "category"
        }
        return {name: one for name, one in references.items() if f"{name}[{one}]" not in columns}

    def _write(
        self,
        figures: Mapping[str, Any],
        model_json: str | None = None,
        *,
        without_noise: dict[str, float | None] | None = None,
    ) -> dict[str, Any]:
        """Write the run's files, mark the checkpoint as finished, and have the run's key deleted.

        Parameters
        ----------
        figures : mapping
            Members of metrics.json as far as they are known; all others are null.
        model_json : str or None
            The text of model.json.
        without_noise : dict or None
            Test figures of the same private steps without noise.

        Returns
        -------
        dict
            What metrics.json holds.
        """
        simulated = self._roster.simulated
        took_part, privacy = self._state.rounds[-1]["contributors"], self._privacy
        if privacy is not None:
            privacy = {**privacy, "without_noise": without_noise}
            if took_part is not None:  # all hospitals add theirs
                noise = privacy["noise_per_hospital"] * math.sqrt(took_part)
                privacy["noise_in_last_total"] = noise
        metrics = {
            **origin_figures(),
            "simulated": simulated,
            "feature_names": self._state.features,
            "classes": list(self._roster.classes),
            "family": self._roster.family or ("softmax" if self._roster.classes else "logistic"),
            "exposure": self._roster.exposure or None,
            "reference_levels": self._reference_levels() if simulated else None,
            "config": config_figures(self._config, simulated=simulated),
            "optimizer": self._chosen,
            **_UNKNOWN,
            **figures,
            "privacy": privacy,
            "rounds": self._state.rounds,
            "crypto": self._state.crypto,
            "start_seconds": self._start_seconds,
            "seconds": perf_counter() - self._start,
        }
        written = write_run(
            self._folder, metrics, model_json, lambda *drawn: helped(draw_run, *drawn)
        )
        self._keep(finished=True)
        self._roster.end()
        return written
