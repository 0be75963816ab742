"""Errors in the place of replies, as Flower sends them for nodes that fail."""

from __future__ import annotations

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode


def error_of(reply: Message, code: int, reason: str) -> Message:
    """Return an error in the place of a reply."""
    # Flower's overloads have no error with the reply's own metadata, its constructor does.
    return Message(error=Error(code, reason), metadata=reply.metadata)  # type: ignore[call-overload, no-any-return]


def crash(reply: Message) -> Message:
    """Return the error of a node whose app has died."""
    return error_of(reply, ErrorCode.CLIENT_APP_CRASHED, "stopped responding")
