"""Flower's private modules that a SuperNode of ours needs: no other file imports them.

What is used here is the same in Flower 1.41 and 1.42. `tests/supernode/test_flower.py` fails if
another release changes any of it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256
from logging import ERROR, LogRecord
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx
from flwr.app import Context, Error, Message
from flwr.app.user_config import UserConfig
from flwr.common.config import parse_config_args
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.logger import FLOWER_LOGGER, ConsoleHandler, log
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
)
from flwr.supercore.address import resolve_bind_address
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode, flower_supernode
from flwr.supernode.nodestate import NodeState
from flwr.supernode.runtime.run_clientapp import (
    pull_task_input,
    push_message,
    push_task_output,
)

from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.errors import FlHeError, visible

#: Both, since a SuperNode waits for ever for a task that nobody claims.
_TASKS = (TaskType.CLIENT_APP, TaskType.AGENT_APP)
_PAUSE = 0.1  # seconds between two looks for a task
_SHORT_PAUSE, _PATIENCE = 0.02, 10.0  # seconds, for what follows a task
_COMPONENT = "fl-he node"

_HASTE = 3.0  # by which Flower's pauses are divided

_Response = TypeVar("_Response")


class _Clock:
    """Replacement of the module `time` in Flower's SuperNode, which only sleeps by it."""

    @staticmethod
    def sleep(seconds: float) -> None:
        """Sleep a third of the time: 1 s instead of 3 s between two looks for a message."""
        sleep(seconds / _HASTE)


def refusing_bad_bundles(pull: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return Flower's function that receives a message, made to refuse a run that it fails at.

    Flower reads a run's configuration out of the bundle as soon as the first message has come, and
    lets every error end the SuperNode. A message of such a run is answered by an error instead.

    If a run ends while its message is being received, Flower keeps the message and its task. Their
    late reply would take the turn of the next run's reply, which would then never be sent.

    Parameters
    ----------
    pull : callable
        ``_pull_and_store_message``, which takes all of its arguments by name and returns the
        message's run.
    """

    def pull_or_refuse(
        *, receive: Callable[[], Any], get_fab: Callable[[str, int], Fab], **others: Any
    ) -> int | None:
        received: list[Message] = []

        def noted() -> Any:
            if (given := receive()) is not None:
                received.append(given[0])
            return given

        def checked(fab_hash: str, run_id: int) -> Fab:
            fab = get_fab(fab_hash, run_id)
            # Flower compares them too, but only after it has stored the run.
            if sha256(fab.content).hexdigest() != fab_hash:
                raise ValueError("the bundle has another hash than the run")
            return fab

        try:
            run_id = pull(receive=noted, get_fab=checked, **others)
        except Exception as error:
            if not received:
                raise
            # The text may quote the bundle, line breaks included.
            reason = " ".join(visible(f"{type(error).__name__}: {error}").split())
            log(ERROR, "Refused a message by the run's bundle or settings: %.500s", reason)
            refusal = Message(Error(ErrorCode.INVALID_FAB, PRIVATE_REFUSAL), reply_to=received[0])
            start_client_internal._insert_message(refusal, others["state"], others["object_store"])
            return received[0].metadata.run_id
        if run_id is None and received:
            _forget(received[0], others["state"], others["object_store"])
        return run_id

    return pull_or_refuse


def _forget(message: Message, state: NodeState, objects: ObjectStore) -> None:
    """Drop a message that was not received, and its run's tasks: a SuperNode has one at a time."""
    name, run_id = message.metadata.message_id, message.metadata.run_id
    state.delete_messages(message_ids=[name])
    objects.delete(name)
    for task in state.get_tasks(run_ids=[run_id]):
        state.finish_task(task.task_id, SubStatus.FAILED, "its message was not received")


def stamp_log() -> None:
    """Begin each record of Flower's log and of fl-he's with the time, in ISO 8601."""

    def stamped(record: LogRecord, plain: Callable[[LogRecord], str]) -> str:
        at = datetime.fromtimestamp(record.created).astimezone()
        return f"{at.isoformat(timespec='milliseconds')} {plain(record)}"

    shown = ConsoleHandler()
    logging.getLogger("fl_he").addHandler(shown)
    for handler in (shown, *FLOWER_LOGGER.handlers):
        if isinstance(handler, ConsoleHandler):
            handler.format = partial(stamped, plain=handler.format)  # type: ignore[method-assign]


def run_supernode() -> None:
    """Run ``flower-supernode`` by `sys.argv`, with two differences.

    It waits less than Flower's own between messages, and a bundle that cannot be read does not end
    the process.
    """
    stamp_log()
    start_client_internal.time = _Clock  # type: ignore[assignment,attr-defined]
    start_client_internal._pull_and_store_message = refusing_bad_bundles(
        start_client_internal._pull_and_store_message
    )
    sys.argv[0] = "flower-supernode"
    flower_supernode()


def node_settings(options: Sequence[str]) -> UserConfig:
    """Return the settings of the node configuration, none if it cannot be read.

    Parameters
    ----------
    options : sequence of str
        Of ``flower-supernode``, which itself refuses a configuration that cannot be read.

    Examples
    --------
    >>> sorted(node_settings(["--node-config", 'role="hospital" plan="a b"']))
    ['plan', 'role']
    """
    given = _parse_args_run_supernode().parse_args(options).node_config
    try:
        return read_node_config(given or "")
    except FlHeError:
        return {}


def read_node_config(text: str) -> UserConfig:
    """Return a node configuration as ``flower-supernode`` reads it.

    Parameters
    ----------
    text : str
        Of ``--node-config``: settings, or the path of a TOML file.

    Raises
    ------
    FlHeError
        If it cannot be read. Nothing of it is shown.

    Examples
    --------
    >>> read_node_config("role='hospital' sealed=true")
    {'role': 'hospital', 'sealed': True}
    """
    try:
        return parse_config_args([text])
    except Exception:  # of any kind: TOML's, click's, the file system's
        raise FlHeError(
            '--node-config is neither settings such as \'role="hospital" name="st-mary"\' nor a '
            "TOML file that can be read"
        ) from None


@dataclass(frozen=True)
class RuntimeApi:
    """Local HTTP API by which a SuperNode gives out its tasks.

    Attributes
    ----------
    address : str
        Host and port.
    certificates : str or None
        Path of the authority's certificate; None for plain HTTP.
    secret : bytes
        Shared by the SuperNode and whoever claims its tasks.
    """

    address: str
    certificates: str | None
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, options: Sequence[str], secret: bytes) -> RuntimeApi:
        """Return the API that a SuperNode with these options will have.

        Parameters
        ----------
        options : sequence of str
            Of ``flower-supernode``, whose own parser ends the process at one that is wrong.
        secret : bytes

        Raises
        ------
        FlHeError
            If the options hold one that ``fl-he node`` sets.
        """
        parser = _parse_args_run_supernode()
        parser.prog = _COMPONENT
        parser.set_defaults(isolation=None)
        parsed = parser.parse_args(options)
        if parsed.isolation is not None or parsed.superexec_auth_secret_file is not None:
            raise FlHeError(
                "leave out --isolation and --superexec-auth-secret-file: fl-he node sets them"
            )
        host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
        return cls(resolve_bind_address(f"{host}:{parsed.port}"), parsed.ssl_ca_certfile, secret)

    def claim(self) -> str:
        """Wait for a task, claim it, and return its token."""
        authentication = SuperExecAuthHttpInterceptor(
            master_secret=self.secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
        )
        with self._client(RuntimeHttpClient, authentication) as client:
            while True:
                try:
                    claimed = client.AcquireTask(AcquireTaskRequest(supported_task_types=_TASKS))
                except httpx.TransportError:  # the SuperNode is not up yet
                    claimed = None
                if claimed is not None and claimed.token:
                    return str(claimed.token)
                sleep(_PAUSE)

    @contextmanager
    def task(self, token: str) -> Iterator[Task]:
        """Hold a claimed task: the SuperNode is told that its process lives."""
        invoker = make_simple_http_retry_invoker()
        with self._client(_TaskClient, RuntimeTokenHttpInterceptor(token), invoker) as client:
            heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
            heartbeat.start()
            try:
                yield Task(client)
            finally:
                heartbeat.stop()

    def _client(
        self,
        kind: type[RuntimeHttpClient],
        interceptor: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor,
        invoker: RetryInvoker | None = None,
    ) -> RuntimeHttpClient:
        return kind.from_server_address(
            server_address=self.address,
            insecure=self.certificates is None,
            root_certificates=self.certificates,
            interceptors=[RuntimeVersionHttpInterceptor(component_name=_COMPONENT), interceptor],
            retry_invoker=invoker,
        )


class _TaskClient(RuntimeHttpClient):
    """Waits for what a SuperNode is still storing: it gives out a task before its message.

    Flower's own processes take longer to start than that takes, and wait a second if they do not.
    """

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802 - Flower's name
        """Return the task's message."""
        return _patiently(lambda: super(_TaskClient, self).PullMessages(request), _has_message)

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802 - Flower's name
        """Return a part of the message.

        A part that does not come is reported as absent: a SuperNode keeps the task of a message
        that it stopped receiving, and Flower would ask for the message's parts for two hours.
        """
        found = _patiently(lambda: super(_TaskClient, self).PullObject(request), _is_complete)
        return found if _is_complete(found) else PullObjectResponse(object_found=False)


def _has_message(response: PullAppMessagesResponse) -> bool:
    return len(response.messages_list) > 0


def _is_complete(response: PullObjectResponse) -> bool:
    return response.object_available or not response.object_found


def _patiently(pull: Callable[[], _Response], done: Callable[[_Response], bool]) -> _Response:
    deadline = monotonic() + _PATIENCE
    while not done(response := pull()) and monotonic() < deadline:
        sleep(_SHORT_PAUSE)
    return response


@dataclass(frozen=True)
class TaskInput:
    """Input of a task.

    Attributes
    ----------
    message : Message
    context : Context
        With the node's own configuration; the run's configuration and what the node keeps from
        message to message are the coordinator's to choose or to reset.
    bundle : str
        SHA-256 of the bundle, 64 hexadecimal digits.
    """

    message: Message
    context: Context
    bundle: str


class Task:
    """A task that this process has claimed.

    Parameters
    ----------
    client : RuntimeHttpClient
        Knows the task's token.
    """

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client

    def pull(self) -> TaskInput:
        """Return what came with the task; Flower's module `task_identity` learns the node."""
        message, context, _, bundle = pull_task_input(self._client)
        return TaskInput(message, context, sha256(bundle.content).hexdigest())

    def push(self, reply: Message, context: Context, *, kept: bool) -> None:
        """Hand the reply over, and what the node keeps until the next message."""
        push_message(self._client, reply, context)
        status = SubStatus.COMPLETED if kept else SubStatus.FAILED
        push_task_output(self._client, context if kept else None, status, "")
