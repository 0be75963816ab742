"""The digest of all that an app sees of a message: no two messages have the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict

from fl_he.wire.occasions import asked_digest, purpose_of
from fl_he.wire.update_layout import ArraySlot, UpdateLayout

VALUES = np.array([1.0, 2.0])
LAYOUT = UpdateLayout((ArraySlot("a", "x", "float64", (2,)),), "m", (), "num-examples", 24)


def content(
    array: Array | None = None, name: str = "x", record: str = "a", **config: object
) -> RecordDict:
    arrays = ArrayRecord({name: Array(VALUES) if array is None else array})
    given = ConfigRecord({"n": 1, **config})  # type: ignore[dict-item]
    return RecordDict({record: arrays, "c": given, "m": MetricRecord({"k": 1.0})})


def form_of(dtype: str = "float64", shape: tuple[int, ...] = (2,), stype: str = "s") -> Array:
    return Array(dtype, shape, stype, b"0" * 16)


def moved() -> RecordDict:
    return RecordDict({"c": ConfigRecord({"k": 1.0}), "m": ConfigRecord({"n": 1})})


SEEN: dict[str, Callable[[], bytes]] = {
    "as it is": lambda: digest(content()),
    "action": lambda: digest(content(), action="train.other"),
    "run config": lambda: digest(content(), lr=0.5),
    "run config's type": lambda: digest(content(), lr="0.5"),
    "array's name": lambda: digest(content(name="y")),
    "record's name": lambda: digest(content(record="b")),
    "array's values": lambda: digest(content(Array(VALUES + 1e-16 + [0.0, 1e-15]))),
    "array": lambda: digest(content(form_of())),
    "array's type": lambda: digest(content(form_of(dtype="int64"))),
    "array's shape": lambda: digest(content(form_of(shape=(1, 2)))),
    "array's form": lambda: digest(content(form_of(stype="t"))),
    "value": lambda: digest(content(n=2)),
    "truth value": lambda: digest(content(n=True)),
    "float": lambda: digest(content(n=1.0)),
    "text": lambda: digest(content(n="1")),
    "bytes": lambda: digest(content(n=b"1")),
    "list": lambda: digest(content(n=[1])),
    "one value more": lambda: digest(content(more=1)),
    "record more": lambda: digest(RecordDict({**content(), "d": ConfigRecord()})),
    "metrics": lambda: digest(RecordDict({**content(), "m": MetricRecord({"k": 2.0})})),
    "record of another kind": lambda: digest(moved()),
    "records exchanged": lambda: digest(
        RecordDict({"c": MetricRecord({"k": 1.0}), "m": ConfigRecord({"n": 1})})
    ),
    "layout": lambda: asked_digest(
        "train", content(), {}, UpdateLayout((), "m", (), "num-examples", 24)
    ),
}


def digest(seen: RecordDict, action: str = MessageType.TRAIN, **run_config: object) -> bytes:
    return asked_digest(action, seen, run_config, LAYOUT)


def test_whatever_an_app_sees_changes_the_digest() -> None:
    digests = {name: make() for name, make in SEEN.items()}
    for name, one in digests.items():
        assert [other for other, found in digests.items() if found == one] == [name]
        assert SEEN[name]() == one


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_settings_is_none(order: int) -> None:
    items = [("a", 1), ("b", 2)][::order]
    seen = RecordDict({key: ConfigRecord(dict(items)) for key in ("c", "d")[::order]})
    expected = RecordDict({key: ConfigRecord({"a": 1, "b": 2}) for key in ("c", "d")})
    found = asked_digest(MessageType.TRAIN, seen, dict(items), LAYOUT)
    assert found == digest(expected, a=1, b=2)


def test_an_action_of_an_apps_own_has_a_purpose() -> None:
    assert purpose_of("train.other") == "prepare"
    assert purpose_of("evaluate") == "evaluate"
