"""Messages that may leave a node: encrypted replies, and refusals in our own words.

Flower sends the text of any exception in a ClientApp to the coordinator. The text of, say, a
parser's error may quote a patient's record or name a path, and its type alone may depend on a
record. So only refusals that hold public values alone leave a deployed node as they are; all others
leave as one and the same text, and the node's own log says more. A simulation hides nothing from
whoever runs it, and says everything.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable

from flwr.app import Error, Message, MessageType
from flwr.common.constant import ErrorCode

from fl_he.clients.node.node import Node
from fl_he.crypto.errors import CryptoError, KeyFileError, RangeError
from fl_he.errors import FlHeError
from fl_he.learning.errors import DataError
from fl_he.wire.encrypted_sum import FINISH, EncryptedReply
from fl_he.wire.records import PrivateReasonError, ProtocolError

_logger = logging.getLogger(__name__)

#: Answers a message on a node.
Answer = Callable[[Message, Node], Message]

#: Their text holds public values only, but for the second group it may name paths or columns, or
#: say something of data.
_PUBLIC = (ProtocolError, CryptoError)
_LOCAL = (PrivateReasonError, RangeError, KeyFileError, DataError)
#: All that a deployed node says of a refusal that is not public.
PRIVATE_REFUSAL = "this node refused, and its reason stays there: this node's log says more"


def answered(message: Message, node: Node, answer: Answer) -> Message:
    """Answer a message; every exception becomes an error reply that is safe to send.

    A deployed node that is asked to describe itself begins the reason with its name.
    """
    try:
        return answer(message, node)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    # BaseException: the panics of libraries written in Rust are no Exception.
    except BaseException as error:
        action = message.metadata.message_type
        reason = _reason(error, action, node)
        if action.endswith("describe") and not node.simulated:
            reason = f"{node.printed_name}: {reason}"
        return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)


def is_public(error: BaseException) -> bool:
    """Return whether an error may leave a deployed node: no other may depend on data."""
    return isinstance(error, _PUBLIC) and not isinstance(error, _LOCAL)


def _reason(error: BaseException, action: str, node: Node) -> str:
    if is_public(error):
        return str(error)
    words = own_words(error, action, node)
    if node.simulated:
        return words
    _logger.error("%s refused: %s", action, words)
    return PRIVATE_REFUSAL


def own_words(error: BaseException, action: str, node: Node) -> str:
    """Return what a node's own log says of an error."""
    if isinstance(error, FlHeError):
        return str(error)
    if node.simulated:
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    # The text may quote a record of data, so it is not even logged; the system's words cannot.
    number = error.errno if isinstance(error, OSError) else None
    words = "" if number is None else f": {os.strerror(number)}"
    return f"{type(error).__name__} in {action} at {where}{words}"


def require_encryptable(action: str) -> None:
    """Raise ProtocolError if replies to an action would leave the node in plain."""
    if action.partition(".")[0] not in (MessageType.TRAIN, MessageType.EVALUATE):
        raise ProtocolError(
            f"a reply to {action!r} would leave this node in plain: only train and evaluate "
            "replies can be encrypted"
        )


def require_safe(message: Message, reply: Message) -> None:
    """Raise ProtocolError unless an app's reply, after all mods, may leave the node."""
    action = message.metadata.message_type
    # Flower's LocalDpMod answers the reply that it cannot use; the coordinator would wait for ever.
    addressed = reply.metadata.reply_to_message_id == message.metadata.message_id
    if reply.has_error():
        # Refusals have been made safe; the words of the app's own errors have not.
        if not addressed or reply.error.code != ErrorCode.MOD_FAILED_PRECONDITION:
            raise PrivateReasonError(reply.error.reason or f"error code {reply.error.code}")
        return
    if not addressed:
        raise ProtocolError("a reply must answer the message that the app was handed")
    if action == FINISH and not list(reply.content.keys()):
        return
    require_encryptable(action)
    try:
        EncryptedReply.from_content(reply.content)
    except ProtocolError:
        raise ProtocolError(
            "a reply would leave this node in plain: encryption_mod must be the first of the "
            "app's mods, as in ClientApp(mods=[encryption_mod, ...])"
        ) from None
