"""Roots of all refusals and warnings of fl-he, and how texts of others are shown in them."""

from __future__ import annotations


class FlHeError(ValueError):
    """Root of all refusals: the message says the fact, then the fix, and shows public values only.

    A command prints such an error as one line; any other exception is a mistake in the program and
    keeps its traceback. A refusal is a ``ValueError`` too, so code that catches those catches it.

    Examples
    --------
    >>> from fl_he.crypto.errors import CryptoError
    >>> issubclass(CryptoError, FlHeError)
    True
    """


class FlHeWarning(UserWarning):
    """Root of all warnings: a command prints them as one line, without a place in the source."""


def visible(text: str) -> str:
    r"""Return a text without characters that a terminal obeys, except for line breaks.

    Examples
    --------
    >>> visible("age\x1b[2J")
    'age [2J'
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
