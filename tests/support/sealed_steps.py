"""A coordinator of a sealed chain that takes one step at a time, and lies in any of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flwr.app import Message, MessageType, RecordDict
from sealed_federation import COMPANY, Federation, terms

from fl_he.crypto.schemes import PAILLIER, Scheme
from fl_he.wire.encrypted_sum import DESCRIBE, FINISH, DescribeRequest, Description
from fl_he.wire.sealed_messages import (
    JOIN,
    OPEN,
    RESEAL,
    SESSION,
    Hop,
    JoinReply,
    JoinRequest,
    News,
    OpenReply,
    OpenRequest,
    ResealRequest,
    SealedReply,
    SealedTotal,
    SessionReply,
    SessionRequest,
)


class LiarsHop(Hop):
    """A request whose parts need not fit together, as a coordinator that lies may send it."""

    def __post_init__(self) -> None:
        pass


class Steps:
    """Takes the steps of a sealed chain, honestly except for the named changes."""

    def __init__(self, federation: Federation, scheme: Scheme = PAILLIER) -> None:
        self.federation, self.scheme = federation, scheme
        self.session = ""
        self.statements: dict[str, bytes] = {}
        self.value_keys: dict[str, bytes] = {}
        self.config = terms().to_config()
        self.last: tuple[SealedTotal, ...] = ()
        self.public_key, self.run_key = "", b""

    def ask(self, name: str, action: str, content: RecordDict) -> Message:
        """Send a node one message and return its reply."""
        message = Message(content, self.federation.node_id(name), action)
        (reply,) = self.federation.grid.send_and_receive([message])
        return reply

    def start(self) -> None:
        """Introduce company X and all hospitals to each other."""
        challenges = {name: self.join(name).challenge for name in self.federation.data}
        reply = self.ask(COMPANY, SESSION, SessionRequest("", challenges).to_content())
        stated = SessionReply.from_content(reply.content)
        self.session, self.statements = stated.session, dict(stated.statements)
        self.describe()
        self.value_keys = dict(stated.value_keys)

    def describe(self) -> None:
        """Have company X say its key for the session."""
        reply = self.ask(COMPANY, DESCRIBE, DescribeRequest(self.session).to_content())
        described = Description.from_content(reply.content)
        assert described.run_key is not None
        self.public_key, self.run_key = described.public_key, described.run_key

    def join(self, name: str) -> JoinReply:
        return JoinReply.from_content(
            self.ask(name, JOIN, JoinRequest(self.session).to_content()).content
        )

    def news(self, name: str, totals: Sequence[SealedTotal] = ()) -> RecordDict:
        content = News(self.session, self.statements.get(name), tuple(totals)).to_content()
        content["config"] = self.config
        return content

    def hop(  # noqa: PLR0917 - as many as a hop has
        self,
        name: str,
        round_: int,
        before: Sequence[str],
        next_node: str,
        envelope: bytes | None = None,
        totals: Sequence[SealedTotal] = (),
    ) -> Message:
        """Ask a hospital for its contribution and return its reply."""
        content = self.news(name, totals)
        own = self.value_keys.get(name)
        key = self.public_key, envelope, own, self.run_key, self.scheme
        asked = LiarsHop(round_, tuple(before), next_node, *key)
        content.update(asked.to_content())
        return self.ask(name, MessageType.TRAIN, content)

    def finish(self, name: str, totals: Sequence[SealedTotal] = ()) -> Message:
        """Have a hospital save its model; the operator has moved the one before."""
        self.federation.model(name).unlink(missing_ok=True)
        return self.ask(name, FINISH, self.news(name, totals))

    def reseal(self, name: str, round_: int, next_node: str) -> Message:
        request = ResealRequest(self.session, round_, next_node)
        return self.ask(name, RESEAL, request.to_content())

    def open(self, round_: int, contributors: Sequence[str], envelope: bytes) -> Message:
        request = OpenRequest(self.session, round_, tuple(contributors), envelope)
        content = request.add_to(News(self.session, totals=self.last).to_content())
        content["config"] = self.config
        reply = self.ask(COMPANY, OPEN, content)
        if reply.has_content():
            own = OpenReply.from_content(reply.content).totals[COMPANY]
            self.last = (SealedTotal(round_, tuple(contributors), own),)
        return reply

    def chain(self, round_: int, names: Sequence[str]) -> bytes:
        """Send the running sum through these hospitals and return the envelope for company X."""
        envelope = None
        for place, name in enumerate(names):
            next_node = [*names, COMPANY][place + 1]
            envelope = sealed(self.hop(name, round_, names[:place], next_node, envelope))
        assert envelope is not None
        return envelope

    def round(self, round_: int, names: Sequence[str]) -> dict[str, SealedTotal]:
        """Take all steps of a round and return the total as it is sealed to each node."""
        reply = self.open(round_, names, self.chain(round_, names))
        return {
            name: SealedTotal(round_, tuple(names), total)
            for name, total in OpenReply.from_content(reply.content).totals.items()
        }

    def opened_rounds(self) -> list[int]:
        """Return the rounds that company X has opened, from its own disk."""
        ledger = self.federation.folder / f"{COMPANY}.json.opened.jsonl"
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        return [line["round"] for line in lines if "round" in line]


def sealed(reply: Message) -> bytes:
    """Return the envelope in a hospital's reply."""
    assert not reply.has_error(), reply.error.reason
    return SealedReply.from_content(reply.content).envelope


def reason(reply: Message) -> str:
    """Return why a node refused."""
    assert reply.has_error(), "it must refuse, and it did not"
    return str(reply.error.reason)
