"""Company X's memory of the sets whose totals it has opened."""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fl_he.clients.ledger import Place
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.opened_sets import OpenedSets
from fl_he.clients.set_rule import LONGEST_SET_LINE, Epoch, OpenedSet, Verdict
from fl_he.clients.stores import LedgerError
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import ProtocolError


class Sets:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "sets.jsonl"
        self.identities: dict[str, str] = {}

    def require(
        self, names: str, alone: str = "", session: int = 1, sessions: int = 0, least: int = 3
    ) -> None:
        """Open a total of a session, by default of the last session."""
        self.asked(names, alone, Place(0, session, max(session, sessions), noted=False), least)

    def asked(
        self,
        names: str,
        alone: str,
        place: Place,
        least: int = 3,
        purpose: Purpose = "evaluate",
    ) -> int:
        tickets = [Ticket(name, bytes(32), b"", alone=name in alone) for name in names]
        return self.kept().require(tickets, least, place, purpose, self.identities)

    def trained(self, names: str, session: int) -> None:
        self.kept().note_trained(frozenset(names), session)

    def refused(self, names: str, alone: str = "", session: int = 1, sessions: int = 0) -> str:
        with pytest.raises(ProtocolError) as caught:
            self.require(names, alone, session, sessions)
        return str(caught.value)

    def judged(self, names: str, minimum: int = 3) -> Verdict:
        return self.kept().read(0).judge(frozenset(names), minimum)

    def kept(self) -> OpenedSets:
        return OpenedSets(FileStore(self.path, LONGEST_SET_LINE))

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def opened(self) -> list[str]:
        return [line for line in self.lines() if line.startswith('{"opened"')]


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    return Sets(tmp_path)


def test_a_set_is_noted_once_on_a_disk_of_its_owner(sets: Sets) -> None:
    for _ in range(3):
        sets.require("cba")
    assert sets.lines() == [
        '{"not_alone":["a","b","c"],"sessions":1}',
        '{"opened":["a","b","c"],"alone":[],"least":3}',
    ]
    assert stat.S_IMODE(sets.path.stat().st_mode) == 0o600


def test_a_file_that_has_lost_lines_opens_nothing(sets: Sets) -> None:
    names = ("abcd", "abcde", "abcdef")
    for name in names:
        sets.require(name, alone="def")
    lines = sets.path.read_text().splitlines(keepends=True)
    places = [Place(len(lines), 1, 1, noted=noted) for noted in (True, False)]
    assert sets.asked("abc", "", places[0]) == len(lines)
    assert sets.asked("abc", "", places[1]) > len(lines)
    for left in range(len(lines)):
        sets.path.write_text("".join(lines[:left]))
        uses: tuple[Callable[[], object], ...] = (
            *(partial(sets.asked, "abc", "", place) for place in places),
            partial(sets.kept().read, len(lines)),
            partial(sets.kept().begin_epoch, sets.judged("ab"), len(lines)),
        )
        for use in uses:
            with pytest.raises(LedgerError, match=f"has {left} lines, and had {len(lines)} when"):
                use()
        assert sets.path.read_text() == "".join(lines[:left])


def test_a_set_without_one_is_refused_and_not_noted(sets: Sets) -> None:
    sets.require("abcd")
    assert "would expose d:" in sets.refused("abc")
    assert len(sets.opened()) == 1
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
        '{"not_alone":["a","b","c"],"sessions":1}',
        '{"alone":["d"]}',
        '{"opened":["a","b","c","d"],"alone":["d"],"least":3}',
        '{"opened":["a","b","c"],"alone":[],"least":3}',
    ]
    assert "would expose a, b, c:" in sets.refused("ab")


def test_a_permission_can_be_withdrawn_and_stops_what_rests_on_it(sets: Sets) -> None:
    sets.require("abcd", alone="d")
    sets.require("abc")
    assert "would expose d:" in sets.refused("abcd")
    assert sets.lines()[-1] == '{"not_alone":["d"],"sessions":1}'
    assert "would expose d:" in sets.refused("abc"), "it is not in this sum, and was heard before"
    assert "would expose d:" in sets.refused("abcd", alone="d"), "the ticket may be an old one"
    sets.require("abcd", alone="d", session=2)
    assert sets.kept().read(0).alone == {"d"}


def test_an_old_ticket_does_not_undo_a_withdrawal(sets: Sets) -> None:
    """Tickets that were held back, of sessions begun before company X heard of the withdrawal."""
    sets.require("abcd", alone="d", session=1)
    sets.require("abc", session=1)
    assert "would expose d:" in sets.refused("abcd", session=2, sessions=3)
    kept = sets.lines()
    for old in (1, 2, 3):
        assert "would expose d:" in sets.refused("abcd", "d", session=old, sessions=3)
        assert "would expose d:" in sets.refused("abc", session=3)
        assert sets.lines() == kept
    sets.require("abcd", alone="d", session=4)
    sets.require("abc", session=4)


def test_a_permission_does_not_cover_earlier_totals(sets: Sets) -> None:
    """S0 of a, b, c, d less a later total of a, b, d would be the update of c in S0."""
    sets.require("abcd", session=1)
    sets.require("abcd", alone="c", session=2)
    assert "would expose c:" in sets.refused("abd", session=3)
    assert sets.kept().read(0).counting == frozenset()
    sets.kept().begin_epoch(sets.judged("abd"), 0)
    sets.require("abcd", alone="c", session=4)
    sets.require("abd", session=5)
    assert sets.kept().read(0).counting == {"c"}


def test_allow_withdraw_and_allow_again(sets: Sets) -> None:
    sets.require("abcd", alone="c", session=1)
    assert sets.judged("abd").exposed == frozenset()
    sets.require("abcd", session=2)  # opened, and so without the permission for good
    sets.require("abcd", alone="c", session=3)
    assert "would expose c:" in sets.refused("abd", session=4)


def test_an_epoch_does_not_cover_later_totals_without_a_permission(sets: Sets) -> None:
    sets.require("abcd", session=1)
    sets.kept().begin_epoch(sets.judged("abcde"), 0)
    sets.require("abcde", session=2)
    sets.require("abcde", alone="e", session=3)
    assert sets.kept().read(0).counting == frozenset()
    assert "would expose e:" in sets.refused("abcdefgh", session=4)


def test_a_plan_with_a_smaller_minimum_does_not_divide_earlier_sets(sets: Sets) -> None:
    sets.require("abcdef", least=5)
    assert "would expose a, b, c, d, e, f: fewer than 5 hospitals" in sets.refused("abc")
    sets.require("abcdefghi")
    sets.require("ghi")
    assert "fewer than 5 hospitals" in sets.refused("abcdeghi")


def test_a_larger_minimum_is_noted_with_a_set_that_was_opened_before(sets: Sets) -> None:
    for least in (3, 5, 3):
        sets.require("abcdef", least=least)
    assert [line[-10:] for line in sets.opened()] == ['"least":3}', '"least":5}']
    assert "fewer than 5 hospitals" in sets.refused("abc")


def test_figures_are_of_the_set_of_the_last_training_total(sets: Sets) -> None:
    words = "figures must be of the hospitals of the session's last training total"
    one, two = (Place(0, session, 2, noted=False) for session in (1, 2))
    sets.require("abcdef")
    with pytest.raises(ProtocolError, match=words):
        sets.asked("abcdef", "", one, purpose="figures")
    for _ in range(2):
        sets.trained("abcdef", 1)
    with pytest.raises(ProtocolError, match=words):
        sets.asked("abc", "", one, purpose="figures")
    with pytest.raises(ProtocolError, match=words):
        sets.asked("abcdef", "", two, purpose="figures")
    sets.trained("def", 2)
    sets.asked("abcdef", "", one, purpose="figures")
    sets.asked("abc", "", one, purpose="train")
    sets.asked("abcdef", "", one, purpose="figures")
    sets.trained("abc", 1)
    with pytest.raises(ProtocolError, match=words):
        sets.asked("abcdef", "", one, purpose="figures")
    sets.asked("abc", "", one, purpose="figures")
    assert [line for line in sets.lines() if "trained" in line] == [
        '{"trained":["a","b","c","d","e","f"],"session":1}',
        '{"trained":["d","e","f"],"session":2}',
        '{"trained":["a","b","c"],"session":1}',
    ]


def manifest(names: str, **others: str) -> dict[str, str]:
    """Return identities of hospitals, by default one for each name."""
    return {name: others.get(name, name).encode().hex() * 32 for name in names}


DOUBT = "no total is opened: {} may be other hospitals than in opened totals"


def test_another_hospital_under_an_old_name_opens_nothing(sets: Sets) -> None:
    sets.identities = manifest("abcd")
    sets.require("abcd")
    sets.identities = manifest("abcd", c="x")
    for _ in range(2):
        assert DOUBT.format("c") in sets.refused("abcd")
    verdict = sets.judged("abcd")
    assert verdict.exposed == {*"abcd"}
    sets.kept().begin_epoch(verdict, 0)
    sets.require("abcd", session=2)
    sets.identities = manifest("abcd")
    assert DOUBT.format("c") in sets.refused("abcd", session=3)


def test_hospitals_that_enrol_again_under_new_names_open_nothing(sets: Sets) -> None:
    """A total of a, b, c, d less one of a, b, c under new names would be the update of d."""
    sets.identities = manifest("abcd")
    sets.require("abcd")
    sets.identities = manifest("d")
    assert "would expose" in sets.refused("d")
    sets.identities = manifest("defg")
    assert DOUBT.format("a, b, c, e, f, g") in sets.refused("efg")
    assert DOUBT.format("a, b, c, e, f, g") in sets.refused("defg", alone="defg")
    verdict = sets.judged("efg")
    assert verdict.exposed == {*"abcdefg"}
    sets.kept().begin_epoch(verdict, 0)
    sets.require("efg", session=2)
    sets.identities = manifest("aefg")
    assert "would expose" in sets.refused("ae", session=2), "a is back"
    sets.identities = manifest("efgh")
    assert DOUBT.format("a, d, h") in sets.refused("efgh", session=2)


def test_newcomers_or_leavers_alone_are_no_doubt(sets: Sets) -> None:
    sets.identities = manifest("abcdef")
    sets.require("abcdef")
    sets.identities = manifest("abcdefghi")
    sets.require("abcdefghi")
    sets.identities = manifest("abcdef")
    sets.require("abcdef")
    assert [line[:12] for line in sets.lines() if "enrolled" in line] == ['{"enrolled":'] * 3


def test_sets_of_earlier_versions_get_the_identities_of_the_first_manifest(sets: Sets) -> None:
    sets.path.write_text('{"opened":["a","b","c"]}\n')
    sets.path.chmod(0o600)
    sets.identities = manifest("abc")
    sets.require("abc")
    sets.identities = manifest("abc", a="x")
    assert DOUBT.format("a") in sets.refused("abc")


def test_sets_of_earlier_versions(sets: Sets) -> None:
    """Old lines have no permissions and no minimum: the lines before them count."""
    sets.path.write_text(
        '{"not_alone":["a","b","c"],"sessions":1}\n'
        '{"alone":["d","e"]}\n'
        '{"opened":["a","b","c","d","e"]}\n'
        '{"not_alone":["d"],"sessions":2}\n'
        '{"alone":["d","e"]}\n'
    )
    sets.path.chmod(0o600)
    kept = sets.kept().read(0)
    assert kept.alone == {"d", "e"}
    assert kept.counting == {"e"}, "d may be in a repeated total without a permission"
    sets.require("abcd", alone="d", session=3)
    assert "would expose d:" in sets.refused("abc", session=3)
    sets.require("abcde", alone="de", session=4)
    assert sets.kept().read(0).counting == {"e"}


def test_a_permission_that_was_never_used_is_withdrawn_as_well(sets: Sets) -> None:
    sets.require("abcd", session=1, sessions=2)
    sets.require("abcd", alone="d", session=2)
    assert sets.kept().read(0).alone == frozenset()
    assert "would expose d:" in sets.refused("abc", session=2)


def test_a_repeated_request_notes_nothing(sets: Sets) -> None:
    sets.require("abcd", alone="d", session=1)
    sets.require("abcd", session=2)
    kept = sets.lines()
    for alone, session in (("d", 1), ("", 2), ("d", 3)):
        assert sets.asked("abcd", alone, Place(0, session, 3, noted=True)) == len(kept)
    assert sets.lines() == kept


def test_a_refused_sum_notes_no_permission_but_withdrawals(sets: Sets) -> None:
    sets.require("abcd")
    assert "would expose a:" in sets.refused("bcd", alone="d", session=2)
    assert sets.kept().read(0).alone == frozenset()
    sets.require("abcd", alone="d", session=3)
    assert "would expose a:" in sets.refused("bcd", session=3, sessions=4)
    assert sets.kept().read(0).alone == frozenset()
    assert "would expose d:" in sets.refused("abc", session=4)
    sets.require("abcd", alone="d", session=4)
    assert sets.kept().read(0).alone == frozenset(), "this session had begun by then"


def test_a_ledger_that_lost_sessions_brings_no_permission_back(sets: Sets) -> None:
    sets.require("abcd", session=4)
    sets.require("abcd", alone="d", session=5)
    sets.require("abcd", session=2)
    assert sets.kept().read(0).alone == frozenset()
    for session in (1, 2, 3, 4):
        sets.require("abcd", alone="d", session=session)
        assert sets.kept().read(0).alone == frozenset()


def test_the_file_grows_by_sessions_and_not_by_sums(sets: Sets) -> None:
    for session in (1, 2):
        for _ in range(3):
            sets.require("abcdef", alone="f", session=session)
            assert "would expose" in sets.refused("abcd", session=session)
    assert [line for line in sets.lines() if "sessions" in line] == [
        '{"not_alone":["a","b","c","d","e"],"sessions":1}',
        '{"not_alone":["a","b","c","d","e"],"sessions":2}',
    ]
    assert len(sets.lines()) == 4


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
    sets.kept().begin_epoch(verdict, 0)
    assert sets.lines()[-1] == '{"epoch":["a","b","c","d","e"],"exposes":["f"]}'
    for other in ("abcd", "abce", "abcdf", "bcdef"):
        assert "would expose" in sets.refused(other)
    sets.require("abcde")
    assert "would expose f:" in sets.refused("abcdef"), "back by another epoch only"


def test_all_that_was_noted_can_be_read(sets: Sets) -> None:
    assert sets.kept().read(0).entries == ()
    sets.require("abcdef", alone="f")
    sets.require("abcde")
    sets.kept().begin_epoch(sets.judged("abcd"), 0)
    kept = sets.kept().read(0)
    assert kept.entries == (
        OpenedSet(frozenset("abcdef"), frozenset("f"), 3),
        OpenedSet(frozenset("abcde"), frozenset(), 3),
        Epoch(frozenset("abcd"), frozenset("e")),
    )
    assert kept.alone == {"f"}
    assert [*map(sorted, kept.history.classes)] == [[*"abcde"], ["f"]]


def test_an_epoch_needs_somebody_whom_it_exposes(sets: Sets) -> None:
    sets.require("abcdef")
    with pytest.raises(ProtocolError, match="these 3 hospitals may be opened: no epoch is needed"):
        sets.kept().begin_epoch(sets.judged("abc"), 0)
    assert not any("epoch" in line for line in sets.lines())


def test_an_epoch_exposes_nobody_who_was_not_shown(sets: Sets) -> None:
    """Company X has opened another total since."""
    sets.require("abcdef")
    shown = sets.judged("abcde")
    sets.require("abc")
    assert sets.judged("abcde").exposed == {*"def"}
    with pytest.raises(ProtocolError, match="have changed since they were shown"):
        sets.kept().begin_epoch(shown, 0)
    assert not any("epoch" in line for line in sets.lines())


@pytest.mark.parametrize(
    "line",
    [
        "?",
        '{"opened":[]}',
        '{"opened":["b","a"]}',
        '{"opened":["a"],"least":3}',
        '{"opened":["a"],"alone":["a"],"least":-1}',
        '{"epoch":["a"]}',
        '{"not_alone":["a"]}',
        '{"trained":["a"]}',
        '{"enrolled":{"a":"a"}}',
        '{"trained":["a"],"session":0}',
        '{"not_alone":["a"],"sessions":-1}',
    ],
)
def test_a_file_that_cannot_be_trusted(sets: Sets, line: str) -> None:
    sets.require("abc")
    with sets.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LedgerError):
        sets.require("abc")
