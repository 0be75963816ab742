"""Company X's answer, without the sum, whether it would open the total of a set of hospitals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.user_config import UserConfig
from open_steps import OpenSteps
from sealed_federation import COMPANY, Federation
from sealed_steps import Steps

from fl_he.crypto.schemes import SCHEMES, Scheme
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import scheme_and_tickets
from fl_he.wire.encrypted_sum import END, EncryptedReply, EndRequest
from fl_he.wire.permission import PERMIT, PERMIT_SEALED, PermitRequest, SealedPermitRequest
from fl_he.wire.sealed_messages import News, SealedTotal
from fl_he.wire.update_layout import UpdateLayout

ALL = ["east", "north", "south", "west"]
SIX = [*ALL, "centre", "coast"]
NAMES, MORE = dict.fromkeys(ALL, 30), dict.fromkeys(SIX, 30)
EXPOSES_WEST = "these 3 hospitals would expose west"
NO_TICKETS = "the sum must be of updates made for this sum"
ONCE = "a round is opened once, in order: train 1 is open already"
LIMIT = "company X opens at most 1 totals of one purpose in a session (max-rounds in its node"
OTHER_MODEL = "a sum must be over the model after train 1, the last that was opened, not over"


def asked(steps: OpenSteps, round_: int, names: Sequence[str], **news: Any) -> PermitRequest:
    """Return the question about a sum of these hospitals, which they have updates for."""
    replies = [
        EncryptedReply.from_content(one.content)
        for one in (steps.hospital(name, round_, **news) for name in names)
    ]
    layout = UpdateLayout.from_json(replies[0].layout)
    tickets = [ticket for one in replies for ticket in scheme_and_tickets(one.encrypted_sum)[1]]
    return PermitRequest(
        *(steps.session, "train", round_),
        {ticket.hospital: ticket.to_bytes() for ticket in tickets},
        *(len(layout), layout.metric_values, steps.scheme),
    )


def answer(steps: OpenSteps, request: PermitRequest, **news: Any) -> str:
    """Return company X's refusal, empty for none."""
    told = {"totals": steps.totals[-1:], **news}
    return words(steps.ask(COMPANY, PERMIT, request.add_to(steps.news(**told))))


def refusal(steps: OpenSteps, request: PermitRequest, **news: Any) -> str:
    """Return company X's refusal of a sum; only withdrawals may be noted."""
    before = files(steps.federation)
    found = answer(steps, request, **news)
    assert found
    assert files(steps.federation) == before
    return found


def sealed_answer(
    steps: Steps,
    round_: int,
    names: Sequence[str],
    alone: Sequence[str] = (),
    totals: Sequence[SealedTotal] | None = None,
) -> str:
    """Return company X's refusal in a sealed chain, empty for none."""
    content = News(
        steps.session, totals=tuple(steps.last if totals is None else totals)
    ).to_content()
    content["config"] = steps.config
    request = SealedPermitRequest(steps.session, round_, tuple(names), tuple(alone))
    return words(steps.ask(COMPANY, PERMIT_SEALED, request.add_to(content)))


def words(reply: Message) -> str:
    if reply.has_error():
        return str(reply.error.reason)
    assert not list(reply.content)
    return ""


def files(federation: Federation) -> dict[str, list[bytes]]:
    """Return the lines of company X's files, but for those that withdraw a permission."""
    lines = {
        path.name: path.read_bytes().splitlines() for path in federation.folder.glob(f"{COMPANY}.*")
    }
    return {
        name: [line for line in found if not line.startswith(b'{"not_alone":')]
        for name, found in lines.items()
    }


def settings(federation: Federation) -> UserConfig:
    """Return company X's node configuration, to be changed."""
    return federation.grid.contexts[federation.node_id(COMPANY)].node_config


def opened_sets(federation: Federation) -> list[str]:
    text = (federation.folder / f"{COMPANY}.json.sets.jsonl").read_text()
    return [line for line in text.splitlines() if line.startswith('{"opened":')]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_answers_by_the_set_rule(tmp_path: Path, scheme: Scheme) -> None:
    steps = OpenSteps(Federation(tmp_path, NAMES, alone=False), scheme)
    assert len(files(steps.federation)) > 2
    steps.round(1, ALL)
    before = files(steps.federation)
    assert answer(steps, asked(steps, 2, ALL)) == ""
    assert files(steps.federation) == before, "the set was noted with the first total"
    assert EXPOSES_WEST in refusal(steps, asked(steps, 2, ALL[:3]))
    assert "at least 3" in refusal(steps, asked(steps, 2, ALL[:2]))


@pytest.mark.parametrize("other", [ALL, [*ALL[:2], "centre"]])
def test_a_permitted_set_counts_as_opened(tmp_path: Path, other: list[str]) -> None:
    """Two runs that both ask: the second is refused before its sum is sent."""
    federation = Federation(tmp_path, MORE, alone=False)
    one, two = OpenSteps(federation), OpenSteps(federation.another_run())
    request, later = asked(one, 1, ALL[:3]), asked(two, 1, other)
    assert answer(one, request) == answer(one, request) == "", "the answer may have been lost"
    assert "would expose" in refusal(two, later)
    assert answer(two, asked(two, 1, SIX)) == ""
    assert answer(one, asked(one, 1, ALL[:3])) == "", "a new sum of the same hospitals"
    two.ask(COMPANY, END, EndRequest(two.session).to_content())
    one.round(1, ALL[:3])


def test_it_takes_permissions_from_signed_tickets_alone(tmp_path: Path) -> None:
    steps = OpenSteps(Federation(tmp_path, NAMES))
    steps.round(1, ALL[:3])
    request = asked(steps, 2, ALL)
    west = replace(Ticket.from_bytes(request.tickets["west"]), alone=False)
    changed = [
        replace(request, tickets={**request.tickets, "west": west.to_bytes()}),
        replace(request, tickets={**request.tickets, "west": request.tickets["east"]}),
        replace(request, round=3),
    ]
    assert all(NO_TICKETS in refusal(steps, one) for one in changed)
    longer = replace(request, length=request.length + 1)
    assert "the sum must hold the" in refusal(steps, longer)
    assert "a sum for 'prepare' cannot come" in refusal(steps, replace(request, purpose="prepare"))
    assert "the message names two sessions" in refusal(steps, replace(request, session="other"))
    assert answer(steps, request) == ""


def test_it_refuses_by_order_model_limits_and_scheme(tmp_path: Path) -> None:
    """All that opening refuses by and that can be known without the sum."""
    steps = OpenSteps(Federation(tmp_path, MORE, alone=False))
    again = asked(steps, 1, SIX)
    steps.round(1, SIX)
    request = asked(steps, 2, ALL[:3])
    assert ONCE in refusal(steps, again, totals=[])
    assert OTHER_MODEL in refusal(steps, replace(again, round=2), totals=[])
    company = settings(steps.federation)
    company["scheme"] = "masks"
    assert "the scheme of a sum must be one of ['masks']" in refusal(steps, request)
    del company["scheme"]
    company["max-rounds"] = 1
    assert LIMIT in refusal(steps, request)
    del company["max-rounds"]
    assert answer(steps, request) == ""
    assert len(opened_sets(steps.federation)) == 2
    steps.ask(COMPANY, END, EndRequest(steps.session).to_content())
    assert "the key of this session was deleted" in refusal(steps, request)


def test_in_a_sealed_chain_too(tmp_path: Path) -> None:
    steps = Steps(Federation(tmp_path, MORE, alone=False))
    steps.start()
    steps.round(1, SIX)
    before = files(steps.federation)
    assert ONCE in sealed_answer(steps, 1, SIX, totals=[])
    assert OTHER_MODEL in sealed_answer(steps, 2, SIX, totals=[])
    assert "the last total alone, got 2" in sealed_answer(steps, 2, SIX, totals=steps.last * 2)
    company = settings(steps.federation)
    company["max-rounds"] = 1
    assert LIMIT in sealed_answer(steps, 2, ALL[:3])
    del company["max-rounds"]
    assert files(steps.federation) == before


def test_a_sum_that_was_sent_and_is_refused_leaves_its_set(tmp_path: Path) -> None:
    """A coordinator that does not ask first."""
    steps = OpenSteps(Federation(tmp_path, MORE, alone=False))
    steps.round(1, SIX)
    settings(steps.federation)["max-rounds"] = 1
    assert LIMIT in str(steps.open(2, 3, steps.summed(2, ALL[:3])).error.reason)
    del settings(steps.federation)["max-rounds"]
    other = steps.open(2, 3, steps.summed(2, [*ALL[:2], "centre"]))
    assert "these 3 hospitals would expose centre, coast, east, " in str(other.error.reason)


def test_in_a_sealed_chain_it_answers_by_names(tmp_path: Path) -> None:
    """Without tickets the coordinator itself names the hospitals that allow being singled out."""
    for alone, expected in ((False, EXPOSES_WEST), (True, "")):
        (folder := tmp_path / str(alone)).mkdir()
        steps = Steps(Federation(folder, NAMES, alone=alone))
        steps.start()
        steps.round(1, ALL)
        allow = ALL if alone else ()
        assert sealed_answer(steps, 2, ALL, allow) == ""
        assert "at least 3" in sealed_answer(steps, 2, ("east", "north", "north"), allow)
        refused = sealed_answer(steps, 2, [*ALL[:3], COMPANY], allow)
        assert "hospitals of the manifest, got 'company-x'" in refused
        assert len(opened_sets(steps.federation)) == 1
        answer = sealed_answer(steps, 2, ALL[:3], allow)
        assert expected in answer
        assert bool(expected) == bool(answer)
        assert len(opened_sets(steps.federation)) == (1 if expected else 2)


def test_names_note_a_set_and_nobodys_permission(tmp_path: Path) -> None:
    federation = Federation(tmp_path, MORE, alone=False)
    one = Steps(federation)
    one.start()
    assert sealed_answer(one, 1, ALL[:3]) == ""
    assert len(opened_sets(federation)) == 1
    assert "would expose" in sealed_answer(one, 1, ALL)
    noted = files(federation)
    # A set that rests on permissions nobody has signed is judged, and not noted.
    assert sealed_answer(one, 1, ALL, ["west"]) == ""
    assert files(federation) == noted
    assert sealed_answer(one, 1, SIX) == ""
    one.round(1, SIX)
    assert opened_sets(federation)[-1].endswith('"alone":[],"least":3}')


@pytest.mark.parametrize("action", [PERMIT, PERMIT_SEALED])
def test_hospitals_do_not_answer(tmp_path: Path, action: str) -> None:
    steps = OpenSteps(Federation(tmp_path, NAMES))
    request = SealedPermitRequest(steps.session, 1, tuple(ALL))
    kinds = {PERMIT: asked(steps, 1, ALL), PERMIT_SEALED: request}
    reply = steps.ask("east", action, kinds[action].add_to(steps.news()))
    assert "and this node is " in str(reply.error.reason)
