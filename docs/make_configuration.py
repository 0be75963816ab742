"""Print docs/configuration.md: every key of the schema, and every choice of its groups.

    python docs/make_configuration.py > docs/configuration.md

``make docs`` runs it, and tests/docs/test_site.py compares the page with its output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import docstring_parser
import yaml

from fl_he.config.help import CONF, choices, descriptions
from fl_he.config.run import Config, groups

#: Keys that only a choice sets.
#: Settings whose null is not a default: a file chooses it.
CHOSEN_NULL = {"C"}
UNINTERESTING = {"data.name", "data.source", "partition.scheme", "optimizer.name", "privacy.name"}

HEAD = """\
# Configuration

<!-- Made by docs/make_configuration.py from fl_he/config and fl_he/conf: edit those. -->

A run is configured by `KEY=VALUE` on the command line, as in `fl-he run hospitals=5`. Keys with a
dot belong to a group, and a group's choice is one word: `optimizer=newton`. Unknown keys and values
of the wrong type or out of range are refused by name. `fl-he run --help` prints the keys,
`fl-he run --cfg job` prints the configuration of a command line, and every run's `metrics.json`
holds its whole configuration.

In `flwr run` the common settings are keys of Flower's run configuration, `num-server-rounds` (here
`rounds`), `hospitals` and `topology`. All other settings are in `overrides`:
`--run-config "hospitals=5 num-server-rounds=20 overrides='optimizer=gd C=null'"`. A setting that is
given both ways must have the same value.

`null` is no value. On deployed nodes some keys are the nodes' own:
[Deploy a federation](deployment.md#7-coordinator-run). `privacy` is explained on
[a page of its own](privacy.md), and so is [`capc`](capc.md).
"""


def main() -> None:
    """Print the page."""
    print(page(), end="")


def page() -> str:
    """Return the page."""
    parts = [HEAD, "## One run", _table("", Config)]
    for name, kind in groups().items():
        summary = docstring_parser.parse(kind.__doc__ or "").short_description
        parts += [f"## `{name}`", str(summary), _table(f"{name}.", kind)]
        if choices(name):
            parts.append(_choices(name))
    parts += [
        "## `experiment`",
        "Several settings at once. Other settings on the command line override them.",
        _choices("experiment"),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(prefix: str, kind: type) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    values = kind()
    for names, description in _attributes(kind):
        shown = [getattr(values, name) for name in names]
        if any(is_dataclass(value) for value in shown):
            continue
        keys = ", ".join(f"`{prefix}{name}`" for name in names)
        defaults = ", ".join(dict.fromkeys(_text(value) for value in shown))
        rows.append(f"| {keys} | {defaults} | {description} |")
    return "\n".join(rows)


def _attributes(kind: type) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the description of each entry of a docstring's section Attributes."""
    described = set()
    for names, text in descriptions(kind):
        described |= set(names)
        yield names, text.replace("``", "`")
    missing = {field.name for field in fields(kind)} - described
    if missing:
        raise SystemExit(f"the docstring of {kind.__name__} must describe {sorted(missing)}")


def _text(value: Any) -> str:
    """Return a default as it would be written on the command line."""
    if isinstance(value, list):
        return f"`[{','.join(str(one) for one in value)}]`"
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    return f"`{value.value}`" if isinstance(value, Enum) else f"`{value}`"


def _choices(group: str) -> str:
    """Return the choices of a group: the comment at the head of each file, and its settings."""
    rows = ["| choice | | sets |", "|---|---|---|"]
    for name, comment in choices(group).items():
        text = (CONF / group / f"{name}.yaml").read_text()
        prefix = "" if text.startswith("# @package _global_") else f"{group}."
        values = yaml.safe_load(text)
        settings = " ".join(f"`{setting}`" for setting in _settings(prefix, values))
        rows.append(f"| `{group}={name}` | {comment} | {settings} |")
    return "\n".join(rows)


def _settings(prefix: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield the settings of a file, in the form of the command line."""
    for key, value in values.items():
        if key == "defaults":
            for override in value:
                ((choice, name),) = override.items()
                yield f"{choice.removeprefix('override /')}={name}"
        elif key == "hydra":
            yield from (f"-m {name}={swept}" for name, swept in value["sweeper"]["params"].items())
        elif isinstance(value, dict):
            yield from _settings(f"{prefix}{key}.", value)
        elif value is None and key not in CHOSEN_NULL:
            continue
        elif f"{prefix}{key}" not in UNINTERESTING and not _is_open(value):
            yield f"{prefix}{key}={_text(value).strip('`')}"


def _is_open(value: object) -> bool:
    """Return whether a simulation chooses a value unless somebody gives it."""
    return str(value).startswith("${fl_he.unless_chosen")


if __name__ == "__main__":
    main()
