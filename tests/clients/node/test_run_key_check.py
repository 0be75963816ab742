"""A coordinator that hands hospitals another key than company X has signed for the session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message
from identities import make
from open_steps import OpenSteps
from sealed_federation import COMPANY, Federation
from sealed_steps import Steps, reason, sealed
from session_keys import key_files

from fl_he.clients.node import run_key_check
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.wire.encrypted_sum import DESCRIBE, END, DescribeRequest, Description, EndRequest
from fl_he.wire.run_key import RunKey
from fl_he.wire.sealed_messages import SESSION, SessionRequest

HOSPITALS = {"north": 40, "south": 25, "east": 60}
NORTH, SOUTH, EAST = HOSPITALS


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path, HOSPITALS)


@pytest.fixture
def steps(federation: Federation) -> OpenSteps:
    return OpenSteps(federation)


def signed(steps: OpenSteps) -> RunKey:
    assert steps.run_key is not None
    return RunKey.from_bytes(steps.run_key)


def refusal(steps: OpenSteps, key: RunKey | None) -> str:
    """Return why a hospital refuses a statement; with its own it must answer."""
    own = steps.run_key
    steps.run_key = None if key is None else key.to_bytes()
    answer = reason(steps.hospital(NORTH, 1))
    steps.run_key = own
    assert steps.hospital(NORTH, 1).has_content()
    return answer


def test_a_message_without_a_statement(steps: OpenSteps) -> None:
    assert "must be given company X's signed statement of its key" in refusal(steps, None)


def test_a_key_of_the_coordinators(steps: OpenSteps) -> None:
    own, right = PrivateKey.generate(1024).public_key, steps.public_key
    steps.public_key = own.to_json()
    assert reason(steps.hospital(NORTH, 1)) == (
        "the public key must be the one that company-x signed, "
        f"{signed(steps).fingerprint}, got {own.fingerprint}"
    )
    words = "the key of the run is not as company-x signed it"
    forged = replace(signed(steps), fingerprint=own.fingerprint)
    steps.run_key = forged.to_bytes()
    assert reason(steps.hospital(NORTH, 1)) == words
    for stranger in (make(COMPANY, "key-holder", 1), steps.federation.identities[SOUTH]):
        own_words = replace(forged, signature=stranger.sign(forged.statement))
        steps.run_key = own_words.to_bytes()
        assert reason(steps.hospital(NORTH, 1)) == words
    steps.public_key = right


def test_an_altered_expiry_counter_or_session(steps: OpenSteps) -> None:
    key = signed(steps)
    for forged in (
        replace(key, expires=key.expires + 1),
        replace(key, counter=key.counter + 1),
        replace(key, head=b"\x01" * 32),
        replace(key, session="0" * 32),
        replace(key, signature=b""),
    ):
        assert "is not as company-x signed it" in refusal(steps, forged)


def test_a_key_of_another_session(steps: OpenSteps) -> None:
    """A coordinator has kept the keys of all earlier runs, and their statements."""
    for context in steps.federation.grid.contexts.values():
        context.run_id += 1
    new = OpenSteps(steps.federation)
    assert new.session != steps.session
    assert new.public_key != steps.public_key
    words = "the key of the run is not of the message's session"
    assert refusal(new, signed(steps)) == words
    new.public_key, new.run_key = steps.public_key, steps.run_key
    assert reason(new.hospital(NORTH, 1)) == words


def test_a_key_whose_days_are_over(steps: OpenSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    expires = signed(steps).expires
    monkeypatch.setattr(run_key_check, "time", lambda: expires - 0.5)
    assert steps.hospital(NORTH, 1).has_content()
    monkeypatch.setattr(run_key_check, "time", lambda: float(expires))
    assert "must not be over, and this one is (key-days" in reason(steps.hospital(SOUTH, 1))


def test_a_key_that_is_not_over_within_a_year(
    steps: OpenSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    year = 366 * 86_400
    monkeypatch.setattr(run_key_check, "time", lambda: signed(steps).expires - year)
    assert steps.hospital(NORTH, 1).has_content()
    monkeypatch.setattr(run_key_check, "time", lambda: signed(steps).expires - year - 1)
    assert "must be over within 365 days" in reason(steps.hospital(SOUTH, 1))


def test_a_hop_of_a_sealed_chain(federation: Federation) -> None:
    steps = Steps(federation)
    steps.start()
    own = RunKey.from_bytes(steps.run_key)
    steps.run_key = replace(own, expires=own.expires + 1).to_bytes()
    assert "is not as company-x signed it" in reason(steps.hop(NORTH, 1, [], SOUTH))
    steps.run_key = own.to_bytes()
    assert sealed(steps.hop(NORTH, 1, [], SOUTH))


def test_a_ledger_that_was_rolled_back_is_noticed_before_an_update_leaves(
    federation: Federation,
) -> None:
    ledger = federation.folder / f"{COMPANY}.json.opened.jsonl"
    first = OpenSteps(federation)
    first.round(1, tuple(HOSPITALS))
    kept = ledger.read_bytes()
    first.round(2, tuple(HOSPITALS))
    assert first.finish(NORTH).has_content()
    for older in (kept, b""):
        ledger.write_bytes(older)
        for context in federation.grid.contexts.values():
            context.run_id += 1
        answer = reason(OpenSteps(federation).hospital(NORTH, 1))
        assert "company X's ledger was rolled back: ask its operator" in answer


def test_an_older_statement_for_a_hospital_that_is_late(federation: Federation) -> None:
    """An old statement may be of a rolled-back ledger; a statement signed now is not."""
    first = OpenSteps(federation)
    federation.another_run().run(2)
    words = "this hospital has of company X: it says 0 opened sums, and 2 are known"
    assert words in reason(first.hospital(NORTH, 1))
    reply = first.ask(COMPANY, DESCRIBE, DescribeRequest(first.session).to_content())
    older, first.run_key = first.run_key, Description.from_content(reply.content).run_key
    assert first.hospital(NORTH, 1).has_content()
    first.run_key = older
    assert words in reason(first.hospital(SOUTH, 1))


def test_both_files_of_company_x_put_back_while_the_key_is_there(federation: Federation) -> None:
    """Company X may open another sum of a round, but neither it nor a hospital continues."""
    endings = ("opened.jsonl", "sets.jsonl")
    files = [federation.folder / f"{COMPANY}.json.{ending}" for ending in endings]
    steps = OpenSteps(federation)
    before = [file.read_bytes() if file.exists() else b"" for file in files]
    other = steps.summed(1, tuple(HOSPITALS))
    steps.round(1, tuple(HOSPITALS))
    second = steps.summed(2, tuple(HOSPITALS))
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)
    assert steps.open(1, 3, other, totals=[]).has_content()
    assert "the ledger was rolled back" in reason(steps.open(2, 3, second))
    for context in federation.grid.contexts.values():
        context.run_id += 1
    answer = reason(OpenSteps(federation).hospital(NORTH, 1))
    assert "has signed 1 opened sums of another one before" in answer


def test_a_run_that_is_resumed_has_the_key_of_its_session(federation: Federation) -> None:
    steps = OpenSteps(federation)
    federation.context(COMPANY).run_id += 1
    reply = steps.ask(COMPANY, DESCRIBE, DescribeRequest(steps.session).to_content())
    resumed = Description.from_content(reply.content)
    assert (resumed.session, resumed.public_key) == (steps.session, steps.public_key)
    assert steps.ask(COMPANY, END, EndRequest(steps.session).to_content()).has_content()
    words = "the key of this session was deleted at the run's end: begin a new run"
    asked = DescribeRequest(steps.session).to_content()
    assert reason(steps.ask(COMPANY, DESCRIBE, asked)) == f"{COMPANY}: {words}"
    assert reason(steps.open(1, 3, b"?")) == words
    answer = reason(steps.ask(NORTH, END, EndRequest(steps.session).to_content()))
    assert "'query.end' must go to company X" in answer


def test_company_x_makes_keys_of_the_kind_in_its_own_settings(federation: Federation) -> None:
    company = federation.context(COMPANY)
    kinds = []
    for run_id, setting in ((100, {}), (101, {"key-kind": "djn"}), (102, {"key-kind": "short"})):
        company.run_id = run_id
        company.node_config |= setting
        reply = OpenSteps(federation).ask(COMPANY, DESCRIBE, DescribeRequest().to_content())
        text = Description.from_content(reply.content).public_key
        kinds.append(PublicKey.from_json(text).key_kind)
    assert kinds == [KeyKind.short, KeyKind.djn, KeyKind.short]


def test_ever_new_runs_have_company_x_make_few_keys(federation: Federation) -> None:
    """A coordinator chooses run numbers, and asks for a description or a sealed session in each."""
    company = federation.context(COMPANY)
    company.node_config["max-unused-keys"] = 3
    steps, sealed_steps = OpenSteps(federation), Steps(federation)
    steps.round(1, tuple(HOSPITALS))
    opened_in = company.run_id

    def asked(run_id: int) -> Message:
        company.run_id = run_id
        if run_id % 2:
            return steps.ask(COMPANY, DESCRIBE, DescribeRequest().to_content())
        return sealed_steps.ask(COMPANY, SESSION, SessionRequest("", {}).to_content())

    answers = [asked(run_id) for run_id in range(100, 120)]
    assert len(key_files(federation.folder)) == 1 + 3, "the key of an opened sum does not count"
    assert [reply.has_error() for reply in answers] == [*[False] * 3, *[True] * 17]
    words = (
        "company X makes at most 3 keys in 24 hours for runs in which it opens no sum "
        "(max-unused-keys in its node configuration), and has made 3: begin a run tomorrow, or let "
        "its operator raise max-unused-keys"
    )
    assert {reason(reply) for reply in answers[3:]} == {words, f"{COMPANY}: {words}"}
    assert asked(opened_in).has_content(), "a run that has its key continues"
    company.node_config["max-unused-keys"] = 4
    assert asked(119).has_content()
