"""Messages out, replies in, in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic, sleep

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.messages import ProtocolError, printable

#: Seconds between two looks for replies. A look is cheap; Flower's own 0.1 s to 3 s per hop is not.
_POLL_SECONDS = 0.02


def exchange(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float,
    following: Callable[[Message], Message | None] = lambda _: None,
) -> Iterator[Message]:
    """Send messages and yield each reply as soon as it is there.

    Parameters
    ----------
    grid : Grid
    messages : iterable of Message
    timeout : float
        Seconds to wait for the replies to what was sent last.
    following : callable
        Is asked for a message to send in turn after each reply that was yielded.

    Yields
    ------
    Message
        Replies in order of arrival; each may carry an error.

    Raises
    ------
    ProtocolError
        If replies are missing after ``timeout`` seconds.
    """
    waiting = set(grid.push_messages(messages))
    deadline = monotonic() + timeout
    while waiting:
        replies = list(grid.pull_messages(waiting))
        for reply in replies:
            waiting.discard(reply.metadata.reply_to_message_id)
            yield reply
            if (message := following(reply)) is not None:
                waiting.update(grid.push_messages([message]))
                deadline = monotonic() + timeout
        if not replies:
            if monotonic() > deadline:
                raise ProtocolError(
                    f"every node must answer within {timeout:g} s, {len(waiting)} did not: "
                    "see whether they are up, or raise hop_timeout"
                )
            sleep(_POLL_SECONDS)


def ask(grid: Grid, message: Message, timeout: float) -> Message:
    """Send one message and return its reply; raises as :func:`exchange`."""
    return next(exchange(grid, [message], timeout))


def error_reason(reply: Message) -> str:
    """Return the reason of an error reply in a form fit to show to people."""
    return printable(reply.error.reason or f"error code {reply.error.code}")
