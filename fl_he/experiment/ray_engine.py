"""Flower's simulation on Ray: started here, or in a Ray cluster that runs already."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import create_connection
from threading import Event, current_thread, main_thread
from typing import TypeVar

from flwr.app import ConfigRecordValues, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fl_he.config.constraints import ConfigError
from fl_he.experiment.children import children, kill_children
from fl_he.strategies.grid import DelegatingGrid

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: One CPU for each node that computes: as many nodes at once as there are cores.
_BACKEND: dict[str, dict[str, ConfigRecordValues]] = {
    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
}
#: Attempts to start Ray here. Each ends after 30 seconds, which Ray fixes, and all that Ray raises
#: then is an Exception with these words.
_STARTS, _TOO_SLOW = 3, "timed out during startup"
#: Seconds to wait for a cluster to answer.
_PATIENCE = 5.0
#: A client's first bytes in HTTP/2, and a SETTINGS frame: RFC 9113, sections 3.4 and 6.5. A server
#: begins with a SETTINGS frame too.
_PREFACE, _NO_SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


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


def run_in_ray(
    main: Callable[[Grid], Result],
    app: ClientApp,
    nodes: int,
    *,
    address: str | None = None,
    verbose: bool = False,
) -> Result:
    """Start Ray with this many nodes, hand the grid to a function, and shut Ray down.

    Parameters
    ----------
    main : callable
        The server's part; it runs in another thread.
    app : ClientApp
        What the nodes run.
    nodes : int
        Hospitals and company X.
    address : str or None
        HOST:PORT of a cluster that runs already, in which the nodes run; None starts Ray here.
    verbose : bool
        Show Flower's own log.

    Returns
    -------
    object
        What ``main`` returned.

    Raises
    ------
    ConfigError
        If the cluster is not there, or has no free core; if Ray does not start here in time.
    KeyboardInterrupt
        After Ctrl-C, when Ray has been shut down.
    """
    results: list[Result] = []
    interrupted = Event()
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        results.append(main(_InterruptibleGrid(grid, interrupted)))

    with _environment():
        _start(address)
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


def _start(address: str | None) -> None:
    """Start Ray as Flower would, or join a cluster, and leave signals to those who had them before.

    Ray's own handlers end the process at SIGTERM with a stack of its C++ code.
    """
    import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    name = f"simulation.ray_address={address}"
    try:
        if address is not None:
            _require_answer(address)
        connect = partial(
            ray.init,
            address or "local",
            # Ray's processes here inherit it, and the workers that Ray starts ahead have no other.
            runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}} if address else None,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        if address is None:
            _patiently(connect)
        else:
            connect()
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        if address is None:
            raise
        raise ConfigError(
            f"{name} is not a Ray cluster that this machine is part of ({error}): "
            "`ray start` starts one or joins it"
        ) from error
    if current_thread() is main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    # Ray declares no types here.
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    if address is not None and not int(free.get("CPU", 0)):
        ray.shutdown()
        raise ConfigError(f"the Ray cluster at {name} has no free core")


def _patiently(start: Callable[[], object]) -> None:
    """Start Ray's processes, and start them again if they were too slow, as on a busy machine."""
    before = children()
    for attempt in range(1, _STARTS + 1):
        try:
            start()
        except Exception as error:
            kill_children(spared=before)
            if _TOO_SLOW not in str(error):
                raise
            if attempt == _STARTS:
                raise ConfigError(
                    f"simulation.engine must be local on a machine as busy as this: Ray has not "
                    f"started within 30 seconds, in {_STARTS} attempts"
                ) from error
            _logger.warning("Ray has not started within 30 seconds: attempt %d", attempt + 1)
        else:
            return


def _require_answer(address: str) -> None:
    """Refuse an address at which nobody speaks HTTP/2, as Ray does; Ray itself waits for minutes.

    Raises
    ------
    OSError
        If nobody does.
    """
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    host, _, port = address.rpartition(":")
    place = host.strip("[]"), int(port)
    with create_connection(place, _PATIENCE) as connection, connection.makefile("rb") as answer:
        connection.sendall(_PREFACE + _NO_SETTINGS)
        if answer.read(len(_NO_SETTINGS))[3:5] != _NO_SETTINGS[3:5]:
            raise ConnectionError("something else answers")


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
