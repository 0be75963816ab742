"""A ClientApp in front of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod

_Decorator = Callable[[ClientAppCallable], ClientAppCallable]


class WrappedApp(ClientApp):
    """A ClientApp whose functions are those of the app behind it.

    Functions registered here, or with the app behind it later, are the app's. Subclasses say in
    ``__call__`` what they add.
    """

    def __init__(self, app: ClientApp) -> None:
        super().__init__()
        self._app = app

    def train(self, action: str = "default", *, mods: list[Mod] | None = None) -> _Decorator:
        """See ClientApp."""
        return self._app.train(action, mods=mods)

    def evaluate(self, action: str = "default", *, mods: list[Mod] | None = None) -> _Decorator:
        """See ClientApp."""
        return self._app.evaluate(action, mods=mods)

    def query(self, action: str = "default", *, mods: list[Mod] | None = None) -> _Decorator:
        """See ClientApp."""
        return self._app.query(action, mods=mods)

    def lifespan(
        self,
    ) -> Callable[[Callable[[Context], Iterator[None]]], Callable[[Context], Iterator[None]]]:
        """See ClientApp."""
        return self._app.lifespan()
