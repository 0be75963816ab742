"""The nodes of a simulation in Ray's processes, as many at work at once as there are free cores.

Every process, an actor in Ray's words, is handed the app once and plays whichever node has a
message. What a node knows is kept by the grid and travels with the message, so nothing separates
the nodes from each other.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf
from pathlib import Path
from socket import MSG_WAITALL, create_connection
from threading import current_thread, main_thread
from time import monotonic
from typing import Any, TypeVar

from flwr.app import Context, Message
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fl_he.config.constraints import ConfigError
from fl_he.experiment.local_grid import LocalGrid, become_task, failure, simulated_nodes

Result = TypeVar("Result")

#: Seconds that one look for replies waits for the first. Signals and timeouts wait as long.
_LOOK = 0.2
#: Seconds to wait for a cluster to answer.
_PATIENCE = 5.0
#: A client's first bytes in HTTP/2, and a SETTINGS frame: RFC 9113, sections 3.4 and 6.5. A server
#: begins with a SETTINGS frame too.
_PREFACE, _NO_SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class _Nodes:
    """The app in one of Ray's processes."""

    def __init__(self) -> None:
        become_task()
        self._app: ClientApp | None = None

    def answer(self, app: list[Any], message: Message, context: Context) -> tuple[Message, Context]:
        """Return a node's reply, and what the node knows now.

        Parameters
        ----------
        app : list of ObjectRef
            The app in Ray's memory; the list keeps Ray from sending it with each message.
        message : Message
        context : Context
        """
        import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

        if self._app is None:
            self._app = ray.get(app[0])
        return self._app(message, context), context


def _actor() -> Any:
    """Start one of Ray's processes, with a core to itself."""
    import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

    return ray.remote(num_cpus=1)(_Nodes).remote()


class RayGrid(LocalGrid):
    """A grid whose nodes run a ClientApp in Ray's processes, each node one message at a time.

    Parameters
    ----------
    app : ClientApp
        The app of every node.
    node_configs : sequence of mapping
        One for each node.
    ready : callable
        Waits until Ray is there and returns the number of free cores; the first message calls it.
    """

    def __init__(
        self, app: ClientApp, node_configs: Sequence[UserConfig], ready: Callable[[], int]
    ) -> None:
        super().__init__(app, node_configs)
        self._ready = ready
        self._shared: list[Any] = []
        self._idle: list[Any] = []
        self._at_work: dict[Any, tuple[Message, Any]] = {}
        self._busy: set[int] = set()
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid; messages wait until a process and the node are free."""
        ids = super().push_messages(messages)
        self._hand_out()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; wait a moment for one of a node at work."""
        import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

        if self._at_work:
            done, _ = ray.wait(list(self._at_work), timeout=_LOOK)
            for work in done:
                self._take(work)
            self._hand_out()
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid."""
        ids, end = set(self.push_messages(messages)), monotonic() + (timeout or inf)
        replies: list[Message] = []
        while len(replies) < len(ids) and monotonic() < end:
            replies += self.pull_messages(ids)
        return replies

    def _hand_out(self) -> None:
        if not self._shared:
            self._start_actors(self._ready())
        while self._idle and (message := self._next()) is not None:
            metadata, actor = message.metadata, self._idle.pop()
            del self._waiting[metadata.message_id]
            self._busy.add(metadata.dst_node_id)
            work = actor.answer.remote(self._shared, message, self.contexts[metadata.dst_node_id])
            self._at_work[work] = message, actor

    def _start_actors(self, cores: int) -> None:
        import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

        self._shared = [ray.put(self.app)]
        self._idle = [_actor() for _ in range(min(cores, len(self.contexts)))]

    def _next(self) -> Message | None:
        waiting = self._waiting.values()
        return next((m for m in waiting if m.metadata.dst_node_id not in self._busy), None)

    def _take(self, work: Any) -> None:
        import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

        message, actor = self._at_work.pop(work)
        node_id = message.metadata.dst_node_id
        try:
            reply, self.contexts[node_id] = ray.get(work)
        except ray.exceptions.RayTaskError as error:
            reply = failure(message, error.cause or error)
        except ray.exceptions.RayActorError as error:
            reply = failure(message, error, ErrorCode.CLIENT_APP_CRASHED)
            actor = _actor()
        self._busy.remove(node_id)
        self._idle.append(actor)
        self._replies[message.metadata.message_id] = reply


def run_in_ray(
    main: Callable[[Grid], Result],
    app: ClientApp,
    nodes: int,
    *,
    address: str | None = None,
) -> Result:
    """Start Ray with so many nodes, hand the grid to a function, and shut Ray down.

    Parameters
    ----------
    main : callable
        The server's part. It is called at once; its first message waits for Ray.
    app : ClientApp
        What the nodes run.
    nodes : int
        Hospitals and key holder.
    address : str or None
        HOST:PORT of a cluster that runs already, in which the nodes run; None starts Ray here.

    Returns
    -------
    object
        What ``main`` returned.

    Raises
    ------
    ConfigError
        If the cluster is not there, or has no free core.
    """
    import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    become_task()
    with _environment(), ThreadPoolExecutor(1, "Ray") as starter:
        starting = starter.submit(_start, address)

        def ready() -> int:
            cores = starting.result()
            # Ray's own handlers end the process at SIGTERM with a stack of its C++ code.
            if current_thread() is main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            return cores

        try:
            return main(RayGrid(app, simulated_nodes(nodes), ready))
        finally:
            starting.exception()  # Ray cannot be shut down while it starts
            ray.shutdown()


def _start(address: str | None) -> int:
    """Start Ray, or join a cluster; return the number of free cores."""
    import ray  # noqa: PLC0415 - lazy: only simulations on Ray need it

    logging.getLogger("ray").setLevel(logging.ERROR)  # in a thread it leaves out a handler, aloud
    name = f"simulation.ray_address={address}"
    try:
        if address is not None:
            _require_answer(address)
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        if address is None:
            raise
        raise ConfigError(
            f"{name} must be a Ray cluster that this machine is part of, got none ({error}): "
            "`ray start` starts one or joins it"
        ) from error
    found = ray.cluster_resources if address is None else ray.available_resources
    if not (cores := int(found().get("CPU", 0))):  # type: ignore[no-untyped-call]
        raise ConfigError(f"{name} must have a free core, got a cluster with none")
    return cores


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
    with create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
        connection.sendall(_PREFACE + _NO_SETTINGS)
        if connection.recv(len(_NO_SETTINGS), MSG_WAITALL)[3:5] != _NO_SETTINGS[3:5]:
            raise ConnectionError("something else answers")


@contextmanager
def _environment() -> Iterator[None]:
    """Give Ray its settings, and its processes this one's path of modules."""
    # Ray's future default; the old one warns on machines without a GPU.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Two of Ray's processes look for the others so long after these were killed; Ray's own: 60.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if path is not None:
            os.environ["PYTHONPATH"] = path
