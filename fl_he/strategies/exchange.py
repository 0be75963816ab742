"""Messages out, replies in, in the order of their arrival; each message gets one answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic, sleep

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fl_he.strategies.skipping import Skipped, nobody_answered, skip
from fl_he.wire.encrypted_sum import FINISH, content_bytes

#: Seconds between two looks for replies, at least and at most. A look is a call over the network
#: where nodes are deployed, so the pause is this share of the wait so far: with Flower's own 0.1 s
#: to 3 s a hop would take much longer, and with the shortest pause always, hops of seconds would
#: cost the SuperLink as much as its other work.
_SHORTEST_LOOK, _LONGEST_LOOK = 0.02, 0.5
_SHARE_OF_WAIT = 0.1
#: Seconds before a message is sent again, at first and at most. A deployed node starts a process
#: for every message and answers after 4 s to 6 s.
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 60.0
#: Seconds added to a timeout for each whole megabyte of the message: several times what any scheme
#: takes to encrypt or open as much on one core.
_SECONDS_PER_MEGABYTE = 30
#: Is handed a message that nobody has answered, with the error that stands for the answer, until
#: it returns the node to which the message is sent again.
Again = Callable[[Message, Message], int | None]


class Post:
    """Messages under way. Each comes back as one reply, or as an error after its own time.

    Replies are matched to messages by the message's id, and an id is forgotten with its answer or
    its time. So a reply that comes late, or twice, is never asked for and never seen.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._under_way: dict[str, tuple[Message, float, float]] = {}
        self._failed: list[tuple[Message, Message]] = []

    def __bool__(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._under_way or self._failed)

    def send(self, messages: Iterable[Message], timeout: float) -> None:
        """Send messages; each is given this many seconds from now."""
        for message in messages:
            self._send(message, message, timeout)

    def send_again(self, message: Message, node_id: int, timeout: float) -> None:
        """Send a copy of a message to a node; the answer passes for the message's own."""
        self._send(message_to(node_id, message, message.content), message, timeout)

    def _send(self, message: Message, asked: Message, timeout: float) -> None:
        # One by one: some grids leave out the id of a message that they cannot deliver.
        ids = [message_id for message_id in self._grid.push_messages([message]) if message_id]
        if ids:
            self._under_way[ids[0]] = asked, monotonic() + timeout, timeout
        else:
            self._failed.append((asked, _unavailable(asked, "it is not connected")))

    def collect(self) -> list[tuple[Message, Message]]:
        """Return the answers that are there, each after its message; see :func:`exchange`."""
        answers, self._failed = self._failed, []
        # A set of its own: one of Flower's grids takes ids out of the set that it is given.
        replies = self._grid.pull_messages(set(self._under_way)) if self._under_way else []
        for reply in replies:
            sent = self._under_way.pop(reply.metadata.reply_to_message_id, None)
            if sent is not None:
                answers.append((sent[0], _in_the_nodes_name(reply, sent[0])))
        if answers:
            # In a grid within one process a node waits for its turn while others answer.
            return answers
        now = monotonic()
        late = [(i, *sent) for i, sent in self._under_way.items() if now > sent[1]]
        for message_id, message, _, timeout in late:
            del self._under_way[message_id]
            answers.append((message, _unavailable(message, f"no answer within {timeout:g} s")))
        return answers


def exchange(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float,
    following: Callable[[Message], Message | None] = lambda _: None,
    again: Again | None = None,
) -> Iterator[Message]:
    """Send messages and yield each reply as soon as it is there.

    Parameters
    ----------
    grid : Grid
    messages : iterable of Message
    timeout : float
        Seconds to wait for the reply to each message, and longer for large ones.
    following : callable
        Is asked for a message to send in turn after each reply that was yielded.
    again : callable or None
        See `Again`; ``None``: the error is yielded.

    Yields
    ------
    Message
        One for each message, in order of arrival. Its ``src_node_id`` is the node that was asked;
        it carries an error if the node sent one, is not connected or did not answer in time.
    """
    post = Post(grid)
    for first in messages:
        post.send([first], allowed(first, timeout))
    last = monotonic()
    silent: list[tuple[Message, Message]] = []
    while post or silent:
        answers = post.collect()
        for asked, reply in answers:
            if again is not None and nobody_answered(reply):
                silent.append((asked, reply))
                continue
            yield reply
            if (message := following(reply)) is not None:
                post.send([message], allowed(message, timeout))
            last = monotonic()
        if again is not None:
            due = [(asked, reply, again(asked, reply)) for asked, reply in silent]
            silent = [(asked, reply) for asked, reply, node_id in due if node_id is None]
            for asked, _, node_id in due:
                if node_id is not None:
                    post.send_again(asked, node_id, allowed(asked, timeout))
        if not answers:
            sleep(_pause(monotonic() - last))


def ask_until_answered(grid: Grid, message: Callable[[], Message], timeout: float) -> Message:
    """Send a message again and again until a node has decided on it.

    The pauses grow exponentially, with jitter. Earlier messages may still be answered meanwhile,
    so it must make no difference which of them is, and how many.

    Parameters
    ----------
    grid : Grid
    message : callable
        Makes the message; asked anew each time, since the node may have another id by now.
    timeout : float
        Seconds after which to give up, and longer for a large message.

    Returns
    -------
    Message
        The first answer that is not of the kind "nobody is there", else the last one that is.
    """
    post = Post(grid)
    start = again = monotonic()
    end: float | None = None
    pause = _FIRST_PAUSE
    last: Message | None = None
    while True:
        now = monotonic()
        if last is not None and end is not None and now > end:
            return last
        if again <= now <= (end or now):
            asked = message()
            end = end or start + allowed(asked, timeout)
            post.send([asked], end - now)
            # Jitter spreads retries out; nothing secret depends on it.
            again = now + pause * random.uniform(0.5, 1.0)
            pause = min(2 * pause, _LONGEST_PAUSE)
        for _, answer in post.collect():
            if not nobody_answered(answer):
                return answer
            last = answer
        sleep(_pause(monotonic() - start))


def save_model(
    grid: Grid, contents: Mapping[int, RecordDict], name: Callable[[int], str], timeout: float
) -> tuple[Skipped, ...]:
    """Have hospitals save the final model; return those that did not, with a warning of each.

    Parameters
    ----------
    grid : Grid
    contents : mapping of int to RecordDict
        Contents of the messages, by node id.
    name : callable
        Returns a hospital's name.
    timeout : float
        Seconds to wait for each reply.
    """
    messages = [Message(content, node_id, FINISH) for node_id, content in contents.items()]
    return tuple(
        skip(name(reply.metadata.src_node_id), reply, "has not saved the final model")
        for reply in exchange(grid, messages, timeout)
        if reply.has_error()
    )


def allowed(message: Message, timeout: float) -> float:
    """Return a timeout with the time that a message of its size may take in addition."""
    return timeout + _SECONDS_PER_MEGABYTE * (content_bytes(message) // 1_000_000)


def _pause(waited: float) -> float:
    """Return the seconds until the next look for a reply that was waited for so long."""
    return min(max(_SHORTEST_LOOK, _SHARE_OF_WAIT * waited), _LONGEST_LOOK)


def message_to(node_id: int, message: Message, content: RecordDict) -> Message:
    """Return a message like another one, with a node and a content."""
    metadata = message.metadata
    return Message(
        content, node_id, metadata.message_type, ttl=metadata.ttl, group_id=metadata.group_id
    )


def _unavailable(message: Message, reason: str) -> Message:
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, reason), reply_to=message)


def _in_the_nodes_name(reply: Message, asked: Message) -> Message:
    """Return the reply as of the node that was asked.

    An error may be the SuperLink's, and a reply that of the same hospital's new node.
    """
    if reply.metadata.src_node_id == asked.metadata.dst_node_id:
        return reply
    return Message(reply.error if reply.has_error() else reply.content, reply_to=asked)
