"""The value key on its way to hospitals, and tickets that a node of the manifest has signed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from identities import COMPANY, EAST, NORTH, SOUTH, make

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.value_keys import seal_value_key, unseal_value_key
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.records import ProtocolError

KEY, OTHER = "0" * 64, "1" * 64
VALUE_KEY = bytes(range(32))
NODES = tuple(node.public for node in (NORTH, SOUTH, EAST, COMPANY))


def enrolment(identity: Identity) -> Enrolment:
    return Enrolment(Manifest(NODES), identity)


def test_each_hospital_opens_its_own() -> None:
    sealed = seal_value_key(VALUE_KEY, KEY, enrolment(COMPANY))
    assert sorted(sealed) == ["east", "north", "south"]
    for hospital in (NORTH, SOUTH, EAST):
        envelope = sealed[hospital.public.name]
        assert unseal_value_key(envelope, KEY, enrolment(hospital)) == VALUE_KEY
    with pytest.raises(CryptoError, match="must be for north"):
        unseal_value_key(sealed["south"], KEY, enrolment(NORTH))


def test_of_another_public_key() -> None:
    """A coordinator has kept the envelopes of all earlier keys."""
    sealed = seal_value_key(VALUE_KEY, OTHER, enrolment(COMPANY))
    with pytest.raises(CryptoError):
        unseal_value_key(sealed["north"], KEY, enrolment(NORTH))


def test_of_nobody() -> None:
    with pytest.raises(ProtocolError, match="must be given company X's value key"):
        unseal_value_key(None, KEY, enrolment(NORTH))


def test_of_another_node() -> None:
    sealed = seal_value_key(VALUE_KEY, KEY, enrolment(SOUTH))
    with pytest.raises(CryptoError):
        unseal_value_key(sealed["north"], KEY, enrolment(NORTH))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_of_another_length(length: int) -> None:
    sealed = seal_value_key(bytes(length), KEY, enrolment(COMPANY))
    with pytest.raises(ProtocolError, match=f"must have 32 bytes, got {length}"):
        unseal_value_key(sealed["north"], KEY, enrolment(NORTH))


def test_tickets_are_of_hospitals_of_the_manifest() -> None:
    own = enrolment(COMPANY)
    ticket = Ticket("north", bytes(32), b"", NORTH.sign(b"a statement"))
    assert own.verifies(ticket, b"a statement")
    assert not own.verifies(ticket, b"another")
    assert not own.verifies(replace(ticket, hospital="south"), b"a statement")
    for stranger in (make("west"), COMPANY):
        signature = stranger.sign(b"a statement")
        named = Ticket(stranger.public.name, bytes(32), b"", signature)
        assert not own.verifies(named, b"a statement")
        assert not own.verifies(replace(named, signature=b""), b"a statement")
