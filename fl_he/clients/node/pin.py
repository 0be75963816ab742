"""The one Paillier key that a deployed node works with."""

from __future__ import annotations

import re

from flwr.app import Context

from fl_he.clients.node.enrolment import read_manifest
from fl_he.clients.node.setting import node_setting
from fl_he.wire.encrypted_sum import ProtocolError

_SETTING = "key-fingerprint"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def pinned_fingerprint(context: Context) -> str | None:
    """Return the fingerprint of company X's public key, as this node was told out of band.

    It stands in the manifest that ``federation`` names, or else in ``key-fingerprint``. Where a
    node has both they must agree.

    Returns
    -------
    str or None
        ``None`` where it has neither, as in a simulation.

    Raises
    ------
    ProtocolError, CryptoError
        If ``key-fingerprint`` is none or not the manifest's, or the manifest cannot be read.
    """
    given, manifest = node_setting(context, _SETTING), read_manifest(context)
    if given is not None and not _FINGERPRINT.fullmatch(given):
        raise ProtocolError(
            f"{_SETTING} in the node configuration must be 64 lower-case hexadecimal digits, "
            f"got {given!r:.80}"
        )
    if manifest is None:
        return given
    if given not in (None, manifest.paillier_fingerprint):
        raise ProtocolError(
            f"{_SETTING} in the node configuration must be the manifest's, "
            f"{manifest.paillier_fingerprint}, or left out, got {given}"
        )
    return manifest.paillier_fingerprint
