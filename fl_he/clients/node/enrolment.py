"""Manifest, identity, pinned key and study plans, which a node was given out of band.

With a manifest a node takes only keys that are in it or that an identity of it has signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Context

from fl_he.clients.node.settings import node_setting, read_named_file
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.key_files import read_passphrase_file
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.study_plan import StudyPlan

_FEDERATION = "federation"
_IDENTITY = "identity"
_PLAN = "plan"
_PASSPHRASE_FILE = "passphrase-file"  # noqa: S105 - a setting's name
_KEY_FINGERPRINT = "key-fingerprint"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


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

    def verifies(self, ticket: Ticket, statement: bytes) -> bool:
        """Tell whether the hospital that a ticket names has signed a statement."""
        signers = {hospital.name: hospital for hospital in self.manifest.hospitals}
        signer = signers.get(ticket.hospital)
        return signer is not None and signer.verifies(ticket.signature, statement)

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


def read_plans(context: Context) -> Mapping[str, StudyPlan]:
    """Return the study plans that ``plan`` names in the node configuration, by their digests.

    Returns
    -------
    mapping
        Empty where the node has no manifest, or one that names no plans.

    Raises
    ------
    ProtocolError
        If a plan's file cannot be read or the manifest does not name the plan, or if the manifest
        names plans and the node has none. It shows no path.
    """
    setting, manifest = node_setting(context, _PLAN), read_manifest(context)
    if manifest is None or not manifest.plans:
        if setting is None:
            return {}
        raise ProtocolError(
            f"{_PLAN} must come with a manifest that names study plans: make the manifest with "
            "`fl-he federation --plan`"
        )
    if setting is None:
        raise ProtocolError(
            f"a node whose manifest names study plans must be given {_PLAN} in its node "
            "configuration: the path of a study plan, or paths with commas between them"
        )
    plans: dict[str, StudyPlan] = {}
    for path in setting.split(","):
        with refused_as(f"{_PLAN} in the node configuration:"):
            plan = read_named_file(_PLAN, path, StudyPlan.load)
        if plan.digest not in manifest.plans:
            raise ProtocolError(
                f"{_PLAN} in the node configuration must be named by the manifest, got the study "
                f"plan {plan.digest[:16]}"
            )
        plans[plan.digest] = plan
    return plans


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


def pinned_fingerprint(context: Context) -> str | None:
    """Return the fingerprint of company X's public key, as this node was told out of band.

    It stands in ``key-fingerprint``. With a manifest there is none: company X's identity, which is
    in the manifest, signs a key for each session.

    Returns
    -------
    str or None
        ``None`` where the node has no such setting, as in a simulation.

    Raises
    ------
    ProtocolError, CryptoError
        If ``key-fingerprint`` is none or is given with a manifest, or the manifest cannot be read.
    """
    given, manifest = node_setting(context, _KEY_FINGERPRINT), read_manifest(context)
    if given is not None and not _FINGERPRINT.fullmatch(given):
        raise ProtocolError(
            f"{_KEY_FINGERPRINT} in the node configuration must be 64 lower-case hexadecimal "
            f"digits, got {given!r:.80}"
        )
    if given is not None and manifest is not None:
        raise ProtocolError(
            f"{_KEY_FINGERPRINT} must be left out of the node configuration with a manifest: "
            "company X makes a key for each run and signs it"
        )
    return given
