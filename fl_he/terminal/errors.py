"""Refusals and warnings of fl-he, as one line each instead of a traceback."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fl_he.errors import FlHeError, FlHeWarning

_format_other_warning = warnings.formatwarning


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a refusal on standard error and end the command with exit code 1."""
    refused: str | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except FlHeError as error:
            refused = str(error)
        except OSError as error:
            refused = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    for warning in {str(entry.message): None for entry in caught}:
        typer.echo(f"fl-he: {warning}", err=True)
    if refused is not None:
        typer.echo(f"fl-he: {refused}", err=True)
        raise typer.Exit(1)


def explain(error: Exception) -> bool:
    """Print a refusal of fl-he as one line, and tell whether it is one."""
    ours = isinstance(error, FlHeError)
    if ours:
        typer.echo(f"fl-he: {error}", err=True)
    return ours


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Print fl-he's warnings as one line too, without a place in its source."""
    if issubclass(category, FlHeWarning):
        return f"fl-he: warning: {message}\n"
    return _format_other_warning(message, category, filename, lineno, line)
