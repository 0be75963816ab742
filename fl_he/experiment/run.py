"""The loop of every run: rounds, events, and their receivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp.strategy import FedAvg

from fl_he.config.groups import DataConfig
from fl_he.config.run import Config
from fl_he.errors import FlHeError
from fl_he.experiment.run_folder import alone_in, is_there
from fl_he.experiment.tracking import Tracker
from fl_he.run_files import checkpoint, metrics_contract
from fl_he.strategies.dropouts import ResumableError
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.opened_sum import MisfitError, NotPermittedError, UnopenedSum
from fl_he.version import __version__, software_versions
from fl_he.wire.events import Event, Finishing, Listener, unheard

_DEPLOYED_DATA = DataConfig(name="each hospital's own table")


class Run(Protocol):
    """A run that has met its nodes; all of its state is in the object.

    Open training, sealed training and CaPC are such runs: they differ in what they route.
    """

    def rounds(self) -> Iterator[Event]:
        """Do the rounds that are left, and yield an event when each is done.

        What a resumption needs is on the disk before a round's event.
        """

    def finish(self) -> dict[str, Any]:
        """Write the run's files; return what metrics.json holds."""


def encrypted_sum(
    config: Config, on_summed: Callable[[UnopenedSum], None] = lambda _: None
) -> EncryptedSum:
    """Return the strategy of a run's sums; ``on_summed``: see EncryptedSum."""
    return EncryptedSum(
        # The run asks and steps by itself: only the number of hospitals is taken of it.
        FedAvg(min_available_nodes=config.min_contributors),
        scheme=config.crypto.scheme,
        topology=config.topology,
        segments=config.segments,
        min_contributors=config.min_contributors,
        hop_timeout=config.hop_timeout,
        key_holder_timeout=config.key_holder_timeout,
        hospitals=config.hospitals,
        on_dropout=config.on_dropout,
        dropout_timeout=config.dropout_timeout,
        on_summed=on_summed,
    )


def execute(
    begin: Callable[[Listener], Run], config: Config, folder: Path, on_event: Listener = unheard
) -> dict[str, Any]:
    """Do a run from its first round to its files, and track it where the configuration says so.

    Parameters
    ----------
    begin : callable
        Meets the nodes and makes a run that tells its hops and steps.
    config : Config
    folder : Path
        The run's.
    on_event : callable
        Is told each event of the run.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    FlHeError, OSError
        If the run or the disk refused. A note says how to continue where that is possible.
    """
    with alone_in(folder), _hint(folder), Tracker(config, folder) as tracker:

        def tell(event: Event) -> None:
            tracker.hear(event)
            on_event(event)

        run = begin(tell)
        for event in run.rounds():
            tell(event)
        tell(Finishing())
        metrics = run.finish()
        tracker.end(metrics)
    return metrics


@contextmanager
def _hint(folder: Path) -> Iterator[None]:
    """Note how to continue with an error: by resuming, if nothing is wrong with the run itself."""
    try:
        yield
    except (FlHeError, OSError) as error:
        if any(isinstance(e, MisfitError) and e.simulated for e in (error, error.__cause__)):
            error.add_note("a resumed run keeps its settings: start a new one, in another folder")
        elif _can_be_resumed(folder, error):
            error.add_note(f"once that is fixed, resume={folder.absolute()} continues the run")
        raise


def _can_be_resumed(folder: Path, error: Exception) -> bool:
    """Tell whether the disk failed, or a node did: company X while it had a sum to open."""
    if isinstance(error, OSError):
        return is_there(folder / checkpoint.NAME)
    try:
        kept = checkpoint.load_checkpoint(folder)
    except checkpoint.CheckpointError:
        return False
    if isinstance(error, ResumableError | NotPermittedError):
        return True
    return kept.unopened is not None or bool(kept.sealed and kept.sealed.get("unopened"))


def config_figures(config: Config, *, simulated: bool) -> dict[str, Any]:
    """Return member ``config`` of metrics.json; deployed hospitals show their data to nobody."""
    return asdict(config if simulated else replace(config, data=_DEPLOYED_DATA))


def origin_figures() -> dict[str, Any]:
    """Return what metrics.json says first: its version, and by what and when it was made."""
    return {
        "version": metrics_contract.VERSION,
        "fl_he": __version__,
        "software": software_versions(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
