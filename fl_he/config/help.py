"""Text of the configuration's help: keys, their meaning and range, choices of groups.

The docstrings of the schema, the constraints of its fields and the comments of ``fl_he/conf``
say it; ``fl-he run --help`` and docs/configuration.md show it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import docstring_parser

from fl_he.config.constraints import constraints
from fl_he.config.run import Config, groups

CONF = Path(__file__).resolve().parents[1] / "conf"
#: Columns of the help, and of the names in it.
_WIDTH, _KEY_WIDTH = 100, 28


def keys_help() -> str:
    """Return all keys and their meaning, those without a group first."""
    lines = []
    schemas: dict[str, type] = {"": Config, **groups()}
    for group, schema in schemas.items():
        for names, text in descriptions(schema):
            if group or names[0] not in schemas:
                keys = ", ".join(f"{group}.{name}" if group else name for name in names)
                lines += _entry(keys, text.replace("`", ""))
        for choice, text in choices(group).items() if group else ():
            lines += _entry(f"{group}={choice}", text)
    return "\n".join(lines)


def descriptions(schema: type) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the meaning of each entry of a dataclass's section Attributes.

    Parameters
    ----------
    schema : type
        A dataclass of the schema.

    Yields
    ------
    tuple of list of str, and str
        Names that share an entry, and its text and range on one line, with the docstring's markup.
    """
    for entry in docstring_parser.parse(schema.__doc__ or "").params:
        names = entry.arg_name.split(", ")
        text = " ".join((entry.description or "").split()).replace("None", "``null``")
        yield names, " ".join([text, *_ranges(schema, names)])


def choices(group: str) -> dict[str, str]:
    """Return the choices of a group and the comment at the head of each one's file."""
    found = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        text = file.read_text(encoding="utf-8").removeprefix("# @package _global_\n")
        head = takewhile(lambda line: line.startswith("# "), text.splitlines())
        found[file.stem] = " ".join(line.removeprefix("# ") for line in head)
    return found


def _ranges(schema: type, names: list[str]) -> Iterator[str]:
    """Yield a sentence for each range among settings that are described together."""
    declared = constraints(schema)
    words = {name: declared[name].words for name in names if name in declared}
    for one in dict.fromkeys(words.values()):
        of = [name for name in names if words.get(name) == one]
        subject = "Must" if of == names else f"{' and '.join(of)} must"
        yield f"{subject} be {one.replace('null', '``null``')}."


def _entry(keys: str, meaning: str) -> list[str]:
    """Write a key and its meaning in two columns; a long key has a separate line."""
    words = textwrap.wrap(meaning, _WIDTH - _KEY_WIDTH)
    if len(keys) > _KEY_WIDTH - 4:
        words = ["", *words]
    first, *rest = [f"{'':{_KEY_WIDTH}}{line}" for line in words or [""]]
    return [f"  {keys:<{_KEY_WIDTH - 2}}{first.strip()}".rstrip(), *rest]
