"""``fl-he federation`` and ``fl-he show``: the manifest, and what everybody compares."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_he.commands.agree import show_agreement
from fl_he.commands.plan import UNPLANNED, show_plan
from fl_he.commands.public_file import parse_public_file, write_public_file
from fl_he.terminal.errors import plain_errors

if TYPE_CHECKING:
    from fl_he.crypto.envelopes.manifest import Manifest


_MOVED = (
    "the manifest's fingerprint is new: give the new manifest to every node, compare the "
    "fingerprint with every operator, and take private-key and key-fingerprint out of the node "
    "configurations: company X now makes a key for each run by itself"
)


def federation(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The manifest.")],
    entries: Annotated[list[Path] | None, typer.Argument(metavar="[ENTRY.json...]")] = None,
    plan: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A study plan that `fl-he plan` has drafted; may be repeated. With any, the nodes "
            "answer only what one of the plans allows.",
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A manifest of format 2, whose nodes and plans the new one gets.",
        ),
    ] = None,
) -> None:
    """Put the manifest of a federation together; every node gets a copy of it.

    ENTRY.json... are the NAME.public.json of all nodes, which `fl-he enroll` has made. With --from
    they are taken from a manifest of an earlier release.
    """
    with plain_errors():
        from fl_he.crypto.envelopes.manifest import Manifest
        from fl_he.crypto.envelopes.public_identity import PublicIdentity

        if bool(entries) == (from_ is not None) or (plan and from_ is not None):
            raise typer.BadParameter("give the nodes' ENTRY.json with any --plan, or --from alone")
        if from_ is not None:
            manifest = parse_public_file(from_, Manifest.from_older)
        else:
            found = (parse_public_file(one, PublicIdentity.from_json) for one in entries or ())
            manifest = Manifest(tuple(found), tuple(_plan_digest(path) for path in plan or ()))
        write_public_file(out, manifest.to_json())
        print_manifest(manifest)
        if from_ is not None:
            typer.echo(_MOVED)


def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
) -> None:
    """Print the fingerprints of public files, to compare over the phone.

    FILE... are manifests, study plans, public entries of nodes, public keys and agreements of CaPC.
    """
    with plain_errors():
        for file in files:
            parse_public_file(file, _show)


def _show(text: str) -> None:
    from fl_he.crypto.comparison.dgk_key import DgkPublicKey
    from fl_he.crypto.envelopes.manifest import Manifest
    from fl_he.crypto.envelopes.public_identity import FORMAT, PublicIdentity
    from fl_he.crypto.errors import CryptoError
    from fl_he.crypto.paillier.public_key import PublicKey

    members: object = None
    with suppress(ValueError, RecursionError):  # refused below
        members = json.loads(text)
    found = members if isinstance(members, dict) else {}
    if "sigma_gnmax" in found:
        show_agreement(text)
    elif "nodes" in found:
        print_manifest(Manifest.from_json(text))
    elif "most_sessions" in found:
        show_plan(text)
    elif found.get("kty") == "DGK":
        dgk = DgkPublicKey.from_json(text)
        typer.echo(f"{dgk.fingerprint} DGK key of {dgk.key_bits} bits")
    elif "kty" in found:
        key = PublicKey.from_json(text)
        typer.echo(f"{key.fingerprint} Paillier key of {key.key_bits} bits, kind {key.key_kind}")
    elif found.get("format") != FORMAT:
        raise CryptoError(
            "the file is not public: give a manifest, a study plan, a node's public entry, a "
            "public key or an agreement"
        )
    else:
        entry = PublicIdentity.from_json(text)
        typer.echo(f"{entry.fingerprint} {entry.role} {entry.name}")


def _plan_digest(path: Path) -> str:
    from fl_he.wire.study_plan import StudyPlan

    return parse_public_file(path, StudyPlan.from_json).digest


def print_manifest(manifest: Manifest) -> None:
    """Print nodes and plans with their fingerprints, and the manifest's own."""
    for node in manifest.nodes:
        typer.echo(f"{node.fingerprint} {node.role} {node.name}")
    for digest in manifest.plans:
        typer.echo(f"{digest} study plan")
    if not manifest.plans:
        typer.echo(f"no study plan: {UNPLANNED}")
    typer.echo(f"{manifest.fingerprint} manifest")
