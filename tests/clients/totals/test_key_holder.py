"""Company X in a sealed chain, step by step; for lies to it see test_lying_coordinator."""

from __future__ import annotations

from pathlib import Path

import pytest
from sealed_federation import COMPANY, Federation
from sealed_steps import Steps

from fl_he.crypto.envelopes.sealing import Binding, unseal
from fl_he.wire.sealed_messages import SESSION, SessionReply, SessionRequest

HOSPITALS = {"north": 40, "south": 25, "east": 60}


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    steps = Steps(Federation(tmp_path, HOSPITALS))
    steps.start()
    return steps


def ask_for_session(steps: Steps, session: str = "", challenge: str = "0") -> SessionReply:
    request = SessionRequest(session, {"north": challenge})
    return SessionReply.from_content(steps.ask(COMPANY, SESSION, request.to_content()).content)


def test_each_run_has_a_session_of_its_own(steps: Steps) -> None:
    first = ask_for_session(steps)
    assert (first.name, first.session, first.latest) == (COMPANY, steps.session, 0)
    assert first.manifest == steps.federation.manifest.fingerprint
    steps.round(1, list(HOSPITALS))
    steps.federation.context(COMPANY).run_id += 1
    second = ask_for_session(steps)
    assert second.session != first.session
    assert second.latest == 0
    assert ask_for_session(steps, first.session).latest == 1


def test_a_statement_is_of_the_session_and_the_challenge(steps: Steps) -> None:
    longest = "c" * 64
    statement = ask_for_session(steps, challenge=longest).statements["north"]
    north, company = (steps.federation.identities[name] for name in ("north", COMPANY))
    binding = Binding(steps.session, "session", 0, 0, ())
    assert unseal(statement, north, company.public, binding) == longest.encode()
