"""``fl-he enroll``: a node's identity."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl_he.commands.passphrase import AskPassphrase, PassphraseFile, new_passphrase
from fl_he.commands.public_file import require_absent, write_public_file
from fl_he.terminal.errors import plain_errors

PRIVATE = "identity.json"


def enroll(
    name: Annotated[str, typer.Option(help="The node's name in its federation.")],
    role: Annotated[str, typer.Option(help="hospital or key-holder.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the two files go.")],
    passphrase_file: PassphraseFile = None,
    ask_passphrase: AskPassphrase = False,
) -> None:
    """Make a node's identity: identity.json, NAME.public.json, the public entry, a fingerprint."""
    with plain_errors():
        from fl_he.crypto.envelopes.identity import Identity

        identity = Identity.generate(name, role)
        passphrase = new_passphrase(passphrase_file, ask_passphrase)
        out.mkdir(parents=True, exist_ok=True)
        private, public = out / PRIVATE, out / f"{name}.public.json"
        require_absent(private, public)
        identity.save(private, passphrase)
        write_public_file(public, identity.public.to_json())
        typer.echo(identity.public.to_json())
        typer.echo(f"identity:     {private} (secret: it stays on this node)")
        typer.echo(f"public entry: {public} (the line above)")
        typer.echo(f"fingerprint:  {identity.public.fingerprint}")
