"""Participants of CaPC, found from the nodes' descriptions of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from local_grid import LocalGrid

from fl_he.capc.coordinator.roster import CapcRoster
from fl_he.capc.messages import CapcReply
from fl_he.capc.protocol import CapcStep
from fl_he.crypto.errors import CryptoError
from fl_he.wire.records import ProtocolError

HOLDER = CapcReply(name="company-x", role="key-holder", answers=False)
ANNE, JOHN, LUKE = (CapcReply(name=name, role="hospital") for name in ("anne", "john", "luke"))


def called(replies: Sequence[CapcReply], parties: int = 3) -> CapcRoster:
    """Call the roll of nodes that say this of themselves."""
    app = ClientApp()

    @app.query(CapcStep.DESCRIBE.partition(".")[2])
    def describe(message: Message, context: Context) -> Message:
        return Message(replies[context.node_id - 1000].to_content(), reply_to=message)

    grid = LocalGrid(app, [{"role": reply.role} for reply in replies])
    return CapcRoster(grid, parties, timeout=5.0, node_timeout=0.0)


def test_parties_are_known_by_their_names_and_all_but_one_answer() -> None:
    silent = CapcReply(name="luke\x1b[8m", role="hospital", answers=False)
    roster = called([ANNE, HOLDER, JOHN, silent])
    names = {1000: "anne", 1001: "the privacy guardian", 1002: "john", 1003: "luke [8m"}
    assert roster.names == names
    assert roster.parties == {"anne": ANNE, "john": JOHN, "luke [8m": silent}
    assert roster.answering("anne") == ("john",)
    assert roster.agreement is None


@pytest.mark.parametrize(
    "replies",
    [
        [ANNE, JOHN, LUKE, ANNE],
        [ANNE, JOHN, HOLDER, HOLDER],
        [ANNE, JOHN, JOHN, HOLDER],
        [ANNE, JOHN, LUKE, ANNE, HOLDER],
        [ANNE, JOHN, CapcReply(name="luke", role="coordinator"), HOLDER],
    ],
    ids=["no guardian", "two", "one name twice", "too many", "a role that is none"],
)
def test_other_nodes_than_expected_are_refused(replies: Sequence[CapcReply]) -> None:
    with pytest.raises(ProtocolError, match="3 parties of different names and a guardian, got"):
        called(replies)


def test_too_few_nodes_are_waited_for_and_then_refused() -> None:
    with pytest.raises(ProtocolError, match="3 parties and a guardian, got 3 nodes"):
        called([ANNE, JOHN, HOLDER])


@pytest.mark.parametrize("texts", [("{}", "", "{}", "{}"), ("{}", "{ }", "{}", "{}")])
def test_nodes_that_have_agreed_on_different_things_are_told(texts: Sequence[str]) -> None:
    replies = [
        replace(reply, agreement=text)
        for reply, text in zip((ANNE, JOHN, LUKE, HOLDER), texts, strict=True)
    ]
    with pytest.raises(ProtocolError, match="the same agreement, got 2 different ones"):
        called(replies)


def test_an_agreement_that_is_none_is_refused() -> None:
    replies = [replace(reply, agreement="{}") for reply in (ANNE, JOHN, LUKE, HOLDER)]
    with pytest.raises(CryptoError, match="a CaPC agreement must have exactly the members"):
        called(replies)
