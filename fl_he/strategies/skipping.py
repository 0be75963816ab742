"""Skipping a hospital: which replies are errors, and how that is noted.

A round skips a hospital whose reply is an error (`update_sum`; sealed: `sealed.router`), or whose
arrays are others than those of most hospitals. `exchange` turns silence into an error. The next
round asks the hospital again. A reply that breaks the protocol ends the run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import Message
from flwr.common.constant import ErrorCode

from fl_he.wire import records
from fl_he.wire.encrypted_sum import printable
from fl_he.wire.records import ProtocolError

#: The node was not there, or died at work: nobody has decided anything.
_NOBODY_ANSWERED = {
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,
}

_Answer = TypeVar("_Answer", bound=records.Message)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A hospital that was asked and is missing.

    Attributes
    ----------
    name : str
        The hospital's.
    reason : str
        The hospital's error, its silence, or the array that differs.
    """

    name: str
    reason: str


def skip(name: str, reply: Message, consequence: str) -> Skipped:
    """Note a hospital whose reply is an error; warn of the consequence and the reason."""
    return skip_for(name, error_reason(reply), consequence)


def skip_for(name: str, reason: str, consequence: str) -> Skipped:
    """Note a hospital with the reason; warn of the consequence and the reason."""
    _logger.warning("%s %s: %s", name, consequence, reason)
    return Skipped(name, reason)


def read_reply(reply: Message, kind: type[_Answer]) -> _Answer:
    """Return the message in a reply; raises ProtocolError with its reason for an error."""
    if reply.has_error():
        raise ProtocolError(error_reason(reply))
    return kind.from_content(reply.content)


def nobody_answered(reply: Message) -> bool:
    """Return whether the reply says that the node was not there to decide anything."""
    return reply.has_error() and reply.error.code in _NOBODY_ANSWERED


def error_reason(reply: Message) -> str:
    """Return the reason of an error reply in a form fit to show to people."""
    reason = reply.error.reason or f"error code {reply.error.code}"
    # Flower sends "<class 'T'>:<'TEXT'>" for an exception, and Ray a traceback for the text.
    if reason.startswith("<class '"):
        reason = (
            reason.removesuffix("'>").rstrip().rpartition("\n")[2].rpartition(":<'")[2] or reason
        )
    return printable(reason)


def runs_another_app(reply: Message) -> bool:
    """Return whether an error answers ``describe`` of an app that `with_key_holder` has not made.

    The words are Flower's, of an app with functions and of a legacy one, and `encryption_mod`'s.
    """
    reason = reply.error.reason or ""
    unknown = (
        "No query function registered",
        "message type: query.describe",
        "describe' would leave",
    )
    return any(words in reason for words in unknown)
