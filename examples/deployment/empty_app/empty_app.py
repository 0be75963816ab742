"""An app that sends as many messages as a training run, all of them empty."""

from __future__ import annotations

from time import monotonic, sleep

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

_TIMEOUT = 300.0  # seconds for the replies to one set of messages
_PAUSE = 0.2  # seconds; Flower's own send_and_receive looks for replies every three

client = ClientApp()
server = ServerApp()


@client.query()
def answer(message: Message, context: Context) -> Message:
    """Answer with nothing."""
    return Message(RecordDict(), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Take the steps of a training run, as the run config says: rounds, and sealed or not."""
    while len(nodes := sorted(grid.get_node_ids())) < int(context.run_config["nodes"]):
        sleep(_PAUSE)
    holder, *hospitals = nodes
    everybody, rounds = [holder, *hospitals], int(context.run_config["rounds"])
    if context.run_config["sealed"]:
        hops = [*([hospital] for hospital in hospitals), [holder]]
        steps = [everybody, hospitals, [holder], *hops * rounds, hospitals]
    else:
        steps = [everybody, *[hospitals, [holder]] * rounds, hospitals]
    for step in steps:
        exchange(grid, [Message(RecordDict(), node, "query") for node in step])


def exchange(grid: Grid, messages: list[Message]) -> None:
    """Send messages and wait until all are answered."""
    waiting = set(grid.push_messages(messages))
    deadline = monotonic() + _TIMEOUT
    while waiting:
        for reply in grid.pull_messages(waiting):
            if reply.has_error():
                raise RuntimeError(f"a node must answer, got the error {reply.error.reason}")
            waiting.remove(reply.metadata.reply_to_message_id)
        if monotonic() > deadline:
            raise RuntimeError(f"{len(messages)} nodes must answer, {len(waiting)} have not")
        sleep(_PAUSE)
