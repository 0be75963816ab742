"""What the settings mean: the docstrings of the schema, for the help and the documentation."""

from __future__ import annotations

from collections.abc import Iterator

import docstring_parser


def descriptions(schema: type) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the meaning of each entry of a dataclass's section Attributes.

    Parameters
    ----------
    schema : type
        A dataclass of the schema.

    Yields
    ------
    tuple of list of str, and str
        Names that share an entry, and its text on one line, with the docstring's markup.
    """
    for entry in docstring_parser.parse(schema.__doc__ or "").params:
        text = " ".join((entry.description or "").split())
        yield entry.arg_name.split(", "), text.replace("None", "``null``")
