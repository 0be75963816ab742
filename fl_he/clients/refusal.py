"""What a node says when it does not answer: reasons of ours, never an exception's own words.

Flower sends the text of any exception in a ClientApp to the coordinator. The text of, say, a
parser's error may quote a patient's record, so only our own refusals, which hold public values,
leave the node as they are. Anything else leaves as its type alone.
"""

from __future__ import annotations

import logging
import traceback

from flwr.app import Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from fl_he.crypto.errors import CryptoError
from fl_he.learning.errors import DataError
from fl_he.messages import ProtocolError

#: Exceptions whose text holds public values only.
REFUSALS = (ProtocolError, CryptoError, DataError)

_logger = logging.getLogger(__name__)


def refusal(message: Message, reason: str) -> Message:
    """Return the error reply that carries a refusal."""
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)


def refusal_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower mod: turn every exception of the app behind it into an error reply that is safe.

    Put it first in ``ClientApp(mods=[...])``, or rely on ``encryption_mod``, which does the same.
    """
    try:
        return call_next(message, context)
    except REFUSALS as error:
        return refusal(message, str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        _logger.error(
            "%s while answering %s, at %s:%s; its text may quote data and is not logged",
            type(error).__name__,
            message.metadata.message_type,
            where.filename,
            where.lineno,
        )
        return refusal(
            message,
            f"{type(error).__name__} in the app (its text stays at the node, it may quote data)",
        )
