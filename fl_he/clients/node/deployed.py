"""A deployed node looks itself over when it is asked what it is, before any training."""

from __future__ import annotations

import logging
from tempfile import TemporaryFile

from flwr.app import Context, Message

from fl_he.clients.node.enrolment import read_enrolment
from fl_he.clients.node.node_config import check_settings
from fl_he.clients.node.pin import pinned_fingerprint
from fl_he.clients.node.refusal import refusal, refusal_mod
from fl_he.clients.node.role import is_simulated, read_node
from fl_he.clients.node.setting import node_path
from fl_he.clients.node.wrapped_app import WrappedApp
from fl_he.clients.private_release import deployed_privacy
from fl_he.wire.encrypted_sum import DESCRIBE, ProtocolError, Role, printable

_logger = logging.getLogger(__name__)


class CheckedApp(WrappedApp):
    """A ClientApp that checks a deployed node before the node describes itself.

    Whatever is wrong is one refusal that begins with the node's name and says which setting it is.
    The files that it names are shown in the node's own log only.
    """

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        if message.metadata.message_type != DESCRIBE or is_simulated(context):
            return self._app(message, context)
        reply = refusal_mod(message, context, self._describe)
        if reply.has_error():
            return refusal(message, f"{name_of(context)}: {reply.error.reason}")
        return reply

    def _describe(self, message: Message, context: Context) -> Message:
        _check(context)
        return self._app(message, context)


def _check(context: Context) -> None:
    node = read_node(context)
    check_settings(context.node_config, node.role)
    read_enrolment(context)
    pinned_fingerprint(context)
    if node.role is Role.HOSPITAL:
        _require_readable(context, "data")
        _require_readable(context, "test-data")
        require_writable(context, "model-path")
        deployed_privacy(context)
        require_writable(context, "privacy-ledger")


def name_of(context: Context) -> str:
    """Return a deployed node's name for messages to people, before anything of it is checked."""
    name = context.node_config.get("name")
    return printable(name) if isinstance(name, str) and name.strip() else f"node-{context.node_id}"


def _require_readable(context: Context, setting: str) -> None:
    file = node_path(context, setting)
    try:
        if file is not None:
            file.open("rb").close()
    except OSError as error:
        _logger.error("%s: %s", setting, error)
        raise ProtocolError(
            f"{setting} in the node configuration must name a file that this node can read"
        ) from None


def require_writable(context: Context, setting: str) -> None:
    """Write a file without a name where the one of the setting would go, or its first folder."""
    file = node_path(context, setting)
    if file is None:
        return
    try:
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder")
        with TemporaryFile(dir=next(path for path in file.absolute().parents if path.exists())):
            pass
    except OSError as error:
        _logger.error("%s: %s", setting, error)
        raise ProtocolError(
            f"{setting} in the node configuration must name a file that this node can write"
        ) from None
