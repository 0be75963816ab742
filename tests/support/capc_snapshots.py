"""One batch of CaPC as it was before each step, so that a step can be asked for again, changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from local_grid import LocalGrid

from fl_he.capc.messages import CapcRequest
from fl_he.capc.protocol import CapcStep


class Snapshots:
    """Requests to each node, and the node's state before each of them."""

    def __init__(self, grid: LocalGrid) -> None:
        self.grid = grid
        self._before: dict[tuple[CapcStep, int], tuple[CapcRequest, RecordDict]] = {}

    def nodes(self, step: CapcStep) -> list[int]:
        """Return the nodes that took a step."""
        return [node for taken, node in self._before if taken is step]

    def request(self, step: CapcStep, node: int) -> CapcRequest:
        """Return the request to a node."""
        return self._before[step, node][0]

    def refusal(
        self, step: CapcStep, node: int, change: Callable[[CapcRequest], CapcRequest]
    ) -> str:
        """Ask a node again, as if the step were still to come, and return why it refuses."""
        request, state = self._before[step, node]
        context = self.grid.contexts[node]
        after, context.state = context.state, deepcopy(state)
        message = Message(change(request).to_content(), node, step.value)
        (reply,) = self.grid.send_and_receive([message])
        context.state = after
        assert reply.has_error(), step
        return str(reply.error.reason)

    def add(self, message: Message, context: Context) -> None:
        """Note a message on its way to a node."""
        step = CapcStep(message.metadata.message_type)
        request = CapcRequest.from_content(message.content)
        self._before[step, context.node_id] = request, deepcopy(context.state)


@contextmanager
def snapshots(grid: LocalGrid) -> Iterator[Snapshots]:
    """Record the steps on a grid; of a step that a node takes twice, the last time."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
    taken, own = Snapshots(grid), grid.app

    def app(message: Message, context: Context) -> Message:
        taken.add(message, context)
        return own(message, context)

    grid.app = app  # type: ignore[assignment]
    yield taken
    grid.app = own
