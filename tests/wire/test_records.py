"""Messages as dataclasses: the place of each field, and optional fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Key
from fl_he.wire.records import (
    SPARSE,
    Message,
    ProtocolError,
    Seconds,
    blob,
    blobs,
    floats,
    read_value,
    texts,
)


@dataclass(frozen=True, slots=True)
class Example(Message):
    a_name: str
    seconds: Annotated[Seconds, Key("s")] = 0.0
    rare: Annotated[tuple[float, ...], SPARSE] = ()
    one: Annotated[bytes, blob("one", "x", "type", "d")] | None = field(default=None, repr=False)
    many: Annotated[dict[str, bytes], blobs("many", "type", "d")] = field(default_factory=dict)
    words: Annotated[dict[str, str], texts("words")] = field(default_factory=dict)
    numbers: Annotated[NDArray[np.float64], floats("f", "x", "floats"), SPARSE] = field(
        default_factory=lambda: np.empty(0)
    )
    HOME: ClassVar[str] = "home"


def test_fields_stand_in_their_records() -> None:
    content = Example("a").to_content()
    assert dict(content["home"]) == {"a-name": "a", "s": 0.0}
    assert sorted(content) == ["home", "many", "words"], "what is sparse and empty is left out"
    full = Example("a", 1.5, (0.5,), b"", {"y": b"2"}, {"z": "3"}, np.array([4.0]))
    content = full.to_content()
    assert sorted(content) == ["f", "home", "many", "one", "words"]
    again = Example.from_content(content)
    assert (again.one, again.many, again.words) == (b"", {"y": b"2"}, {"z": "3"})
    assert (again.seconds, again.rare, again.numbers.tolist()) == (1.5, (0.5,), [4.0])


def test_other_records_are_kept_and_ours_removed_again() -> None:
    app = RecordDict({"config": ConfigRecord({"lr": 0.1})})
    both = Example("a").add_to(app)
    assert list(app) == ["config"]
    assert Example.remove_from(both) == app


@pytest.mark.parametrize("record", ["home", "many", "words"])
def test_a_record_that_is_not_sparse_must_be_there(record: str) -> None:
    content = Example("a").to_content()
    del content[record]
    with pytest.raises(ProtocolError, match=f"message has no (config|array) record '{record}'"):
        Example.from_content(content)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("a-name", 1, "a-name must be text, got an integer"),
        ("s", 1, "s must be a decimal number, got an integer"),
        ("s", -0.5, "s must be a time in seconds, got -0.5"),
        ("rare", [1, 2], r"rare\[0\] must be a decimal number, got an integer"),
        ("rare", 0.5, "rare must be a list, got a decimal number"),
    ],
)
def test_values_are_exact(key: str, value: str, words: str) -> None:
    content = Example("a").to_content()
    content.config_records["home"][key] = value
    with pytest.raises(ProtocolError, match=words):
        Example.from_content(content)
    del content.config_records["home"]["a-name"]
    with pytest.raises(ProtocolError, match="a-name must be text, got nothing"):
        Example.from_content(content)
    with pytest.raises(ProtocolError, match="k must be true or false, got nothing"):
        read_value(ConfigRecord(), "k", bool)
