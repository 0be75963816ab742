"""``fl-he keygen`` and ``fl-he enroll``: a node's own keys, and its identity.

Both write private files, under a passphrase from a file or typed twice, or under none.
"""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Annotated

import typer

from fl_he.commands.public_file import require_absent, write_public_file
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.terminal.errors import plain_errors

PRIVATE, PUBLIC = "private-key.json", "public-key.json"
DGK_PRIVATE, DGK_PUBLIC = "dgk-private-key.json", "dgk-public-key.json"
IDENTITY = "identity.json"
_PATIENCE = 2.0  # seconds without a sign of life

_PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Encrypt the private file with the passphrase in the first line of FILE (mode 0600).",
    ),
]
_AskPassphrase = Annotated[
    bool, typer.Option("--ask-passphrase", help="The same, with a passphrase that you type.")
]


def keygen(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the four files go.")],
    key_bits: Annotated[int, typer.Option(help="Moduli; 3072 for 128-bit security.")] = 2048,
    key_kind: Annotated[
        KeyKind, typer.Option(help="Of the Paillier key; see docs/security.md.")
    ] = KeyKind.short,
    passphrase_file: _PassphraseFile = None,
    ask_passphrase: _AskPassphrase = False,
) -> None:
    """Make a node's Paillier and DGK keys.

    Company X needs them for sums, which take the Paillier key only; for CaPC company X and each
    hospital that queries make others.
    """
    with plain_errors():
        from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
        from fl_he.crypto.paillier.key_checks import MINIMUM_KEY_BITS, prime_bits
        from fl_he.crypto.paillier.private_key import PrivateKey

        passphrase = _new_passphrase(passphrase_file, ask_passphrase)
        private, public = out / PRIVATE, out / PUBLIC
        dgk_private, dgk_public = out / DGK_PRIVATE, out / DGK_PUBLIC
        require_absent(private, public, dgk_private, dgk_public)
        prime_bits(key_bits, MINIMUM_KEY_BITS)  # refused before a folder is made
        out.mkdir(parents=True, exist_ok=True)
        with _signs_of_life(f"making a Paillier key of {key_bits} bits"):
            key = PrivateKey.generate(key_bits, kind=key_kind)
        with _signs_of_life(f"making a DGK key of {key_bits} bits"):
            dgk = DgkPrivateKey.generate(key_bits)
        key.save(private, passphrase)
        dgk.save(dgk_private, passphrase)
        write_public_file(public, key.public_key.to_json())
        write_public_file(dgk_public, dgk.public_key.to_json())
        typer.echo(f"private key: {private} (secret: only this node has it)")
        typer.echo(f"public key:  {public}")
        typer.echo(f"fingerprint: {key.public_key.fingerprint}")
        typer.echo(f"private DGK key: {dgk_private} (secret, too)")
        typer.echo(f"public DGK key:  {dgk_public}")
        typer.echo(f"DGK fingerprint: {dgk.public_key.fingerprint}")


def enroll(
    name: Annotated[str, typer.Option(help="The node's name in its federation.")],
    role: Annotated[str, typer.Option(help="hospital or key-holder.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the two files go.")],
    passphrase_file: _PassphraseFile = None,
    ask_passphrase: _AskPassphrase = False,
) -> None:
    """Make a node's identity: identity.json, NAME.public.json, and its fingerprint."""
    with plain_errors():
        from fl_he.crypto.envelopes.identity import Identity

        identity = Identity.generate(name, role)
        passphrase = _new_passphrase(passphrase_file, ask_passphrase)
        private, public = out / IDENTITY, out / f"{name}.public.json"
        require_absent(private, public)
        out.mkdir(parents=True, exist_ok=True)
        identity.save(private, passphrase)
        write_public_file(public, identity.public.to_json())
        typer.echo(f"identity:     {private} (secret: it stays on this node)")
        typer.echo(f"public entry: {public} (for the coordinator)")
        typer.echo(f"fingerprint:  {identity.public.fingerprint}")


def _new_passphrase(file: Path | None, ask: bool) -> str | None:
    """Return the passphrase to encrypt with, ``None`` for none."""
    from fl_he.crypto.key_files import read_passphrase_file

    if file is not None and ask:
        raise typer.BadParameter("one of --passphrase-file and --ask-passphrase must be given")
    if ask:
        return str(typer.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True))
    return None if file is None else read_passphrase_file(file)


@contextmanager
def _signs_of_life(what: str) -> Iterator[None]:
    """Show on a terminal that work continues, once it has taken a while."""
    from rich.console import Console

    status = Console(stderr=True).status(what)
    timer = Timer(_PATIENCE, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
