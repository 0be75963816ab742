"""Roots of all refusals and warnings of fl-he, and how values and texts are shown in them."""

from __future__ import annotations

import json

_KINDS = {
    bool: "true or false",
    int: "an integer",
    float: "a decimal number",
    str: "text",
    bytes: "bytes",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


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


def written(value: object) -> str:
    """Return a setting's value as users write it; a text in quotes.

    Examples
    --------
    >>> written([None, True]), written(0.5), written("fold")
    ('[null, true]', '0.5', "'fold'")
    """
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(of)}' for key, of in value.items())}}}"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def kind_in_words(value: object) -> str:
    """Return of which type a value is, in words for readers who do not know Python.

    Examples
    --------
    >>> kind_in_words(True), kind_in_words({}), kind_in_words(None)
    ('true or false', 'an object', 'null')
    """
    return _KINDS.get(type(value), type(value).__name__)


def visible(text: str) -> str:
    r"""Return a text without characters that a terminal obeys, except for line breaks.

    Examples
    --------
    >>> visible("age\x1b[2J")
    'age [2J'
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
