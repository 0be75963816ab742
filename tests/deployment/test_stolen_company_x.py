"""Company X's identity and whole disk, stolen after a run, with every message of the run.

The same thief, with the same code, opens everything while the run is in progress.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from deployed_federation import DeployedFederation
from flwr.app import Message, RecordDict
from sealed_federation import COMPANY

from fl_he import server_app
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.value_keys import unseal_value_key
from fl_he.clients.totals.payload import RunningSum, unseal_sum
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import value_key_of
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import DESCRIBE, Description, EncryptedReply
from fl_he.wire.events import Event, RoundEnded
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OPEN, OpenRequest
from fl_he.wire.update_layout import UpdateLayout

HOSPITALS = {"north": 40, "south": 25, "east": 60}
ROUNDS = 2
SETTINGS = ("scaling=none", "C=null", "optimizer=gd", "optimizer.lr=0.5", f"rounds={ROUNDS}")
SEALED = ("topology=chain", "sealed=true")
ALL = {"ciphertext", "ticket", "value key"}
_Secret = TypeVar("_Secret", PrivateKey, Identity)


class Thief:
    """Has company X's files and identity, and all messages; tries each key on each secret."""

    def __init__(self, federation: DeployedFederation) -> None:
        self.federation = federation
        files = [path for path in federation.folder.iterdir() if COMPANY in path.name]
        assert federation.folder / f"{COMPANY}.json" in files
        self.keys = list(_loaded(PrivateKey, files))
        self.identities = list(_loaded(Identity, files))
        assert [one.public.name for one in self.identities] == [COMPANY]

    def opened(self) -> set[str]:
        """Return the kinds of secrets that open."""
        found: set[str] = set()
        company_x = self.description()
        updates = [*self.updates(), *self.sums_in_envelopes()]
        assert len(updates) >= ROUNDS
        for key in self.keys:
            if key.public_key.to_json() != company_x.public_key:
                continue
            found.add("value key")
            assert len(value_key_of(key)) == 32
            for data, layout in updates:
                summed = TicketedSum.from_bytes(data, key.public_key)
                key.decrypt_tagged(summed.vector)
                found.add("ciphertext")
                if self.opens_tickets(key, summed, layout, company_x.session):
                    found.add("ticket")
        for envelope in company_x.value_keys.values():
            for identity in self.identities:
                enrolment = Enrolment(self.federation.manifest, identity)
                try:
                    unseal_value_key(envelope, "0" * 64, enrolment)
                except (CryptoError, ProtocolError):
                    continue
                found.add("value key")
        return found

    def opens_tickets(
        self, key: PrivateKey, summed: TicketedSum, layout: UpdateLayout, session: str
    ) -> bool:
        """Try the occasions of all rounds."""
        vector, opened = summed.vector, 0
        for ticket in summed.tickets:
            for number in range(1, ROUNDS + 1):
                occasion = Occasion(
                    *(key.public_key.fingerprint, session, "train", number, ticket.asked),
                    *(vector.packing, len(vector), layout.metric_values),
                )
                try:
                    key.open_sealed(ticket.sealed, occasion.to_bytes(ticket.hospital))
                except CryptoError:
                    continue
                opened += 1
        return opened == len(summed.tickets)

    def description(self) -> Description:
        """Return company X's description of itself."""
        told = [Description.from_content(one) for one in self.contents(DESCRIBE)]
        return next(one for one in told if one.public_key)

    def updates(self) -> Iterator[tuple[bytes, UpdateLayout]]:
        """Yield hospitals' replies in the open, each hospital's alone."""
        for content in self.contents("train"):
            if "fl-he.sum" in content:
                reply = EncryptedReply.from_content(content)
                yield reply.encrypted_sum, UpdateLayout.from_json(reply.layout)

    def sums_in_envelopes(self) -> Iterator[tuple[bytes, UpdateLayout]]:
        """Yield a sealed chain's sums: the identity opens their envelopes to company X."""
        for message in self.federation.grid.sent:
            if message.metadata.message_type == OPEN:
                summed = self.running_sum(message)
                yield summed.vector, UpdateLayout.from_json(summed.layout)

    def running_sum(self, message: Message) -> RunningSum:
        request, (identity,) = OpenRequest.from_content(message.content), self.identities
        enrolment = Enrolment(self.federation.manifest, identity)
        session = request.session
        return unseal_sum(request.envelope, session, request.round, request.contributors, enrolment)

    def contents(self, action: str) -> Iterator[RecordDict]:
        for reply in self.federation.grid.received:
            if reply.metadata.message_type == action and reply.has_content():
                yield reply.content


def _loaded(kind: type[_Secret], files: list[Path]) -> Iterator[_Secret]:
    for path in files:
        try:
            yield kind.load(path)
        except (CryptoError, OSError):
            continue


def config(*overrides: str) -> Config:
    return compose("config", [*SETTINGS, *overrides])


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "open"])
def test_after_a_run_nothing_opens(tmp_path: Path, sealed: bool) -> None:
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed=sealed)
    during: list[set[str]] = []

    def look(event: Event) -> None:
        if isinstance(event, RoundEnded) and event.entry["round"] == ROUNDS:
            during.append(Thief(federation).opened())

    settings = config(*(SEALED if sealed else ()))
    server_app.train(federation.grid, settings, tmp_path / "run", look)
    assert during == [ALL]
    thief = Thief(federation)
    assert thief.keys == []
    assert thief.opened() == set()


def test_a_run_that_stops_resumably_keeps_its_key(tmp_path: Path) -> None:
    federation = DeployedFederation(tmp_path, HOSPITALS, sealed=False)

    def stop(event: Event) -> None:
        if isinstance(event, RoundEnded):
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        server_app.train(federation.grid, config(), folder, stop)
    (key,) = Thief(federation).keys
    for context in federation.grid.contexts.values():
        context.run_id += 1
    metrics = server_app.train(federation.grid, replace(config(), resume=str(folder)), folder)
    assert metrics["crypto"]["key_fingerprint"] == key.public_key.fingerprint
    assert len(metrics["rounds"]) == ROUNDS
    assert Thief(federation).keys == []
