"""Words of a command line that errors show: a setting as shells and Hydra read it, and near names.

Hydra reads an unquoted text as a number, a truth value or null where it can, splits lists at
commas, and knows no brackets, quotes, equals signs or umlauts in it.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress

#: A text, or lists of texts.
Texts = str | Sequence["Texts"]

#: What Hydra reads as the text that it is, unless it is one of these words.
_PLAIN = re.compile(r"[A-Za-z_][\w.]*( [\w.]+)*", re.ASCII)
_WORDS = ("true", "false", "null", "nan", "inf")
_QUOTES = "\"'"
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def override(key: str, value: Texts) -> str:
    """Return the word of a shell's command line that gives a key a text, or lists of texts.

    Examples
    --------
    >>> print(override("data.drop", ["id", "CRP (mg/l)"]))
    'data.drop=[id,"CRP (mg/l)"]'
    """
    return shlex.quote(f"{key}={_written(value)}")


def texts(value: str, depth: int) -> Texts:
    """Return the text, or the lists of texts, that somebody may have meant with a value.

    Parameters
    ----------
    value : str
        As it was written, perhaps such that Hydra cannot read it.
    depth : int
        Lists within which the texts stand.

    Examples
    --------
    >>> texts("[id,'a,b',CRP (mg,l)]", 1)
    ['id', 'a,b', 'CRP (mg,l)']
    """
    value = value.strip()
    if depth:
        inside = value[1:-1] if value[:1] == "[" and value[-1:] == "]" else value
        return [texts(part, depth - 1) for part in _parts(inside)]
    if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return value


def is_cut_off(value: str, depth: int) -> bool:
    """Return whether a quote or a bracket around a text, or around lists of texts, has no partner.

    Examples
    --------
    >>> is_cut_off("[id,'CRP (mg/l)]", 1), is_cut_off("[id,CRP (mg/l)]'", 1)
    (True, True)
    """
    value = value.strip()
    if value[:1] in _QUOTES and value:
        return len(value) == 1 or value[0] != value[-1]
    if not depth:
        return False
    if (value[:1] == "[") != (value[-1:] == "]"):
        return True
    inside = value[1:-1] if value[:1] == "[" else value
    return any(is_cut_off(part, depth - 1) for part in _parts(inside))


def did_you_mean(key: str, given: Texts, known: Sequence[str]) -> str:
    r"""Return the setting with the names that were meant, as the end of an error; "" if unknown.

    Names may differ in case, may have been read as numbers, or divided at their commas.

    Examples
    --------
    >>> did_you_mean("data.drop", ["ID", "5"], ["id", "5.0", "age"])
    '; did you mean \'data.drop=[id,"5.0"]\'?'
    """
    meant = _meant(given, known)
    return "" if meant is None else f"; did you mean {override(key, meant)}?"


def _written(value: Texts) -> str:
    if not isinstance(value, str):
        return f"[{','.join(map(_written, value))}]"
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # Backslashes count only before a quote, as the closing one is.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    ending = escaped[len(escaped.rstrip("\\")) :]
    return f'"{escaped}{ending}"'


def _parts(text: str) -> Iterator[str]:
    """Yield what commas divide that stand neither between quotes nor between brackets."""
    start, open_, quote = 0, list[str](), ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote and text[place - 1] != "\\" else quote
        elif sign in _QUOTES and not text[start:place].strip() and text.find(sign, place + 1) > 0:
            quote = sign
        elif sign in _CLOSING and text.find(_CLOSING[sign], place) > 0:
            open_.append(_CLOSING[sign])
        elif open_ and sign == open_[-1]:
            open_.pop()
        elif sign == "," and not open_:
            yield text[start:place]
            start = place + 1
    if text[start:].strip():
        yield text[start:]


def _meant(given: Texts, known: Sequence[str]) -> Texts | None:
    if isinstance(given, str):
        found = _alike(given, known)
        return found[0] if found else None
    if not all(isinstance(name, str) for name in given):
        lists = [_meant(part, known) for part in given]
        return None if None in lists else [part for part in lists if part is not None]
    names, meant = [str(name) for name in given], list[str]()
    while names:
        joined = (
            (count, mark.join(names[:count]))
            for count in range(len(names), 0, -1)
            for mark in (",", ", ")
        )
        count, name = next((pair for pair in joined if pair[1].strip() in known), (1, ""))
        found = [name.strip()] if name else _alike(names[0], known)
        if not found:
            return None
        meant.append(found[0])
        del names[:count]
    return meant


def _alike(name: str, known: Sequence[str]) -> list[str]:
    """Return the only name that spells the same in another case or as a number, or a near one."""
    number = _number(name)
    same = [
        other
        for other in known
        if other.casefold() == name.strip().casefold()
        or (number is not None and _number(other) == number)
    ]
    return same if len(same) == 1 else difflib.get_close_matches(name, known, n=1, cutoff=0.75)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None
