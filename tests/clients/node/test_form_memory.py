from __future__ import annotations

from pathlib import Path

import pytest

from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node.form_memory import LONGEST_LINE, FormMemory
from fl_he.wire.update_layout import ArraySlot, UpdateLayout

LAYOUT = UpdateLayout((ArraySlot("arrays", "w", "float64", (3,)),), "metrics", (), "n", 24)


def memory(folder: Path, run_id: int, session: str) -> FormMemory:
    return FormMemory(FileStore(folder / "forms", LONGEST_LINE), run_id, session)


@pytest.mark.parametrize(
    ("run_id", "session", "known"),
    [(1, "first", True), (1, "second", True), (2, "first", True), (2, "second", False)],
)
def test_a_form_holds_in_its_run_and_in_its_session(
    run_id: int, session: str, *, known: bool, tmp_path: Path
) -> None:
    """Another run or another session alone does not make a reply the first again."""
    first = memory(tmp_path, 1, "first")
    first.fix("train", LAYOUT)
    first.fail("evaluate")
    other = memory(tmp_path, run_id, session)
    assert other.form("train") == (LAYOUT if known else None)
    assert other.has_failed("evaluate") is known


def test_forms_and_failures_are_of_their_actions(tmp_path: Path) -> None:
    forms = memory(tmp_path, 1, "first")
    forms.fix("train.mine", LAYOUT)
    assert (forms.form("train.mine"), forms.form("train")) == (LAYOUT, None)
    assert not forms.has_failed("train.mine")
    forms.fail("train")
    assert forms.has_failed("train")
    assert forms.form("train") is None
