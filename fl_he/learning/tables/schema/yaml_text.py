"""YAML from a source that need not be trusted: maps, lists and texts, of bounded size and depth.

The parser's events are put together here. No constructor runs, and a scalar stays the text that it
is: `no` is no truth value, and `1.10` no number.
"""

from __future__ import annotations

from typing import Any

import yaml

from fl_he.learning.errors import DataError
from fl_he.learning.tables.table_file import shown

#: Characters: tens of thousands of columns.
MOST_TEXT = 1 << 20
_DEEPEST = 8
#: libyaml's parser, where PyYAML was built with it, is ten times as fast.
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def parse_yaml(text: str, what: str = "a schema") -> Any:
    """Return the only document of a text, as dicts, lists and texts.

    ``what``: the text's name in errors.

    Raises
    ------
    DataError
        If the text is no YAML, or has an anchor, an alias, a tag, a key twice, a second document,
        or more characters or levels than a schema needs.

    Examples
    --------
    >>> parse_yaml("levels: [no, 1.10]")
    {'levels': ['no', '1.10']}
    """
    if len(text) > MOST_TEXT:
        raise DataError(f"{what} must have at most {MOST_TEXT} characters, got {len(text)}")
    if not all(sign.isprintable() or sign in "\n\r\t" for sign in text):
        raise DataError(f"{what} has control characters: it must be printable text")
    document, refusal = _Document(what), ""
    try:
        for event in yaml.parse(text, Loader=_Loader):
            document.add(event)
    except DataError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" in or before line {place.line + 1}" if place is not None else ""
        refusal = (
            f"{what} is not YAML{where}: brackets, braces and quotes must "
            "be closed, and a text with a colon and a blank, or that begins with a backtick, needs "
            "quotes, such as terms: 'age : sex'"
        )
    if refusal or document.documents != 1:
        raise DataError(refusal or f"{what} must be one document, got {document.documents}")
    return document.root


class _Document:
    """A document in the making: the containers that are open, and the key that waits in each."""

    def __init__(self, what: str) -> None:
        self._what, self.documents = what, 0
        self.root: Any = None
        self._open: list[tuple[Any, str | None]] = []

    def add(self, event: yaml.Event) -> None:
        """Add the parser's next event."""
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None or tag is not None:
            words = f"{self._what} has an anchor, an alias or a tag in line {line}"
            raise DataError(f"{words}: write the value itself")
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
        elif isinstance(event, yaml.ScalarEvent):
            self._value(event.value, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            inside: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._value(inside, line)
            if len(self._open) >= _DEEPEST:
                raise DataError(f"{self._what} has more than {_DEEPEST} levels in line {line}")
            self._open.append((inside, None))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()

    def _value(self, value: Any, line: int) -> None:
        if not self._open:
            self.root = value
            return
        inside, key = self._open[-1]
        if isinstance(inside, list):
            inside.append(value)
        elif key is None:
            if not isinstance(value, str):
                raise DataError(f"a key must be text, not a list or a map, in line {line}")
            if value in inside:
                raise DataError(
                    f"a key must be there once, got {shown(value)} again in line {line}"
                )
            self._open[-1] = (inside, value)
        else:
            inside[key] = value
            self._open[-1] = (inside, None)
