"""A coordinator in the open that takes one step at a time, and lies in any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from sealed_federation import COMPANY, Federation, terms
from ticketed_sums import added

from fl_he.crypto.schemes import PAILLIER, Scheme
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    FINISH,
    DecryptReply,
    DecryptRequest,
    Description,
    EncryptedReply,
    EncryptionRequest,
)
from fl_he.wire.sealed_messages import OpenNews


class OpenSteps:
    """Takes the steps of a fold, honestly except for the named changes.

    Parameters
    ----------
    federation : Federation
    scheme : Scheme

    Attributes
    ----------
    totals : list of bytes
        As company X has told them.
    """

    def __init__(self, federation: Federation, scheme: Scheme = PAILLIER) -> None:
        self.federation, self.scheme = federation, scheme
        self.config = terms().to_config()
        self.totals: list[bytes] = []
        description = Description.from_content(self.ask(COMPANY, DESCRIBE, RecordDict()).content)
        self.session, self.public_key = description.session, description.public_key
        self.value_keys, self.run_key = description.value_keys, description.run_key

    def ask(self, name: str, action: str, content: RecordDict) -> Message:
        """Send a node one message and return its reply."""
        message = Message(content, self.federation.node_id(name), action)
        (reply,) = self.federation.grid.send_and_receive([message])
        return reply

    def news(
        self, totals: Sequence[bytes] | None = None, config: ConfigRecord | None = None
    ) -> RecordDict:
        """Return the session, totals, by default all, and the train config."""
        told = self.totals if totals is None else totals
        content = OpenNews(self.session, tuple(told)).to_content()
        content["config"] = self.config if config is None else config
        return content

    def request(
        self, round_: int, session: str | None = None, name: str | None = None
    ) -> EncryptionRequest:
        asked = self.session if session is None else session
        packing = self.federation.packing.to_json()
        request = EncryptionRequest(self.public_key, packing, asked, round_)
        own = self.value_keys.get(name or "")
        return replace(request, value_key=own, run_key=self.run_key, scheme=self.scheme)

    def hospital(
        self, name: str, round_: int, action: str = MessageType.TRAIN, **news: Any
    ) -> Message:
        """Ask a hospital for its update and return its reply."""
        return self.ask(name, action, self.request(round_, name=name).add_to(self.news(**news)))

    def finish(self, name: str, **news: Any) -> Message:
        """Have a hospital save its model; the operator has moved the one before."""
        self.federation.model(name).unlink(missing_ok=True)
        return self.ask(name, FINISH, self.news(**news))

    def sum_of(self, replies: Mapping[str, Message]) -> bytes:
        """Return the sum of updates."""
        for reply in replies.values():
            assert not reply.has_error(), reply.error.reason
        answers = [EncryptedReply.from_content(reply.content) for reply in replies.values()]
        return added([one.encrypted_sum for one in answers], self.federation.key.public_key)

    def open(
        self, round_: int, contributors: int, summed: bytes, *, purpose: Any = "train", **news: Any
    ) -> Message:
        """Have company X open a sum over the model after the last total."""
        told = {"totals": self.totals[-1:], **news}
        request = DecryptRequest(self.session, purpose, round_, contributors, summed)
        return self.ask(COMPANY, DECRYPT, request.add_to(self.news(**told)))

    def summed(self, round_: int, names: Sequence[str]) -> bytes:
        return self.sum_of({name: self.hospital(name, round_) for name in names})

    def round(self, round_: int, names: Sequence[str]) -> bytes:
        """Take all steps of a round and return the total as company X tells it."""
        reply = self.open(round_, len(names), self.summed(round_, names))
        assert not reply.has_error(), reply.error.reason
        signed = DecryptReply.from_content(reply.content).signed
        assert signed is not None
        self.totals.append(signed)
        return signed
