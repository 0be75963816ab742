from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from study_plans import PLAN

from fl_he.clients.ledger_file import FileStore
from fl_he.clients.plan_ledger import PlanLedger
from fl_he.clients.stores import LedgerError
from fl_he.wire.planned_messages import Asked
from fl_he.wire.records import ProtocolError

FIRST = Asked(PLAN.digest, "a", "train", 1, "ab" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plans.jsonl"


def ledger(file: Path) -> PlanLedger:
    return PlanLedger(FileStore(file))


def test_a_process_that_is_killed_after_a_note_has_counted(file: Path) -> None:
    """Each note is on the disk before the answer: see `require_planned`."""
    for session in ("a", "b"):
        child = os.fork()
        if not child:
            ledger(file).note(PLAN, replace(FIRST, session=session))
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with pytest.raises(ProtocolError, match="the study plan has 2 sessions"):
        ledger(file).note(PLAN, replace(FIRST, session="c"))
    ledger(file).note(PLAN, replace(FIRST, session="b"))
    assert len(file.read_text().splitlines()) == 2


def test_the_same_sum_is_noted_once(file: Path) -> None:
    for _ in range(3):
        ledger(file).note(PLAN, FIRST)
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (replace(FIRST, terms="cd" * 32), "must stay as the session began"),
        (replace(FIRST, round=2, terms="cd" * 32), "must stay as the session began"),
        (replace(FIRST, plan="ab" * 32, round=2), "a session must be of one study plan"),
        (replace(FIRST, session=""), "must name company X's session"),
        (replace(FIRST, purpose="figures", round=2), "has 0 sums for figures"),
    ],
)
def test_what_a_session_has_fixed_is_refused_otherwise(
    file: Path, asked: Asked, words: str
) -> None:
    ledger(file).note(PLAN, FIRST)
    with pytest.raises(ProtocolError, match=words):
        ledger(file).note(PLAN, asked)
    assert len(file.read_text().splitlines()) == 1


def test_each_purpose_has_rounds_of_its_own(file: Path) -> None:
    plan = replace(PLAN, scaling="federated")
    before = replace(FIRST, plan=plan.digest, purpose="prepare")
    for asked in (before, replace(before, round=2), replace(before, purpose="train")):
        ledger(file).note(plan, asked)
    with pytest.raises(ProtocolError, match="has 2 sums for prepare, and this one has had them"):
        ledger(file).note(plan, replace(before, round=3))


def test_a_session_ends_under_the_plan_under_which_it_began(file: Path) -> None:
    for plan, session in ((PLAN.digest, "a"), (PLAN.digest, ""), ("ab" * 32, "a")):
        with pytest.raises(ProtocolError, match="has had no sum in this one"):
            ledger(file).require_begun(plan, session)
    ledger(file).note(PLAN, FIRST)
    ledger(file).require_begun(PLAN.digest, "a")
    for plan, session in ((PLAN.digest, "b"), (PLAN.digest, ""), ("ab" * 32, "a")):
        with pytest.raises(ProtocolError, match="has had no sum in this one"):
            ledger(file).require_begun(plan, session)


def test_another_plans_sessions_do_not_count(file: Path) -> None:
    other = replace(PLAN, most_rounds=9)
    for plan in (PLAN, other):
        for session in ("a", "b"):
            mine = replace(FIRST, plan=plan.digest, session=session + plan.digest)
            ledger(file).note(plan, mine)


def test_a_line_that_was_cut_off_is_of_no_answer(file: Path) -> None:
    ledger(file).note(PLAN, FIRST)
    file.write_text(file.read_text()[:-9])
    for number in range(1, 5):
        ledger(file).note(PLAN, replace(FIRST, round=number))
    with pytest.raises(ProtocolError, match="has 4 sums for train"):
        ledger(file).note(PLAN, replace(FIRST, round=5))


def test_a_file_that_others_may_write_is_not_trusted(file: Path) -> None:
    ledger(file).note(PLAN, FIRST)
    file.chmod(0o644)
    with pytest.raises(LedgerError):
        ledger(file).note(PLAN, FIRST)
