"""What ``fl-he run --help`` says of the keys: the docstrings of the schema in two columns."""

from __future__ import annotations

import textwrap
from dataclasses import is_dataclass
from typing import get_type_hints

from fl_he.config_schema import Config

#: Columns of the help, and of the names in it.
_HELP_WIDTH, _KEY_WIDTH = 100, 28


def keys_help() -> str:
    """Return all keys and what they mean, those without a group first."""
    # Only the help needs it, and the parser that it takes.
    from fl_he.config_schema.descriptions import descriptions  # noqa: PLC0415

    groups: dict[str, type] = {
        name: kind
        for name, kind in get_type_hints(Config).items()
        if isinstance(kind, type) and is_dataclass(kind)
    }
    lines = []
    schemas: dict[str, type] = {"": Config, **groups}
    for group, schema in schemas.items():
        for names, text in descriptions(schema):
            if group or names[0] not in groups:
                keys = ", ".join(f"{group}.{name}" if group else name for name in names)
                lines += _entry(keys, text.replace("`", ""))
    return "\n".join(lines)


def _entry(keys: str, meaning: str) -> list[str]:
    """Write a key and its meaning in two columns; a long key has a line of its own."""
    words = textwrap.wrap(meaning, _HELP_WIDTH - _KEY_WIDTH)
    if len(keys) > _KEY_WIDTH - 4:
        words = ["", *words]
    first, *rest = [f"{'':{_KEY_WIDTH}}{line}" for line in words]
    return [f"  {keys:<{_KEY_WIDTH - 2}}{first.strip()}".rstrip(), *rest]
