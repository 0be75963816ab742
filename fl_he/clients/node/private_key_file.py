"""The private keys of a deployed node, from its disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flwr.app import Context

from fl_he.clients.node.enrolment import read_passphrase
from fl_he.clients.node.pin import pinned_fingerprint
from fl_he.clients.node.setting import node_path
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.wire.encrypted_sum import ProtocolError

_logger = logging.getLogger(__name__)

_Key = TypeVar("_Key")


def load_key_file(context: Context, setting: str, load: Callable[[Path, str | None], _Key]) -> _Key:
    """Return the private key in the file that a setting names; see `load_private_key`.

    Parameters
    ----------
    context : Context
    setting : str
    load : callable
        Takes the path and the passphrase, None without ``passphrase-file``.
    """
    path = node_path(context, setting)
    if path is None:
        raise ProtocolError(
            f"a deployed node that owns keys must be given {setting} in its node configuration: "
            "the path of its key file"
        )
    try:
        return load(path, read_passphrase(context))
    except (CryptoError, OSError) as error:
        _logger.error("%s: %s", setting, error)
        raise ProtocolError(
            f"{setting} in the node configuration must name a key file that this node can open "
            "(with passphrase-file if it is protected): this node's log says more"
        ) from None


def load_private_key(context: Context, known: str | None = None) -> PrivateKey:
    """Return the key in the file that ``private-key`` names in the node configuration.

    A protected file is opened with the passphrase in ``passphrase-file``.

    Parameters
    ----------
    context : Context
    known : str, optional
        Fingerprint of a key that this node has checked before; see `PrivateKey.load`.

    Raises
    ------
    ProtocolError
        If there is no such setting, the file does not open, or it holds another key than the
        manifest says. It shows no path; the node's log does.
    """
    key = load_key_file(
        context, "private-key", lambda path, word: PrivateKey.load(path, word, known=known)
    )
    pinned = pinned_fingerprint(context)
    if pinned not in (None, key.public_key.fingerprint):
        raise ProtocolError(
            f"private-key in the node configuration must name the manifest's key, {pinned}, "
            f"got {key.public_key.fingerprint}"
        )
    return key
