"""An app with a test's replies, and a grid that treats it as Flower does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.common.constant import ErrorCode
from local_grid import LocalGrid, simulated_nodes

from fl_he.clients import KeyHolderPolicy, encryption_mod, with_key_holder

#: Returns a client's reply from its number, from 0, and the message it got.
Reply = Callable[[int, Message], RecordDict]

CLIENTS = 3
ENCRYPTED: tuple[Mod, ...] = (encryption_mod,)


def key_holder_policy(_: Context) -> KeyHolderPolicy:
    """Return the default policy but for a short key."""
    return KeyHolderPolicy(key_bits=1024)


def plain_app(reply: Reply, mods: Sequence[Mod] = (), train_mods: Sequence[Mod] = ()) -> ClientApp:
    """Return an app whose train and evaluate functions reply as told."""
    app = ClientApp(mods=list(mods))

    def handle(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        return Message(reply(client, message), reply_to=message)

    app.train(mods=list(train_mods))(handle)
    app.evaluate()(handle)
    return app


def encrypted_app(
    reply: Reply, mods: Sequence[Mod] = ENCRYPTED, train_mods: Sequence[Mod] = ()
) -> ClientApp:
    """Return the same app behind encryption, which plays company X as well."""
    return with_key_holder(plain_app(reply, mods, train_mods), key_holder_policy)


class _Surviving(ClientApp):
    """Turns an exception of an app into an error reply, as Flower does outside of the app."""

    def __init__(self, app: ClientApp) -> None:
        super().__init__()
        self._app = app

    def __call__(self, message: Message, context: Context) -> Message:
        try:
            return self._app(message, context)
        except Exception as error:
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def grid(app: ClientApp, nodes: list[UserConfig] | None = None) -> LocalGrid:
    """Return a grid of three clients and company X, unless told otherwise."""
    return LocalGrid(_Surviving(app), simulated_nodes(CLIENTS) if nodes is None else nodes)


def plain_grid(app: ClientApp) -> LocalGrid:
    """Return a grid of three clients and no company X."""
    return grid(app, simulated_nodes(CLIENTS - 1))
