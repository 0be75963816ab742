"""Company X's answer, without the sum, whether the total of a set of hospitals may be opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message
from open_steps import OpenSteps
from sealed_federation import COMPANY, Federation
from sealed_steps import Steps

from fl_he.crypto.schemes import SCHEMES, Scheme
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import scheme_and_tickets
from fl_he.wire.encrypted_sum import EncryptedReply
from fl_he.wire.permission import PERMIT, PERMIT_SEALED, PermitRequest, SealedPermitRequest
from fl_he.wire.update_layout import UpdateLayout

ALL = ["east", "north", "south", "west"]
NAMES = dict.fromkeys(ALL, 30)
EXPOSES_WEST = "these 3 hospitals would expose west"
NO_TICKETS = "the sum must be of updates made for this sum"


def asked(steps: OpenSteps, round_: int, names: Sequence[str]) -> PermitRequest:
    """Return the question about a sum of these hospitals, which they have updates for."""
    replies = {name: steps.hospital(name, round_) for name in names}
    layout = UpdateLayout.from_json(EncryptedReply.from_content(replies[names[0]].content).layout)
    scheme, tickets = scheme_and_tickets(steps.sum_of(replies))
    return PermitRequest(
        *(steps.session, "train", round_),
        {ticket.hospital: ticket.to_bytes() for ticket in tickets},
        *(len(layout), layout.metric_values, scheme),
    )


def answer(steps: OpenSteps, request: PermitRequest) -> str:
    """Return company X's refusal, empty for none; it notes nothing."""
    return _unnoted(steps.federation, lambda: steps.ask(COMPANY, PERMIT, request.to_content()))


def _unnoted(federation: Federation, ask: Callable[[], Message]) -> str:
    before = files(federation)
    reply = ask()
    assert files(federation) == before
    if reply.has_error():
        return str(reply.error.reason)
    assert not list(reply.content)
    return ""


def files(federation: Federation) -> dict[str, bytes]:
    """Return company X's files."""
    return {path.name: path.read_bytes() for path in federation.folder.glob(f"{COMPANY}.*")}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_answers_by_the_set_rule(tmp_path: Path, scheme: Scheme) -> None:
    steps = OpenSteps(Federation(tmp_path, NAMES, alone=False), scheme)
    assert len(files(steps.federation)) > 2
    steps.round(1, ALL)
    assert answer(steps, asked(steps, 2, ALL)) == ""
    assert EXPOSES_WEST in answer(steps, asked(steps, 2, ALL[:3]))
    assert "at least 3" in answer(steps, asked(steps, 2, ALL[:2]))


def test_it_takes_permissions_from_signed_tickets_alone(tmp_path: Path) -> None:
    steps = OpenSteps(Federation(tmp_path, NAMES))
    steps.round(1, ALL[:3])
    request = asked(steps, 2, ALL)
    assert answer(steps, request) == ""
    west = replace(Ticket.from_bytes(request.tickets["west"]), alone=False)
    changed = [
        replace(request, tickets={**request.tickets, "west": west.to_bytes()}),
        replace(request, tickets={**request.tickets, "west": request.tickets["east"]}),
        replace(request, round=3),
        replace(request, length=request.length + 1),
        replace(request, purpose="evaluate"),
    ]
    assert all(NO_TICKETS in answer(steps, one) for one in changed)
    assert "the session must be one" in answer(steps, replace(request, session="other"))


def test_in_a_sealed_chain_it_answers_by_names(tmp_path: Path) -> None:
    """The coordinator has no tickets there, and says itself who allows being singled out."""
    for alone, expected in ((False, EXPOSES_WEST), (True, "")):
        (folder := tmp_path / str(alone)).mkdir()
        steps = Steps(Federation(folder, NAMES, alone=alone))
        steps.start()
        steps.round(1, ALL)

        def refusal(*names: str, steps: Steps = steps, alone: bool = alone) -> str:
            allow = names if alone else ()
            content = SealedPermitRequest(steps.session, names, allow).to_content()
            return _unnoted(steps.federation, lambda: steps.ask(COMPANY, PERMIT_SEALED, content))

        assert refusal(*ALL) == ""
        assert expected in refusal(*ALL[:3])
        assert bool(expected) == bool(refusal(*ALL[:3]))
        assert "at least 3" in refusal("east", "north", "north")
        assert "hospitals of the manifest, got 'company-x'" in refusal(*ALL[:3], COMPANY)


@pytest.mark.parametrize("action", [PERMIT, PERMIT_SEALED])
def test_hospitals_do_not_answer(tmp_path: Path, action: str) -> None:
    steps = OpenSteps(Federation(tmp_path, NAMES))
    content = SealedPermitRequest(steps.session, tuple(ALL)).to_content()
    reply = steps.ask("east", action, content)
    assert reply.has_error()
    assert "must go to" in str(reply.error.reason)
