"""The set rule against an exact computation over all rational combinations of opened totals."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.clients import set_rule
from fl_he.clients.ledger import Place
from fl_he.clients.opened_sets import OpenedSets
from fl_he.clients.set_rule import LONGEST_SET_LINE, Epoch, OpenedSet, SetHistory, SetRule
from fl_he.clients.stores import LedgerError, ledger_document
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.records import ProtocolError

OPENED = ledger_document(OpenedSet, LONGEST_SET_LINE)
EPOCH = ledger_document(Epoch, LONGEST_SET_LINE)
Row = Sequence[int]


def history(*opened: str) -> SetHistory:
    return SetHistory.of(OpenedSet(frozenset(hospitals)) for hospitals in opened)


def allowed(alone: str, *opened: str) -> SetHistory:
    """Return the history of totals in which the same hospitals allowed being singled out."""
    sets = (frozenset(hospitals) for hospitals in opened)
    return SetHistory.of(OpenedSet(one, one & frozenset(alone)) for one in sets)


def exposed(rule: SetRule, before: SetHistory, hospitals: str) -> str:
    return "".join(sorted(rule.judge(before, frozenset(hospitals)).exposed))


@dataclass(frozen=True)
class Totals:
    """Opened totals as linear equations.

    A hospital's data are two unknown numbers. A total asks for one linear form of them, the same
    for all its hospitals: equal forms mean the same model, different forms different models.
    """

    names: str
    rows: list[list[int]] = field(default_factory=list)

    def open(self, hospitals: frozenset[str], form: tuple[int, int]) -> None:
        self.rows.append([(h in hospitals) * part for h in self.names for part in form])

    def exposes(self, fewest: int, protected: frozenset[str]) -> bool:
        """Tell whether a combination has 1 to fewest - 1 hospitals in it, and a protected one."""
        return any(
            self._rank(others | (few & protected)) > self._rank(others)
            for few in map(frozenset, combinations(self.names, min(fewest - 1, len(self.names))))
            for others in [frozenset(self.names) - few]
        )

    def _rank(self, hospitals: frozenset[str]) -> int:
        columns = [2 * i + k for i, h in enumerate(self.names) if h in hospitals for k in (0, 1)]
        return rank([[row[column] for column in columns] for row in self.rows])


def rank(rows: list[list[int]]) -> int:
    """Return the rank over the rationals, by elimination in integers."""
    found = 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        top = rows[found]
        for i in range(found + 1, len(rows)):
            if factor := rows[i][column]:
                pairs = zip(rows[i], top, strict=True)
                rows[i] = [entry * top[column] - above * factor for entry, above in pairs]
        found += 1
    return found


@dataclass(frozen=True)
class Wish:
    """A total that a coordinator requests.

    Some of its hospitals sign a permission, and an operator may insist on the total, which
    names the exposed hospitals.
    """

    hospitals: frozenset[str]
    form: tuple[int, int]
    allowing: frozenset[str]
    least: int
    insists: bool


@dataclass(frozen=True)
class Case:
    """Totals that a coordinator asks for one after another."""

    names: str
    wishes: list[Wish]


class Memory:
    """A file's lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def is_new(self) -> bool:
        return not self.lines

    @contextmanager
    def exclusively(self) -> Iterator[Memory]:
        yield self

    def __iter__(self) -> Iterator[str | None]:
        return iter([*self.lines])

    def append(self, line: str) -> None:
        self.lines.append(line)


def chosen(names: str, bits: int) -> frozenset[str]:
    return frozenset(h for i, h in enumerate(names) if bits >> i & 1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = "ABCDEFG"[: draw(st.integers(3, 7))]
    subsets = st.integers(1, 2 ** len(names) - 1)  # drawn faster than sets
    everyone, group = 2 ** len(names) - 1, draw(subsets)
    few = draw(subsets) & draw(subsets) if draw(st.booleans()) else 0
    # The group, the others and everyone are often allowed, other sets seldom.
    usual_sets = [group, everyone - group, everyone, everyone - few]
    bits = st.sampled_from(usual_sets) | (subsets | st.sampled_from(usual_sets))
    sets = bits.map(lambda drawn: chosen(names, drawn)).filter(bool)
    forms = st.sampled_from([(1, 0), (0, 1), (1, 1), (1, -2)])
    insists = st.sampled_from([False] * 9 + [True])
    usual, least = draw(st.integers(1, 4)), st.integers(1, 4)
    # Some allow being singled out in all totals, or from a later one on, or now and then.
    since, always, seldom = draw(st.integers(0, 2)), draw(st.booleans()), st.sampled_from([few, 0])
    wishes: list[Wish] = []
    for number in range(draw(st.integers(0, 8))):
        allowing = (few if number >= since else 0) if always else draw(seldom)
        minimum = draw(st.just(usual) | least)
        wish = Wish(draw(sets), draw(forms), chosen(names, allowing), minimum, draw(insists))
        wishes.append(wish)
    return Case(names, wishes)


def check(case: Case) -> None:
    """Open the totals that the rule or the operator allows, and look for exposed hospitals.

    Each total is of a new session. A hospital is exposed if a total without its permission can be
    used to single it out among fewer than the largest minimum of its totals.
    """
    sets, totals = OpenedSets(Memory()), Totals(case.names)
    identities = dict.fromkeys(case.names, "ab" * 32)
    least, protected, named = dict.fromkeys(case.names, 0), frozenset[str](), frozenset[str]()
    for session, wish in enumerate(case.wishes, 1):
        tickets = [Ticket(h, bytes(32), b"", alone=h in wish.allowing) for h in wish.hospitals]
        place = Place(0, session, session, noted=False)
        try:
            sets.require(tickets, wish.least, place, "train", identities)
        except ProtocolError:
            if not wish.insists:
                continue
            verdict = sets.read(0).judge(wish.hospitals, wish.least)
            if not verdict.exposed:
                continue  # only with permissions that are noted with an opened total
            sets.begin_epoch(verdict, 0)
            named |= verdict.exposed
            sets.require(tickets, wish.least, place, "train", identities)
        totals.open(wish.hospitals, wish.form)
        protected |= wish.hospitals - wish.allowing
        least |= {h: max(least[h], wish.least) for h in wish.hospitals}
    # Further totals only expose more, so nobody was exposed on the way.
    for fewest in {*least.values()} - {0}:
        same = frozenset(h for h in case.names if least[h] == fewest)
        assert not totals.exposes(fewest, protected & same - named)


@settings(max_examples=300)
@given(cases())
def test_the_rule_allows_nothing_that_exposes_a_hospital(case: Case) -> None:
    check(case)


@pytest.mark.release
@settings(max_examples=10_000)
@given(cases())
def test_the_rule_allows_nothing_that_exposes_a_hospital_in_many_histories(case: Case) -> None:
    check(case)


def test_the_exact_computation_finds_what_is_exposed() -> None:
    totals = Totals("ABCDE")
    totals.open(frozenset("ABCD"), (1, 0))
    totals.open(frozenset("ABC"), (0, 1))
    everyone = frozenset("ABCDE")
    assert not totals.exposes(3, everyone)
    assert totals.exposes(4, everyone)
    totals.open(frozenset("ABC"), (1, 0))
    assert totals.exposes(2, everyone)
    assert totals.exposes(3, everyone)
    assert not totals.exposes(3, everyone - {"D"})


@pytest.mark.slow
def test_the_module_tells_how_often_a_safe_set_is_refused() -> None:
    rng, refused, safe = random.Random(1), 0, 0
    for _ in range(10_000):
        names = "ABCDEFG"[: rng.randint(3, 7)]
        rule, so_far, totals = SetRule(rng.randint(2, 4)), SetHistory(), Totals(names)
        for _ in range(6):
            hospitals = frozenset(rng.sample(names, rng.randint(1, len(names))))
            totals.open(hospitals, (1, 0))
            if not rule.judge(so_far, hospitals).exposed:
                so_far = so_far.after(OpenedSet(hospitals))
                continue
            refused += 1
            safe += not totals.exposes(rule.min_contributors, frozenset(names))
            totals.rows.pop()
    words = f"{safe:,} of the {refused:,} sets that it refused"
    assert words in " ".join((set_rule.__doc__ or "").split())


@given(st.lists(st.sets(st.sampled_from("ABCDEFG"), min_size=1).map(frozenset), max_size=8))
def test_each_opened_set_is_a_union_of_classes(opened: list[frozenset[str]]) -> None:
    classes = SetHistory.of(map(OpenedSet, opened)).classes
    assert sorted("".join("".join(sorted(group)) for group in classes)) == sorted(
        frozenset[str]().union(*opened)
    )
    for hospitals in opened:
        assert all(group <= hospitals or not group & hospitals for group in classes)
    pattern = {h: [h in hospitals for hospitals in opened] for group in classes for h in group}
    assert {frozenset(group) for group in classes} == {
        frozenset(h for h, of in pattern.items() if of == one) for one in pattern.values()
    }


@pytest.mark.parametrize(
    ("opened", "asked", "whom"),
    [
        ([], "ABC", ""),
        ([], "AB", "AB"),
        (["ABCD"], "ABCD", ""),
        (["ABCD"], "ABC", "D"),
        (["ABC"], "ABCD", "D"),
        (["ABC"], "DE", "DE"),
        (["ABC"], "DEF", ""),
        (["ABC"], "ABCDEF", ""),
        (["ABCDEF"], "ABC", ""),
        (["ABCDEF"], "ABCD", "EF"),
        (["ABCDEF", "ABC"], "DEF", ""),
        (["ABCDEF", "ABC"], "ADEF", "ABC"),
        (["ABC"], "CDE", "ABCDE"),  # refused although every combination has three hospitals
    ],
)
def test_whom_a_set_exposes(opened: list[str], asked: str, whom: str) -> None:
    assert exposed(SetRule(3), history(*opened), asked) == whom


@pytest.mark.parametrize(
    ("alone", "opened", "asked", "whom"),
    [
        ("D", ["ABCD"], "ABC", ""),
        ("C", ["ABCD"], "ABD", ""),
        ("C", ["ABC"], "AB", "AB"),  # the others are too few without C
        ("C", [], "ABC", ""),  # C covers A and B
        ("C", [], "AC", "A"),
        ("CD", ["ABECD"], "ABE", ""),
        ("", ["ABCD", "ABC"], "ABC", "D"),  # D has withdrawn its permission
    ],
)
def test_a_hospital_that_allows_it_may_be_singled_out(
    alone: str, opened: list[str], asked: str, whom: str
) -> None:
    assert exposed(SetRule(3, frozenset(alone)), allowed(alone, *opened), asked) == whom


def test_a_permission_that_comes_after_a_total_does_not_count() -> None:
    late, early = history("ABCD"), allowed("C", "ABCD")
    for before, whom in ((late, "C"), (early, "")):
        assert exposed(SetRule(3, frozenset("C")), before, "ABD") == whom


def test_an_epoch_exposes_only_whom_it_names() -> None:
    rule = SetRule(3)
    before = [OpenedSet(frozenset("ABC")), OpenedSet(frozenset("DEF"))]
    assert exposed(rule, SetHistory.of(before), "ABCDEFG") == "G"
    decided = SetHistory.of([*before, Epoch(frozenset("ABCDEFG"), frozenset("G"))])
    assert exposed(rule, decided, "ABCDEFG") == ""
    later = decided.after(OpenedSet(frozenset("ABCDEFG")))
    assert exposed(rule, later, "ABCDEFG") == exposed(rule, later, "ABCDEF") == ""
    # Sets that a fresh history would allow, and that earlier totals split.
    assert exposed(rule, later, "ADE") == "ABCDEF"
    assert exposed(rule, later, "ABCG") == "G"


def test_a_hospital_that_an_epoch_lets_go_returns_only_by_another_epoch() -> None:
    rule, sets = SetRule(3), (frozenset("ABCDEF"), frozenset("ABCDE"))
    left: list[OpenedSet | Epoch] = [
        OpenedSet(sets[0]),
        Epoch(sets[1], frozenset("F")),
        OpenedSet(sets[1]),
    ]
    assert exposed(rule, SetHistory.of(left), "ABCDE") == ""
    assert exposed(rule, SetHistory.of(left), "ABCDEF") == "F"
    back = SetHistory.of([*left, Epoch(sets[0], frozenset("F"))])
    assert exposed(rule, back, "ABCDEF") == exposed(rule, back, "ABCDE") == ""
    joined = SetHistory.of([*left, Epoch(frozenset("ABCDEG"), frozenset("G"))])
    assert exposed(rule, joined, "ABCDEG") == ""  # the epoch of F still counts


def test_a_set_of_whole_classes_need_not_be_kept() -> None:
    before = SetHistory.of(OpenedSet(frozenset(one), least=3) for one in ("ABCDEF", "ABC"))
    for asked, changes in (("ABCDEF", False), ("DEF", False), ("ABCGHI", True), ("AB", True)):
        assert (SetRule(3).judge(before, frozenset(asked)).opened is not None) is changes
    assert SetRule(4).judge(before, frozenset("ABC")).opened is not None


def test_a_coordinator_sees_one_sentence() -> None:
    names = [f"h{number:02}" for number in range(40)]
    before = SetHistory.of([OpenedSet(frozenset(names))])
    verdict = SetRule(3).judge(before, frozenset(names[1:]))
    assert str(verdict) == (
        "the total of these 39 hospitals would expose h00: fewer than 3 hospitals "
        "(min_contributors) would share the same totals; ask the hospitals of an earlier total "
        "again, or let company X's operator begin a new epoch"
    )
    many = SetRule(20).judge(before, frozenset(names[:15]))
    assert "h00, h01, h02, h03, h04, h05, h06, h07, h08, h09 and 5 more: fewer" in str(many)
    opened = SetRule(3).judge(before, frozenset(names))
    assert str(opened) == "the total of these 40 hospitals may be opened"


def test_lines_of_a_ledger_are_read_back() -> None:
    opened = OpenedSet(frozenset("BCA"), frozenset("C"), 3)
    epoch = Epoch(frozenset("AB"), frozenset("C"))
    assert OPENED.dumps(opened) == '{"opened":["A","B","C"],"alone":["C"],"least":3}'
    assert EPOCH.dumps(epoch) == '{"epoch":["A","B"],"exposes":["C"]}'
    assert OPENED.loads(OPENED.dumps(opened), OpenedSet) == opened
    assert EPOCH.loads(EPOCH.dumps(epoch), Epoch) == epoch


@pytest.mark.parametrize("names", ["[]", '["B","A"]', '["A","A"]', '["A",1]', '["A b"]', '"A"'])
def test_a_line_that_is_no_set_of_names_is_refused(names: str) -> None:
    with pytest.raises(LedgerError):
        OPENED.loads(f'{{"opened":{names},"alone":[],"least":3}}', OpenedSet)
    with pytest.raises(LedgerError):
        EPOCH.loads(f'{{"epoch":["A"],"exposes":{names}}}', Epoch)


def test_the_longest_line_fits_a_ledger() -> None:
    everyone = frozenset(f"{number:064}" for number in range(1100))
    line = EPOCH.dumps(Epoch(everyone, everyone))
    assert EPOCH.loads(line, Epoch).hospitals == everyone
    line = OPENED.dumps(OpenedSet(everyone, everyone, 1000))
    assert OPENED.loads(line, OpenedSet).hospitals == everyone


def test_a_decision_after_many_sets_takes_few_steps() -> None:
    """For each set a few steps a hospital: function calls are counted, as time depends on load."""
    rng, names = random.Random(1), [f"hospital-{number:03}" for number in range(100)]
    opened = [OpenedSet(frozenset(rng.sample(names, 50))) for _ in range(1000)]
    steps = 0

    def count(_frame: object, event: str, _called: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        verdict = SetRule(3).judge(SetHistory.of(opened), frozenset(names[1:]))
    finally:
        sys.setprofile(None)
    assert verdict.exposed
    assert len(opened) < steps < 5 * len(opened) * len(names)
