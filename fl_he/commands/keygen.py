"""``fl-he keygen``: company X's Paillier key."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Annotated

import typer

from fl_he.commands.passphrase import AskPassphrase, PassphraseFile, new_passphrase
from fl_he.commands.plain_errors import plain_errors
from fl_he.commands.public_file import require_absent, write_public_file

PRIVATE, PUBLIC = "private-key.json", "public-key.json"
_PATIENCE = 2.0  # seconds without a sign of life


def keygen(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the two files go.")],
    key_bits: Annotated[int, typer.Option(help="Modulus; 3072 for 128-bit security.")] = 2048,
    passphrase_file: PassphraseFile = None,
    ask_passphrase: AskPassphrase = False,
) -> None:
    """Make company X's Paillier key: private-key.json, public-key.json, a fingerprint."""
    with plain_errors():
        from fl_he.crypto.private_key import PrivateKey

        passphrase = new_passphrase(passphrase_file, ask_passphrase)
        out.mkdir(parents=True, exist_ok=True)
        private, public = out / PRIVATE, out / PUBLIC
        require_absent(private, public)
        with _signs_of_life(f"making a key of {key_bits} bits"):
            key = PrivateKey.generate(key_bits)
        key.save(private, passphrase)
        write_public_file(public, key.public_key.to_json())
        typer.echo(f"private key: {private} (secret: only company X has it)")
        typer.echo(f"public key:  {public}")
        typer.echo(f"fingerprint: {key.public_key.fingerprint}")


@contextmanager
def _signs_of_life(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on, once it has taken a while."""
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
