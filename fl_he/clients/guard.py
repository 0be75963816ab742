"""The last look at what leaves a node, whatever the app and its mods have made of it."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from fl_he.clients.encryption import require_encryptable
from fl_he.clients.node.refusal import refusal_mod
from fl_he.clients.node.wrapped_app import WrappedApp
from fl_he.wire.encrypted_sum import FINISH, EncryptedReply, PrivateReasonError, ProtocolError


class GuardedApp(WrappedApp):
    """A ClientApp that answers some actions by itself and lets no plain reply leave.

    Parameters
    ----------
    app : ClientApp
        Its mods and functions see all actions but fl-he's own.
    own : mapping of str to callable
        fl-he's own actions. No mod of the app sees them.

    Raises
    ------
    ProtocolError
        If the app is a legacy one, whose ``client_fn`` Flower asks instead of registered functions.
    """

    def __init__(self, app: ClientApp, own: Mapping[str, ClientAppCallable]) -> None:
        super().__init__(app)
        # Flower has no public way to tell.
        if getattr(app, "_call", None) is not None:
            raise ProtocolError(
                "the ClientApp must have functions registered with @app.train() and "
                "@app.evaluate(), got one with a client_fn: how to turn one into the other is in "
                "Flower's guide 'Upgrade to Message API'"
            )
        self._own = own

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message; an exception becomes an error reply that is safe to send."""
        return refusal_mod(message, context, self._answer)

    def _answer(self, message: Message, context: Context) -> Message:
        action = message.metadata.message_type
        if action in self._own:
            return self._own[action](message, context)
        reply = self._app(message, context)
        _check(message, reply)
        return reply


def _check(message: Message, reply: Message) -> None:
    """Raise ProtocolError unless the reply may leave this node."""
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
