"""An app that sends as many messages as a training run, all of them empty."""

from __future__ import annotations

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

_TIMEOUT = 300.0  # seconds for the replies to one set of messages

client = ClientApp()
server = ServerApp()


@client.query()
def answer(message: Message, context: Context) -> Message:
    """Answer with nothing."""
    return Message(RecordDict(), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Take the steps of a training run, as the run config says: rounds, and sealed or not."""
    holder, *hospitals = sorted(grid.get_node_ids())
    everybody, rounds = [holder, *hospitals], int(context.run_config["rounds"])
    if context.run_config["sealed"]:
        hops = [*([hospital] for hospital in hospitals), [holder]]
        steps = [everybody, hospitals, [holder], *hops * rounds, hospitals]
    else:
        steps = [everybody, *[hospitals, [holder]] * rounds, hospitals]
    for step in steps:
        messages = [Message(RecordDict(), node, "query") for node in step]
        replies = list(grid.send_and_receive(messages, timeout=_TIMEOUT))
        if len(replies) < len(step) or any(reply.has_error() for reply in replies):
            raise RuntimeError(f"{len(step)} nodes must answer, got {len(replies)} replies")
