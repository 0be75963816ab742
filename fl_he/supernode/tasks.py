"""One message, answered by the app that is installed on the node."""

from __future__ import annotations

import logging
import pkgutil
import traceback
from collections.abc import Collection
from logging import INFO
from time import monotonic, process_time

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.logger import log

from fl_he.clients.node.app import NodeApp
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.errors import FlHeError
from fl_he.supernode.flower import RuntimeApi, TaskInput

_logger = logging.getLogger(__name__)


def load_app(name: str) -> ClientApp:
    """Import an installed app.

    Parameters
    ----------
    name : str
        Module and attribute, as in ``fl_he.client_app:app``.

    Raises
    ------
    FlHeError
        If there is no ClientApp of this name, or its replies could leave in plain.
    """
    rule = f"--app must be MODULE:ATTRIBUTE and name an installed ClientApp, got {name}"
    if ":" not in name:
        raise FlHeError(rule)
    try:
        app = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FlHeError(f"{rule}: {error}") from error
    if not isinstance(app, ClientApp):
        raise FlHeError(f"{rule}, which is a {type(app).__name__}")
    if not isinstance(app, NodeApp):
        raise FlHeError(
            f"{name} would send its replies in plain: write app = "
            "with_key_holder(ClientApp(mods=[encryption_mod]))"
        )
    return app


def serve(api: RuntimeApi, app: ClientApp, pinned: Collection[str]) -> None:
    """Wait for one task and answer it.

    Parameters
    ----------
    api : RuntimeApi
    app : ClientApp
    pinned : collection of str
        SHA-256 of the only bundles whose messages are answered; all if empty. The app is the
        installed one in any case.
    """
    with api.task(api.claim()) as task:
        began = process_time()
        given = task.pull()
        arrived = monotonic()
        reply = _refusal(given, pinned) or _answer(app, given)
        task.push(reply, given.context, kept=not reply.has_error())
        seconds = (monotonic() - arrived, process_time() - began)
    action = given.message.metadata.message_type
    log(INFO, "Answered: %s message in %.3f s (CPU: %.3f s)", action, *seconds)


def _refusal(given: TaskInput, pinned: Collection[str]) -> Message | None:
    if not pinned or given.bundle in pinned:
        return None
    reason = (
        f"the bundle's SHA-256 must be one that this node pins, got {given.bundle}: send the app "
        "that all nodes have agreed on"
    )
    _logger.error("%s", reason)
    return Message(Error(ErrorCode.INVALID_FAB, reason), reply_to=given.message)


def _answer(app: ClientApp, given: TaskInput) -> Message:
    """Return the app's reply, or the one that every exception has: Flower's would quote it."""
    message = given.message
    try:
        reply = app(message, given.context)
        if not isinstance(reply, Message):
            raise TypeError("an app must reply with a Message")
    # BaseException: also SystemExit, and the panics of libraries written in Rust.
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        # The text may quote a record of data, so it is not even logged.
        _logger.error("%s at %s:%s", type(error).__name__, frame.filename, frame.lineno)
        return Message(
            Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, PRIVATE_REFUSAL), reply_to=message
        )
    return reply
