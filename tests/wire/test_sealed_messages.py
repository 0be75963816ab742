"""Messages of a sealed chain: they are read as written, and nothing else is accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from spoiled_messages import check_refused

from fl_he.wire.sealed_messages import (
    Hop,
    JoinReply,
    JoinRequest,
    News,
    OpenNews,
    OpenReply,
    OpenRequest,
    ResealRequest,
    SealedReply,
    SealedTotal,
    SessionReply,
    SessionRequest,
    without_chain,
)

TOTALS = (SealedTotal(2, ("a", "b"), b"two"), SealedTotal(10, ("c",), b"ten"))
STARTS = [
    JoinRequest("s"),
    OpenNews("s"),
    OpenNews("s", (b"one", b"two")),
    JoinReply("north", "ab", "0f", "", 0, 3),
    SessionRequest("", {}),
    SessionRequest("s", {"north": "1", "south": "2"}),
    SessionReply("company-x", "s", "ab", 3, {"north": b"n", "south": b"s"}),
    SessionReply("company-x", "s", "ab", 0, {}),
    News("s"),
    News("s", b"statement", TOTALS),
]
MESSAGES = [
    Hop(1, (), "north", "{}"),
    Hop(2, ("a", "b"), "north", "{}", b"envelope"),
    SealedReply(b"envelope", 568),
    ResealRequest("s", 1, "north"),
    OpenRequest("s", 1, ("a", "b"), b"envelope"),
    OpenReply({"north": b"n"}),
]


@pytest.mark.parametrize("message", STARTS + MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(message: Any) -> None:
    assert type(message).from_content(message.to_content()) == message


def test_reprs_show_no_envelope() -> None:
    shown = repr(STARTS + MESSAGES)
    for word in ("envelope'", "statement'", "b'two'", "b'n'"):
        assert word not in shown


def test_the_records_of_a_chain_leave_the_apps_alone() -> None:
    content = News("s", b"statement", (SealedTotal(2, ("a", "b"), b"two"),)).to_content()
    content.update(Hop(2, ("a",), "north", "{}", b"envelope").to_content())
    assert News.is_in(content)
    content["config"] = ConfigRecord({"lr": 0.5})
    assert list(without_chain(content)) == ["config"]
    assert not News.is_in(without_chain(content))


def test_requests_that_differ_have_different_digests() -> None:
    hops = [
        Hop(1, ("a",), "north", "{}", b"1"),
        Hop(2, ("a",), "north", "{}", b"1"),
        Hop(1, ("b",), "north", "{}", b"1"),
        Hop(1, ("a",), "south", "{}", b"1"),
        Hop(1, ("a",), "north", "{ }", b"1"),
        Hop(1, ("a",), "north", "{}", b"2"),
    ]
    assert len({hop.digest for hop in hops}) == len(hops)


def array(stype: str = "fl-he.envelope", names: tuple[str, ...] = ("envelope",)) -> ArrayRecord:
    data = Array(dtype="envelope", shape=(1,), stype=stype, data=b"1")
    return ArrayRecord(dict.fromkeys(names, data))


@pytest.mark.parametrize(
    ("kind", "message", "spoil", "words"),
    [
        (
            Hop,
            MESSAGES[1],
            lambda r: r.update({"envelope": array(names=("envelope", "more"))}),
            "must hold one array",
        ),
        (Hop, MESSAGES[1], lambda r: r["fl-he"].update(round=0), "round must be at least 1"),
        (Hop, MESSAGES[1], lambda r: r["fl-he"].update(contributors=[]), "with its contributors"),
        (Hop, MESSAGES[1], lambda r: r.pop("envelope"), "with its contributors"),
        (Hop, MESSAGES[1], lambda r: r.update({"envelope": array("x")}), "must be of type"),
        (SealedReply, MESSAGES[2], lambda r: r.update({"x": ConfigRecord()}), "one envelope and"),
        (
            SealedReply,
            MESSAGES[2],
            lambda r: r["fl-he"].update({"update-bytes": 0}),
            "update-bytes must be at least 1",
        ),
        (
            ResealRequest,
            MESSAGES[3],
            lambda r: r["fl-he"].update(round=True),
            "round must be an integer",
        ),
        (
            OpenRequest,
            MESSAGES[4],
            lambda r: r["fl-he"].update(contributors=[]),
            "must name at least one node",
        ),
        (OpenReply, MESSAGES[5], lambda r: r.pop("fl-he.envelopes"), "has no array record"),
        (
            JoinReply,
            STARTS[3],
            lambda r: r["fl-he"].update(after=-1),
            "after must be at least 0",
        ),
        (JoinReply, STARTS[3], lambda r: r["fl-he"].update(name=1), "name must be text"),
        (JoinReply, STARTS[3], lambda r: r.pop("fl-he"), "has no config record"),
        (
            SessionRequest,
            STARTS[5],
            lambda r: r["fl-he"].update(names=["north"]),
            "one challenge for each name",
        ),
        (
            SessionRequest,
            STARTS[5],
            lambda r: r["fl-he"].update(names=["north", "north"]),
            "one challenge for each name",
        ),
        (
            SessionRequest,
            STARTS[5],
            lambda r: r["fl-he"].update(names=[1, 2]),
            r"names\[0\] must be text",
        ),
        (
            SessionReply,
            STARTS[6],
            lambda r: r.pop("fl-he.envelopes"),
            "has no array record",
        ),
        (
            News,
            STARTS[9],
            lambda r: r["fl-he.chain"].update(rounds=[2]),
            "each total must have",
        ),
        (
            News,
            STARTS[9],
            lambda r: r["fl-he.chain"].update(rounds=["2", "3"]),
            r"rounds\[0\] must be an integer",
        ),
        (
            News,
            STARTS[9],
            lambda r: r["fl-he.chain"].pop("rounds"),
            "rounds must be a list, got nothing",
        ),
        (
            News,
            STARTS[9],
            lambda r: r.update({"fl-he.totals": array()}),
            "each total must have",
        ),
        (
            News,
            STARTS[9],
            lambda r: r.update({"fl-he.totals": array(names=("0", "2"))}),
            "each total must have",
        ),
        (
            News,
            STARTS[9],
            lambda r: r.update({"statement": array()}),
            "must hold one array",
        ),
    ],
)
def test_a_spoiled_message_is_refused(
    kind: Any, message: Any, spoil: Callable[[RecordDict], object], words: str
) -> None:
    check_refused(kind, message.to_content(), spoil, words)
