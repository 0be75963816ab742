"""JSON documents under fuzzing: raw text, or a valid one with changes and a correct checksum."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from fuzz.choices import Choices, edited

from fl_he.crypto.encoding.canonical import encode_fields

_RAW = 0xFF
#: Small programs from which fuzzing starts, in addition to the valid documents.
_PROGRAMS = (b"", b"\1\1\1\1\1\1\1\1", bytes(range(1, 40)), bytes(range(40, 1, -1)))


def text_of(
    data: bytes, documents: Sequence[Any], repair: Callable[[Any], Any] = lambda document: document
) -> str:
    """Return the text that an input encodes.

    The first byte chooses a valid document, and the others say how it is changed. The value 255
    means that the others are the text itself.
    """
    choices = Choices(data)
    first = choices.below(256)
    if first == _RAW:
        return choices.rest().decode("utf-8", "replace")
    document = edited(documents[first % len(documents)], choices)
    with suppress(Exception):  # an invalid checksum field stays as it is
        document = repair(document)
    try:
        return json.dumps(document, separators=(",", ":"))
    except (RecursionError, ValueError):  # a number of thousands of digits
        return "[" * 5000


def seeds(documents: Sequence[Any]) -> list[bytes]:
    """Return inputs for `text_of`: each document unchanged, changed, and as raw text."""
    programs = [bytes([n]) + program for n in range(len(documents)) for program in _PROGRAMS]
    return [*programs, *(bytes([_RAW]) + json.dumps(one).encode() for one in documents)]


def repair_paillier(document: Any) -> Any:
    """Give a Paillier key the fingerprint of the numbers that it has now."""
    label = b"fl-he short Paillier" if document.get("key_kind") == "short" else b"fl-he Paillier"
    return {**document, "kid": _fingerprint(label + b" public key 1\0", document, "n", "h_s")}


def repair_dgk(document: Any) -> Any:
    """Give a DGK key the fingerprint of the numbers that it has now."""
    label = b"fl-he DGK public key 1\0"
    return {**document, "kid": _fingerprint(label, document, "n", "g", "h", "u")}


def repair_private(document: Any) -> Any:
    """Give both halves of a Paillier private key their fingerprint."""
    public = repair_paillier(document["pub"])
    return {**document, "pub": public, "kid": public["kid"]}


def repair_private_dgk(document: Any) -> Any:
    """Give both halves of a DGK private key their fingerprint."""
    public = repair_dgk(document["pub"])
    return {**document, "pub": json.dumps(public), "kid": public["kid"]}


def repair_identity(document: Any) -> Any:
    """Give a public identity the fingerprint of its entry."""
    keys = (_bytes(document[name]) for name in ("signing", "sealing"))
    names = (document[name].encode() for name in ("format", "name", "role"))
    return {**document, "fingerprint": hashlib.sha256(encode_fields(*names, *keys)).hexdigest()}


def repair_manifest(document: Any) -> Any:
    """Give all nodes of a manifest their fingerprints."""
    return {**document, "nodes": [repair_identity(node) for node in document["nodes"]]}


def _fingerprint(label: bytes, document: Any, *names: str) -> str:
    digest = hashlib.sha256(label)
    for data in _stripped(_bytes(document[name]) for name in names):
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


def _stripped(numbers: Iterable[bytes]) -> Iterable[bytes]:
    return (number.lstrip(b"\0") for number in numbers)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
