"""Optional logs of a run for MLflow and TensorBoard, in local files, off by default.

Nothing goes there that is not in metrics.json too: settings, figures of rounds, final figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config, Tracking
from fl_he.report.figures import setting_text
from fl_he.wire.events import Event, RoundEnded

#: MLflow's own name for a local store; in the folder from which the run was started.
MLFLOW_STORE = "mlflow.db"
#: In the run's folder.
TENSORBOARD_FOLDER = "tensorboard"
_EXPERIMENT = "fl-he"


def require_packages(tracking: Tracking) -> None:
    """Refuse a choice whose package is not installed.

    Raises
    ------
    ConfigError
        With the command that installs it.
    """
    for choice in _chosen(tracking):
        if find_spec(choice) is None:
            raise ConfigError(
                f"tracking must be none unless its package is installed, got {tracking}: "
                f"pip install 'fl-he[{choice}]'"
            )


class Tracker(AbstractContextManager["Tracker"]):
    """Write a run to the logs that were chosen; a run that raises is logged as failed.

    No log is made before the first figure.

    Parameters
    ----------
    config : Config
    folder : Path
        The run's.

    Raises
    ------
    ConfigError
        See `require_packages`.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        require_packages(config.tracking)
        self._config, self._folder = config, folder
        self._logs: list[_MlflowLog | _TensorBoardLog] = []

    def hear(self, event: Event) -> None:
        """Write the figures of a round."""
        if isinstance(event, RoundEnded):
            self._write("", event.entry, event.entry["round"])

    def end(self, metrics: Mapping[str, Any]) -> None:
        """Write the final figures."""
        step = len(metrics.get("rounds", ()))
        for group in ("federated", "pooled", "evaluation", "privacy"):
            self._write(f"{group}/", metrics.get(group) or {}, step)
        for result in metrics.get("querying", ()):
            # Parties' names come from their nodes: MLflow refuses most characters, and "..".
            party = re.sub(r"[^\w. -]|^\.*$", "_", result["party"], flags=re.ASCII)
            for when in ("before", "after"):
                self._write(f"{party}/{when}/", result.get(when) or {}, step)
        self._write("", {"seconds_in_all": metrics["seconds"]}, step)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Close the logs."""
        for log in self._logs:
            log.close(finished=error is None)

    def _write(self, prefix: str, figures: Mapping[str, Any], step: int) -> None:
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "round":
                for log in self._opened():
                    log.figure(prefix + name, float(value), step)

    def _opened(self) -> list[_MlflowLog | _TensorBoardLog]:
        if not self._logs:
            for choice in _chosen(self._config.tracking):  # each is closed, if the next fails
                self._logs.append(_LOGS[choice](self._config, self._folder))
        return self._logs


class _TensorBoardLog:
    def __init__(self, config: Config, folder: Path) -> None:
        from tensorboard.summary import Writer  # noqa: PLC0415 - of an extra

        self._writer = Writer(str(folder / TENSORBOARD_FOLDER))

    def figure(self, name: str, value: float, step: int) -> None:
        """Write one figure of a round."""
        self._writer.add_scalar(name, value, step=step)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """End the log."""
        self._writer.close()


class _MlflowLog:
    """Uses the client with an address of its own, so that the environment sends nothing away."""

    def __init__(self, config: Config, folder: Path) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 - of an extra
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - of an extra

        self._client = MlflowClient(tracking_uri=f"sqlite:///{Path(MLFLOW_STORE).resolve()}")
        with suppress(MlflowException):  # it is there
            self._client.create_experiment(_EXPERIMENT)
        experiment = self._client.get_experiment_by_name(_EXPERIMENT)
        if experiment is None:
            raise ConfigError(f"MLflow cannot write its store {MLFLOW_STORE}")
        run = self._client.create_run(experiment.experiment_id, run_name=folder.name)
        self._run = run.info.run_id
        for group, value in asdict(config).items():
            for key, setting in (value if isinstance(value, dict) else {"": value}).items():
                name = f"{group}.{key}" if key else group
                self._client.log_param(self._run, name, setting_text(setting))

    def figure(self, name: str, value: float, step: int) -> None:
        """Write one figure of a round."""
        self._client.log_metric(self._run, name, value, step=step)

    def close(self, *, finished: bool) -> None:
        """End the log, of a run that is finished or one that failed."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")


_LOGS: dict[Tracking, Callable[[Config, Path], _MlflowLog | _TensorBoardLog]] = {
    Tracking.mlflow: _MlflowLog,
    Tracking.tensorboard: _TensorBoardLog,
}


def _chosen(tracking: Tracking) -> list[Tracking]:
    return [choice for choice in _LOGS if tracking in (choice, Tracking.both)]
