"""The passphrase of a new key file: none, from a file, or typed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Encrypt the private file with the passphrase in the first line of FILE (mode 0600).",
    ),
]
AskPassphrase = Annotated[
    bool, typer.Option("--ask-passphrase", help="The same, with a passphrase that you type.")
]


def new_passphrase(file: Path | None, ask: bool) -> str | None:
    """Return the passphrase to encrypt with, ``None`` for none.

    Raises
    ------
    KeyFileError, OSError
        If the file is refused or cannot be read.
    """
    from fl_he.crypto.key_files.protected_file import read_passphrase_file  # noqa: PLC0415 - see the package

    if file is not None and ask:
        raise typer.BadParameter("one of --passphrase-file and --ask-passphrase must be given")
    if ask:
        return str(typer.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True))
    return None if file is None else read_passphrase_file(file)
