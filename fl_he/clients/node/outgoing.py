"""What a node says when it does not answer: reasons of ours, never an exception's own words.

Flower sends the text of any exception in a ClientApp to the coordinator. The text of, say, a
parser's error may quote a patient's record or name a path. So only refusals that hold public
values alone leave a deployed node as they are; of anything else only the type leaves, and the
node's own log says more. A simulation hides nothing from whoever runs it, and says everything.
"""

from __future__ import annotations

import logging
import traceback

from flwr.app import Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from fl_he.clients.node.role import is_simulated
from fl_he.crypto.errors import CryptoError, KeyFileError
from fl_he.learning.errors import DataError
from fl_he.wire.encrypted_sum import PrivateReasonError, ProtocolError

_logger = logging.getLogger(__name__)


#: Their text holds public values only, but for the second group it may name paths or columns.
_PUBLIC = (ProtocolError, CryptoError)
_LOCAL = (PrivateReasonError, KeyFileError, DataError)


def refusal(message: Message, reason: str) -> Message:
    """Return the error reply that carries a refusal."""
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)


def refusal_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower mod: turn every exception of the app behind it into an error reply that is safe."""
    try:
        return call_next(message, context)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    # BaseException: the panics of libraries written in Rust are no Exception.
    except BaseException as error:
        return refusal(message, _reason(error, message.metadata.message_type, context))


def _reason(error: BaseException, action: str, context: Context) -> str:
    if isinstance(error, _PUBLIC) and not isinstance(error, _LOCAL):
        return str(error)
    if is_simulated(context):
        return str(error) if isinstance(error, _LOCAL) else f"{type(error).__name__}: {error}"
    if isinstance(error, _LOCAL):
        _logger.error("%s refused: %s", action, error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
        # The text may quote a record of data, so it is not even logged.
        _logger.error("%s in %s at %s", type(error).__name__, action, where)
    return f"{type(error).__name__}: this node's log says more"
