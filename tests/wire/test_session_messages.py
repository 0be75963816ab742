"""How a sealed chain meets: what is written is read back, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from spoiled_messages import check_refused

from fl_he.wire.session_messages import JoinReply, News, SealedTotal, SessionReply, SessionRequest

TOTALS = (SealedTotal(2, ("a", "b"), b"two"), SealedTotal(10, ("c",), b"ten"))
MESSAGES = [
    JoinReply("north", "ab", "0f", "", 0),
    SessionRequest("", {}),
    SessionRequest("s", {"north": "1", "south": "2"}),
    SessionReply("company-x", "s", "ab", 3, {"north": b"n", "south": b"s"}),
    SessionReply("company-x", "s", "ab", 0, {}),
    News("s"),
    News("s", b"statement", TOTALS),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(message: Any) -> None:
    assert type(message).from_content(message.to_content()) == message


def test_reprs_show_no_envelope() -> None:
    shown = repr(MESSAGES)
    for word in ("statement'", "b'two'", "b'n'"):
        assert word not in shown


def array(stype: str = "fl-he.envelope", names: tuple[str, ...] = ("envelope",)) -> ArrayRecord:
    data = Array(dtype="envelope", shape=(1,), stype=stype, data=b"1")
    return ArrayRecord(dict.fromkeys(names, data))


@pytest.mark.parametrize(
    ("kind", "message", "spoil", "words"),
    [
        (JoinReply, MESSAGES[0], lambda r: r["fl-he"].update(after=-1), "after must be at least 0"),
        (JoinReply, MESSAGES[0], lambda r: r["fl-he"].update(name=1), "name must be text"),
        (JoinReply, MESSAGES[0], lambda r: r.pop("fl-he"), "has no config record"),
        (
            SessionRequest,
            MESSAGES[2],
            lambda r: r["fl-he"].update(names=["north"]),
            "one challenge for each name",
        ),
        (
            SessionRequest,
            MESSAGES[2],
            lambda r: r["fl-he"].update(names=["north", "north"]),
            "one challenge for each name",
        ),
        (
            SessionRequest,
            MESSAGES[2],
            lambda r: r["fl-he"].update(names=[1, 2]),
            r"names\[0\] must be text",
        ),
        (SessionReply, MESSAGES[3], lambda r: r.pop("fl-he.envelopes"), "has no array record"),
        (News, MESSAGES[6], lambda r: r["fl-he.chain"].update(rounds=[2]), "each total must have"),
        (
            News,
            MESSAGES[6],
            lambda r: r["fl-he.chain"].update(rounds=["2", "3"]),
            r"rounds\[0\] must be an integer",
        ),
        (
            News,
            MESSAGES[6],
            lambda r: r["fl-he.chain"].pop("rounds"),
            "rounds must be a list, got nothing",
        ),
        (
            News,
            MESSAGES[6],
            lambda r: r.update({"fl-he.totals": array()}),
            "each total must have",
        ),
        (
            News,
            MESSAGES[6],
            lambda r: r.update({"fl-he.totals": array(names=("0", "2"))}),
            "each total must have",
        ),
        (News, MESSAGES[6], lambda r: r.update({"statement": array()}), "must hold one array"),
    ],
)
def test_a_spoiled_message_is_refused(
    kind: Any, message: Any, spoil: Callable[[RecordDict], object], words: str
) -> None:
    check_refused(kind, message.to_content(), spoil, words)
