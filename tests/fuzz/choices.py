"""Fuzzed bytes as choices: changes that make something valid hostile.

A parser that compares a checksum first sees nothing of random bytes. So most inputs here are
programs: which members of a valid document to drop, to rename, to give another value. Bytes that
run out choose 0, so the empty input changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Values that have broken parsers before, of any JSON type and some that JSON has not.
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 255, 256, 65537),
    *(2**31, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "-1", "1e999", "nan", "null", "A", "AA", "AA==", "a" * 64, "0" * 64),
    *("\0", "\ud800", "é", "\u202e", "<script>", "../../etc/passwd", "${x}", "a" * 5000),
    *("9" * 5000, "٣", "1_0", " 1 ", "[" * 500),
    *([], {}, [[]], [None], [0], [1.5], ["a"], {"a": 1}, [[1, 2], [3]], [[[[[[]]]]]]),
)


_LONGEST = 5000


class Choices:
    """Reads choices from bytes, one after another."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """The number of bytes that are not read yet."""
        return len(self._data) - self._at

    def below(self, limit: int) -> int:
        """Return a number in ``[0, limit)``; 0 when nothing is left."""
        width = 1 if limit <= 256 else 4
        return int.from_bytes(self.take(width), "little") % max(limit, 1)

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.left)

    def integer(self) -> int:
        """Return a signed number of up to 16 bytes."""
        return int.from_bytes(self.take(self.below(17)), "big", signed=True)

    def text(self) -> str:
        """Return any text of up to 32 characters."""
        return self.take(self.below(33)).decode("utf-8", "surrogateescape")

    def value(self) -> Any:  # noqa: PLR0911 - one for each kind
        """Return a scalar or container of any type."""
        kind = self.below(8)
        if kind == 0:
            return HOSTILE[self.below(len(HOSTILE))]
        if kind == 1:
            return self.integer()
        if kind == 2:
            return self.text()
        if kind == 3:
            return float(self.integer()) * 2.0 ** (self.below(256) - 128)
        if kind == 4:
            return [HOSTILE[self.below(len(HOSTILE))]] * self.below(64)
        if kind == 5:
            return {self.text(): HOSTILE[self.below(len(HOSTILE))]}
        if kind == 6:
            return nested(self.below(3000))
        return HOSTILE[self.below(len(HOSTILE))]


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def edited(document: Any, choices: Choices) -> Any:
    """Return a document with as many changes as there are bytes for, at most eight."""
    for _ in range(8):
        if choices.left <= 0:
            break
        document = _edit(document, choices)
    return document


def _edit(node: Any, choices: Choices) -> Any:  # noqa: PLR0911 - one for each change
    """Change one place of a document, mostly deep in it."""
    if isinstance(node, dict) and node and choices.below(8):
        key = list(node)[choices.below(len(node))]
        action = choices.below(8)
        if action == 0:
            return {k: v for k, v in node.items() if k != key}
        if action == 1:
            return {**node, choices.text(): choices.value()}
        if action == 2:
            return {(choices.text() if k == key else k): v for k, v in node.items()}
        return {**node, key: _edit(node[key], choices)}
    if isinstance(node, list) and node and choices.below(8):
        at, action = choices.below(len(node)), choices.below(8)
        if action == 0:
            return node[:at] + node[at + 1 :]
        if action == 1:
            return [*node[:at], choices.value(), *node[at:]]
        if action == 2 and not any(isinstance(item, list | dict) for item in node):
            return (node + node * choices.below(64))[:_LONGEST]
        return [*node[:at], _edit(node[at], choices), *node[at + 1 :]]
    if isinstance(node, str) and node and choices.below(2):
        return _edit_text(node, choices)
    if isinstance(node, int) and choices.below(2):
        return node + choices.integer()
    return choices.value()


def _edit_text(text: str, choices: Choices) -> str:
    at, action = choices.below(len(text)), choices.below(4)
    changes: tuple[Callable[[], str], ...] = (
        lambda: text[:at] + choices.text() + text[at + 1 :],
        lambda: text[:at],
        lambda: text[:at] + text[at + 1 :],
        lambda: (text * (1 + choices.below(64)))[:_LONGEST],
    )
    return changes[action]()
