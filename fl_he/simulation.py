"""One simulated run: on Flower's Ray engine, or with all nodes in this process."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any, TypeVar

from flwr.app import ConfigRecordValues, Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from flwr.supercore.task_identity import TaskIdentity

from fl_he import client_app, server_app
from fl_he.clients.row_sums import require_moments
from fl_he.config.capc import Backend
from fl_he.config.constraints import ConfigError
from fl_he.config.groups import Engine
from fl_he.config.run import Config, Scaling
from fl_he.experiment.data import simulated_data, warn_of_few
from fl_he.experiment.inference import check_columns, reference_number
from fl_he.experiment.local_grid import LocalGrid, simulated_nodes
from fl_he.experiment.private_settings import warn_of_units, with_private_settings
from fl_he.experiment.terms import chosen_optimizer, declared_ranges, privacy_figures
from fl_he.experiment.tracking import require_packages
from fl_he.learning.tables.moments import Limbs
from fl_he.strategies.grid import DelegatingGrid
from fl_he.wire.events import Listener, Starting, unheard

Result = TypeVar("Result")

#: One CPU for each node that computes: as many nodes at once as the machine has cores.
_BACKEND: dict[str, dict[str, ConfigRecordValues]] = {
    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
}


class _InterruptibleGrid(DelegatingGrid):
    """Ends the ServerApp's thread at its next look for replies once the run was interrupted."""

    def __init__(self, grid: Grid, interrupted: Event) -> None:
        super().__init__(grid)
        self._interrupted = interrupted

    def get_node_ids(self) -> Iterable[int]:
        """See Grid."""
        self._check()
        return self._grid.get_node_ids()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Grid."""
        self._check()
        return self._grid.pull_messages(message_ids)

    def _check(self) -> None:
        if self._interrupted.is_set():
            raise InterruptedError("the run was interrupted")


def run(config: Config, output_dir: Path, on_event: Listener = unheard) -> dict[str, Any]:
    """Simulate the hospitals and company X on this machine and train a model.

    Parameters
    ----------
    config : Config
    output_dir : Path
        The run's folder.
    on_event : callable
        Is told each event of the run, from another thread; see :mod:`fl_he.wire.events`.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    FlHeError
        Whatever the run refused.
    KeyboardInterrupt
        After Ctrl-C, when Ray has been shut down.
    """
    config = with_private_settings(config)
    _check(config)
    on_event(Starting(config.simulation.engine.value))
    config = replace(config, output_dir=str(output_dir.resolve()))
    if config.capc.enabled and config.capc.backend is Backend.plain:
        from fl_he.capc.plain import run_plain  # noqa: PLC0415 - lazy: needs scikit-learn

        return run_plain(config, output_dir, on_event)
    app, nodes = client_app.build(lambda _: config), config.hospitals + 1

    def train(grid: Grid) -> dict[str, Any]:
        return server_app.train(grid, config, output_dir, on_event)

    if config.simulation.engine is Engine.ray:
        return run_in_ray(train, app, nodes, verbose=config.verbose)
    # Flower makes no message in a process that is no task.
    TaskIdentity.run_id = TaskIdentity.task_id = 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    with _quiet(config.verbose):
        return train(LocalGrid(app, simulated_nodes(nodes)))


def _check(config: Config) -> None:
    """Refuse now what the run would refuse after Ray has started; warn of data that are too few."""
    if config.sealed:
        raise ConfigError(
            "sealed must be false in a simulation, got true: its nodes have no manifest to take "
            "keys from; deploy them, or use topology=chain alone"
        )
    require_packages(config.tracking)
    if config.capc.enabled:
        from fl_he.capc import plain as capc_plain  # noqa: PLC0415 - lazy: needs scikit-learn

        capc_plain.check(config)
        return
    data = simulated_data(config)
    declared_ranges(config, data.train.feature_names)
    features, classes = len(data.train.feature_names), data.train.class_count
    privacy_figures(config, features, classes, simulated=True)
    check_columns(config, data.train.feature_names)
    reference_number(config.data.reference, data.train.classes)
    second_order = chosen_optimizer(config, features, classes)["name"] == "newton"
    pooled = config.scaling is Scaling.federated or second_order
    if pooled and config.scaling is not Scaling.local and config.privacy.name == "none":
        limbs = Limbs(config.crypto.fraction_bits, config.crypto.integer_bits)
        require_moments(data.hospitals, data.train, limbs)
    warn_of_few(data, config)
    warn_of_units(config)


def run_in_ray(
    main: Callable[[Grid], Result], app: ClientApp, nodes: int, *, verbose: bool = False
) -> Result:
    """Start Ray with so many nodes, hand the grid to a function, and shut Ray down.

    Parameters
    ----------
    main : callable
        The server's part; it runs in another thread.
    app : ClientApp
        What the nodes run.
    nodes : int
        Hospitals and key holder.
    verbose : bool
        Show Flower's own log.

    Returns
    -------
    object
        What ``main`` returned.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when Ray has been shut down.
    """
    results: list[Result] = []
    interrupted = Event()
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        results.append(main(_InterruptibleGrid(grid, interrupted)))

    with _quiet(verbose), _environment():
        _start_ray()
        try:
            run_simulation(
                server,
                app,
                num_supernodes=nodes,
                backend_config=_BACKEND,
                verbose_logging=verbose,
            )
        finally:
            interrupted.set()
    return results[0]


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keep Flower's own log to warnings, without the one about run_simulation."""
    logger = logging.getLogger("flwr")
    level = logger.level

    def keep(record: logging.LogRecord) -> bool:
        return "run_simulation" not in record.getMessage()

    logger.addFilter(keep)
    if not verbose:
        logger.setLevel(logging.WARNING)
    yield
    # Not after Ctrl-C or an error: Flower's threads go on logging while the process ends.
    logger.removeFilter(keep)
    logger.setLevel(level)


def _start_ray() -> None:
    """Start Ray as Flower would, and leave signals to those who had them before.

    Ray's own handlers end the process at SIGTERM with a stack of its C++ code.
    """
    import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if not ray.is_initialized():
        os.environ["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        ray.init(
            runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    if current_thread() is main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _environment() -> Iterator[None]:
    """Give Ray its settings, and take back what Flower adds to PYTHONPATH for the next run."""
    # Ray's future default; the old one warns on machines without a GPU.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Two of Ray's processes look for the others so long after these were killed; Ray's own: 60.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    path = os.environ.get("PYTHONPATH")
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH", None)
        if path is not None:
            os.environ["PYTHONPATH"] = path
