"""Refusals and warnings of fl-he, as one line each instead of a traceback."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fl_he.errors import FlHeError, FlHeWarning, visible

#: What each of several nodes in this process would say again.
_told = set[str]()
_format_other_warning = warnings.formatwarning


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a refusal on standard error and end the command with exit code 1."""
    refused: str | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read the output has had enough
        except (FlHeError, OSError) as error:
            refused = _words(error) or str(error)
    for warning in {str(entry.message): None for entry in caught}:
        tell(warning)
    if refused is not None:
        tell(refused)
        raise typer.Exit(1)


def explain(error: Exception) -> bool:
    """Print a refusal of fl-he, or of the disk, as one line, and tell whether it is one."""
    words = _words(error)
    if words is not None:
        tell(words)
    return words is not None


def tell(words: str) -> None:
    """Print a line of fl-he on standard error, without characters that a terminal obeys.

    Words may hold names from other nodes and files.
    """
    typer.echo(f"fl-he: {visible(words)}", err=True)


def _words(error: Exception) -> str | None:
    """Return a refusal with its notes; None for a mistake in the program, or a closed pipe."""
    words = str(error)
    if isinstance(error, OSError):
        if error.strerror is None or isinstance(error, BrokenPipeError):
            return None
        words = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, FlHeError):
        return None
    return "; ".join([words, *getattr(error, "__notes__", ())])


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Print fl-he's warnings as one line too, each text once, without a place in its source."""
    if issubclass(category, FlHeWarning):
        told = f"fl-he: warning: {visible(str(message))}\n"
        if told in _told:
            return ""
        _told.add(told)
        return told
    return _format_other_warning(message, category, filename, lineno, line)
