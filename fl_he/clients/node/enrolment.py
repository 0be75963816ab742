"""What a node was handed out of band: the federation manifest and its own private identity.

With it a node takes keys from the manifest alone, whatever a coordinator sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flwr.app import Context

from fl_he.clients.node.setting import node_setting
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.key_files.protected_file import read_passphrase_file
from fl_he.wire.encrypted_sum import ProtocolError

_logger = logging.getLogger(__name__)

_FEDERATION = "federation"
_IDENTITY = "identity"
_PASSPHRASE_FILE = "passphrase-file"  # noqa: S105 - a setting's name

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True, slots=True, repr=False)
class Enrolment:
    """A node's part in a federation.

    Attributes
    ----------
    manifest : Manifest
        Whose keys this node trusts.
    identity : Identity
        This node's own; its public half is in the manifest.
    """

    manifest: Manifest
    identity: Identity

    @property
    def name(self) -> str:
        """The node's name in the manifest."""
        return self.identity.public.name

    def __repr__(self) -> str:
        return f"Enrolment({self.identity!r} in {self.manifest!r})"


def read_manifest(context: Context) -> Manifest | None:
    """Return the manifest that ``federation`` names in the node configuration.

    Returns
    -------
    Manifest or None
        ``None`` where the node has neither ``federation`` nor ``identity``.

    Raises
    ------
    ProtocolError
        If there is one without the other, or the file cannot be read. It shows no path.
    CryptoError
        If the file is no manifest.
    """
    federation = node_setting(context, _FEDERATION)
    identity = node_setting(context, _IDENTITY)
    if federation is None and identity is None:
        return None
    if federation is None or identity is None:
        given, missing = (
            (_IDENTITY, _FEDERATION) if federation is None else (_FEDERATION, _IDENTITY)
        )
        raise ProtocolError(
            f"a node whose configuration holds {given} must be given {missing} as well"
        )
    return read_named_file(_FEDERATION, federation, Manifest.load)


def read_enrolment(context: Context) -> Enrolment | None:
    """Return what the node was enrolled with, ``None`` where it has no manifest.

    The settings are ``federation`` (path of the manifest), ``identity`` (path of the identity) and,
    if the identity is protected, ``passphrase-file`` (path of a file of mode 0600 that holds the
    passphrase in its first line). ``role`` and, where it is given, ``name`` must be the identity's.

    Raises
    ------
    ProtocolError
        If they do not fit together or a file cannot be read. It shows no path.
    CryptoError
        If a file is malformed, or the identity is not the one of that name in the manifest.
    KeyFileError
        If others may read the private files, or the passphrase does not open the identity. It
        may show paths, and so it is not for other nodes.
    """
    manifest = read_manifest(context)
    if manifest is None:
        return None
    path = str(node_setting(context, _IDENTITY))
    passphrase = read_passphrase(context)
    identity = read_named_file(_IDENTITY, path, lambda file: Identity.load(file, passphrase))
    manifest.require(identity.public)
    _check_same(context, "role", identity.public.role)
    if node_setting(context, "name") is not None:
        _check_same(context, "name", identity.public.name)
    return Enrolment(manifest, identity)


def read_passphrase(context: Context) -> str | None:
    """Return the first line of the file that ``passphrase-file`` names, ``None`` without it.

    Raises
    ------
    ProtocolError
        If the file cannot be read.
    KeyFileError
        See `read_passphrase_file`.
    """
    path = node_setting(context, _PASSPHRASE_FILE)
    if path is None:
        return None
    return read_named_file(_PASSPHRASE_FILE, path, read_passphrase_file)


def _check_same(context: Context, setting: str, enrolled: str) -> None:
    given = node_setting(context, setting)
    if given != enrolled:
        raise ProtocolError(
            f"{setting} in the node configuration must be {enrolled!r}, as in the node's "
            f"identity, got {given!r:.80}"
        )


def read_named_file(setting: str, path: str, load: Callable[[Path], _Loaded]) -> _Loaded:
    """Read the file that a setting names; ProtocolError without its path if it cannot be read."""
    try:
        return load(Path(path).expanduser())
    except OSError as error:
        _logger.error("%s: %s", setting, error)
        raise ProtocolError(
            f"{setting} in the node configuration must name a file that this node can read, "
            f"got one that it cannot ({type(error).__name__})"
        ) from None
