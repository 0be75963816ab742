"""A hospital's memory of how many sums company X says it has opened."""

from __future__ import annotations

import stat
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node.counters import Counters
from fl_he.clients.stores import LedgerError
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey
from fl_he.wire.totals import Total

ROLLED_BACK = "company X's ledger was rolled back: ask its operator"


def head(counter: int, ledger: str = "") -> bytes:
    return sha256(f"{counter}{ledger}".encode()).digest()


class Hospital:
    def __init__(self, path: Path) -> None:
        self.path = path

    def counters(self, company_x: str = "aa" * 32) -> Counters:
        return Counters(FileStore(self.path), company_x)

    def key(self, session: str, counter: int, ledger: str = "", company_x: str = "aa" * 32) -> None:
        key = RunKey(session, "ab" * 32, 1, counter, head(counter, ledger))
        self.counters(company_x).hear_key(key)

    def total(self, session: str, counter: int, digest: str = "", ledger: str = "") -> None:
        total = Total(0, "", np.zeros(0), bytes(32), counter, head(counter, ledger))
        own = sha256(f"{session}{counter}{digest}".encode()).digest()
        with self.counters().hearing_total(session, total, own):
            pass

    def lines(self) -> int:
        return len(self.path.read_text().splitlines())


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "counters")


def test_honest_sessions_one_after_another(hospital: Hospital) -> None:
    for number, session in enumerate(("a", "b", "c")):
        hospital.key(session, 3 * number)
        for counter in range(3 * number + 1, 3 * number + 4):
            hospital.total(session, counter)
            hospital.key(session, 3 * number)  # the coordinator keeps the statement
    before = hospital.lines()
    for number, session in enumerate(("a", "b", "c")):  # a hospital that computes a model again
        hospital.key(session, 3 * number)
        for counter in range(3 * number + 1, 3 * number + 4):
            hospital.total(session, counter)
    assert hospital.lines() == before == 12
    assert stat.S_IMODE(hospital.path.stat().st_mode) == 0o600


def test_sessions_at_the_same_time_and_late_hearing_are_no_sign(hospital: Hospital) -> None:
    hospital.key("a", 0)
    hospital.key("b", 0)
    for session, counter in (("a", 1), ("a", 4), ("b", 2), ("b", 3), ("a", 6), ("b", 5)):
        hospital.total(session, counter)


def test_a_key_after_a_ledger_was_rolled_back(hospital: Hospital) -> None:
    hospital.key("a", 0)
    for counter in (1, 2, 3):
        hospital.total("a", counter)
    for counter in (0, 2):
        with pytest.raises(ProtocolError, match=ROLLED_BACK):
            hospital.key("b", counter)
    hospital.key("b", 3)


def test_without_totals_keys_alone_tell(hospital: Hospital) -> None:
    hospital.key("a", 7)
    with pytest.raises(ProtocolError, match="it says 6 opened sums, and 7 are known"):
        hospital.key("b", 6)
    hospital.key("a", 9)  # signed again
    hospital.key("a", 7)
    with pytest.raises(ProtocolError, match=ROLLED_BACK):
        hospital.key("b", 8)


def test_a_total_after_a_ledger_was_rolled_back(hospital: Hospital) -> None:
    for counter in (1, 2, 5):
        hospital.total("a", counter)
    before = hospital.lines()
    for session, counter in (("a", 5), ("a", 2), ("b", 5), ("a", 3), ("a", 4)):
        with pytest.raises(ProtocolError, match=ROLLED_BACK):
            hospital.total(session, counter, "another")
    assert hospital.lines() == before
    hospital.total("a", 6)


def test_a_known_counter_of_another_ledger(hospital: Hospital) -> None:
    hospital.key("a", 0)
    hospital.total("a", 1)
    hospital.key("b", 3)
    before = hospital.lines()
    for counter in (0, 1, 3):
        for session in ("a", "b", "c"):
            with pytest.raises(ProtocolError, match=ROLLED_BACK):
                hospital.key(session, counter, "another")
            with pytest.raises(ProtocolError, match=ROLLED_BACK):
                hospital.total(session, counter, ledger="another")
    assert hospital.lines() == before
    hospital.total("b", 3)  # a statement was signed with this total's opening


def test_each_identity_of_company_x_has_its_counters(hospital: Hospital) -> None:
    """Two federations over one table, or a new identity after the old one was stolen."""
    hospital.key("stolen", 2**64 - 1)
    hospital.key("a", 0, "new", company_x="bb" * 32)
    hospital.key("b", 2, "new", company_x="bb" * 32)
    with pytest.raises(ProtocolError, match="it says 1 opened sums, and 2 are known"):
        hospital.key("c", 1, "new", company_x="bb" * 32)
    with pytest.raises(ProtocolError, match=ROLLED_BACK):
        hospital.key("d", 0)


def test_a_total_that_is_not_applied_is_not_kept(hospital: Hospital) -> None:
    total = Total(0, "", np.zeros(0), bytes(32), 1, head(1))
    with (
        pytest.raises(ProtocolError, match="not the next"),
        hospital.counters().hearing_total("a", total, bytes(32)),
    ):
        raise ProtocolError("not the next")
    hospital.total("a", 1)


@pytest.mark.parametrize(
    "text",
    [
        "?\n",
        '{"company_x":"a","counter":-1,"head":"","session":"a","total":""}\n',
        '{"counter":1,"session":"a","total":""}\n',
        "é\n",
    ],
)
def test_a_damaged_file_is_refused(hospital: Hospital, text: str) -> None:
    hospital.path.touch(0o600)
    hospital.path.write_text(text)
    with pytest.raises(LedgerError):
        hospital.key("a", 1)
    with pytest.raises(LedgerError):
        hospital.total("a", 1)
