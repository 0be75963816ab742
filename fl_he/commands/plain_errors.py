"""What fl-he refuses or warns of, as one line each instead of a traceback."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a refusal on standard error and end the command with exit code 1."""
    from fl_he.crypto.errors import CryptoError  # noqa: PLC0415 - see the package
    from fl_he.learning.errors import DataError  # noqa: PLC0415

    refused: str | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except (CryptoError, DataError) as error:
            refused = str(error)
        except OSError as error:
            refused = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    for warning in {str(entry.message): None for entry in caught}:
        typer.echo(f"fl-he: {warning}", err=True)
    if refused is not None:
        typer.echo(f"fl-he: {refused}", err=True)
        raise typer.Exit(1)
