"""Company X's memory of the sets whose totals it has opened."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fl_he.clients.ledger import LedgerError
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.opened_sets import OpenedSets
from fl_he.clients.set_rule import LONGEST_SET_LINE, Epoch, OpenedSet, Verdict
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.records import ProtocolError


class Sets:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "sets.jsonl"

    def require(self, names: str, alone: str = "", minimum: int = 3) -> None:
        tickets = [Ticket(name, bytes(32), b"", alone=name in alone) for name in names]
        self.kept().require(tickets, minimum)

    def refused(self, names: str, alone: str = "") -> str:
        with pytest.raises(ProtocolError) as caught:
            self.require(names, alone)
        return str(caught.value)

    def judged(self, names: str, minimum: int = 3) -> Verdict:
        return self.kept().read().judge(frozenset(names), minimum)

    def kept(self) -> OpenedSets:
        return OpenedSets(FileStore(self.path, LONGEST_SET_LINE))

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    return Sets(tmp_path)


def test_a_set_is_noted_once_on_a_disk_of_its_owner(sets: Sets) -> None:
    for _ in range(3):
        sets.require("cba")
    assert sets.lines() == ['{"opened":["a","b","c"]}']
    assert stat.S_IMODE(sets.path.stat().st_mode) == 0o600


def test_a_file_that_has_lost_lines_opens_nothing(sets: Sets) -> None:
    names = ("abcd", "abcde", "abcdef")
    for name in names:
        sets.require(name, alone="def")
    lines = sets.path.read_text().splitlines(keepends=True)
    tickets = [Ticket(name, bytes(32), b"", alone=False) for name in "abc"]
    assert sets.kept().require(tickets, 3, len(lines)) > len(lines)
    for left in range(len(lines)):
        sets.path.write_text("".join(lines[:left]))
        with pytest.raises(LedgerError, match=f"has {left} lines, and had {len(lines)} when a"):
            sets.kept().require(tickets, 3, len(lines))
        assert sets.path.read_text() == "".join(lines[:left])


def test_a_set_without_one_is_refused_and_not_noted(sets: Sets) -> None:
    sets.require("abcd")
    assert "would expose d:" in sets.refused("abc")
    assert len(sets.lines()) == 1
    sets.require("abcd")


def test_a_newcomer_alone_is_refused_and_three_are_not(sets: Sets) -> None:
    sets.require("abc")
    assert "would expose d:" in sets.refused("abcd")
    sets.require("abcdef")
    sets.require("def")


def test_who_has_signed_that_it_may_be_singled_out_may_leave(sets: Sets) -> None:
    sets.require("abcd", alone="d")
    sets.require("abc")
    assert sets.lines() == [
        '{"alone":["d"]}',
        '{"opened":["a","b","c","d"]}',
        '{"opened":["a","b","c"]}',
    ]
    assert "would expose a, b, c:" in sets.refused("ab")


def test_a_permission_can_be_withdrawn_and_stops_what_rests_on_it(sets: Sets) -> None:
    sets.require("abcd", alone="d")
    sets.require("abc")
    assert "would expose d:" in sets.refused("abcd")
    assert sets.lines()[-1] == '{"alone":[]}'
    assert "would expose d:" in sets.refused("abc"), "it is not in this sum, and was heard before"
    sets.require("abcd", alone="d")


def test_a_line_that_was_cut_off_is_of_no_total(sets: Sets) -> None:
    sets.require("abcd")
    with sets.path.open("a") as file:
        file.write('{"opened":["a","b"')
    assert "would expose d:" in sets.refused("abc")
    sets.require("abcd")


def test_an_epoch_opens_exactly_its_set(sets: Sets) -> None:
    sets.require("abcdef")
    verdict = sets.judged("abcde")
    assert verdict.exposed == {"f"}
    sets.kept().begin_epoch(verdict)
    assert sets.lines()[-1] == '{"epoch":["a","b","c","d","e"],"exposes":["f"]}'
    for other in ("abcd", "abce", "abcdf", "bcdef"):
        assert "would expose" in sets.refused(other)
    sets.require("abcde")
    assert "would expose f:" in sets.refused("abcdef"), "back by another epoch only"


def test_all_that_was_noted_can_be_read(sets: Sets) -> None:
    assert sets.kept().read().entries == ()
    sets.require("abcdef", alone="f")
    sets.require("abcde")
    sets.kept().begin_epoch(sets.judged("abcd"))
    kept = sets.kept().read()
    assert kept.entries == (
        OpenedSet(frozenset("abcdef")),
        OpenedSet(frozenset("abcde")),
        Epoch(frozenset("abcd"), frozenset("e")),
    )
    assert kept.alone == {"f"}
    assert [*map(sorted, kept.history.classes)] == [[*"abcde"], ["f"]]


def test_an_epoch_needs_somebody_whom_it_exposes(sets: Sets) -> None:
    sets.require("abcdef")
    with pytest.raises(ProtocolError, match="these 3 hospitals may be opened: no epoch is needed"):
        sets.kept().begin_epoch(sets.judged("abc"))
    assert len(sets.lines()) == 1


def test_an_epoch_exposes_nobody_who_was_not_shown(sets: Sets) -> None:
    """Company X has opened another total since."""
    sets.require("abcdef")
    shown = sets.judged("abcde")
    sets.require("abc")
    assert sets.judged("abcde").exposed == {*"def"}
    with pytest.raises(ProtocolError, match="have changed since they were shown"):
        sets.kept().begin_epoch(shown)
    assert len(sets.lines()) == 2


@pytest.mark.parametrize("line", ["?", '{"opened":[]}', '{"opened":["b","a"]}', '{"epoch":["a"]}'])
def test_a_file_that_cannot_be_trusted(sets: Sets, line: str) -> None:
    sets.require("abc")
    with sets.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LedgerError):
        sets.require("abc")
