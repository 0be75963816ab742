"""A SuperNode's local API, served by Flower's own code, with tasks that a test creates."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from threading import Thread
from time import sleep

import uvicorn
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from fl_he.supernode.flower import RuntimeApi

SECRET = bytes(32)
RUN_ID, NODE_ID, SERIES = 7, 5, 11
BUNDLE = b"not even a bundle"


@dataclass(frozen=True)
class NodeApi:
    """A SuperNode that has no SuperLink.

    Attributes
    ----------
    state : NodeState
        Flower's.
    api : RuntimeApi
        By which its tasks are claimed.
    """

    state: NodeState
    api: RuntimeApi

    def receive(
        self,
        content: RecordDict | None = None,
        *,
        kind: str = TaskType.CLIENT_APP,
        bundle: bytes = BUNDLE,
        late: float = 0.0,
        whole: bool = True,
    ) -> None:
        """Store a message and its task in the order in which a SuperNode does.

        It keeps a message that is not whole where the run ends while it receives the parts.
        """
        run = Run.create_empty(RUN_ID)
        run.fab_hash, run.series_id = sha256(bundle).hexdigest(), SERIES
        if self.state.get_run_series_context(SERIES) is None:
            context = Context(RUN_ID, NODE_ID, {"name": "x"}, RecordDict(), {}, series_id=SERIES)
            self.state.set_run_series_context(SERIES, context)
        self.state.store_run(run)
        self.state.store_fab(Fab(run.fab_hash, bundle, {}))
        self.state.create_task(kind, RUN_ID, fab_hash=run.fab_hash)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN_ID, 1, 1
        message = Message(content or RecordDict(), NODE_ID, MessageType.QUERY)
        message.metadata.__dict__["_message_id"] = message.object_id
        tree, objects = get_object_tree(message), get_all_nested_objects(message)
        sleep(late)
        self.state.object_store.preregister(RUN_ID, tree)
        self.state.store_message(message)
        sleep(late)
        for name, part in objects.items() if whole else ():
            self.state.object_store.put(name, part.deflate())

    def reply(self) -> Message:
        """Return the one reply, without its content."""
        (reply,) = self.state.get_messages_legacy(is_reply=True)
        return reply

    def status(self) -> str:
        """Return how the last task ended."""
        return str(self.state.get_tasks()[-1].status.sub_status)


@contextmanager
def node_api() -> Iterator[NodeApi]:
    """Serve the API."""
    states = NodeStateFactory(ObjectStoreFactory())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = create_app(states, SECRET)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            sleep(0.01)
        try:
            port = listening.getsockname()[1]
            yield NodeApi(states.state(), RuntimeApi(f"127.0.0.1:{port}", None, SECRET))
        finally:
            server.should_exit = True
            thread.join()
