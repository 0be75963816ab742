"""CaPC's table of steps, and the mail that goes by it."""

from __future__ import annotations

from collections import Counter

import pytest

from fl_he.capc.coordinator.rounds import Mail
from fl_he.capc.node import app
from fl_he.capc.protocol import FIRST, OPENING, STEPS, TABLE, CapcRole, CapcStep, Places
from fl_he.wire.records import ProtocolError

PLACES = Places("anne", ("john", "luke", "mary"), "holder")


def test_every_part_is_taken_by_one_step_and_given_by_some() -> None:
    taken = Counter(part for row in TABLE for part in row.takes)
    given = {part for row in TABLE for part in row.gives}
    assert set(taken.values()) == {1}
    assert set(taken) == given


def test_no_step_takes_or_gives_two_parts_of_one_name() -> None:
    for row in TABLE:
        for parts in (row.takes, row.gives):
            assert len({part.name for part in parts}) == len(parts), row.step


def test_a_part_does_not_stay_with_its_sender_but_in_the_chain() -> None:
    takers = {part: row for row in TABLE for part in row.takes}
    inside = {(row.step, p.name) for row in TABLE for p in row.gives if takers[p].role is row.role}
    assert inside == {(CapcStep.COLLECT, "sum")}


def test_each_step_has_its_function_and_its_place() -> None:
    assert {*app._FUNCTIONS, CapcStep.LEARN} == STEPS.keys()
    assert [*CapcStep][4:] == [row.step for row in TABLE]
    assert [row.step for row in OPENING] == [CapcStep.ASK, CapcStep.NOISE]
    assert FIRST[CapcRole.ANSWERING] is CapcStep.EVALUATE


def test_a_role_is_that_of_the_batch() -> None:
    roles = [PLACES.role(name) for name in ("anne", "mary", "holder", "nobody")]
    assert roles == [CapcRole.QUERYING, CapcRole.ANSWERING, CapcRole.GUARDIAN, None]


@pytest.mark.parametrize(
    ("own", "tested", "missing"),
    [
        ("john", True, ["positions"]),
        ("luke", True, ["positions", "sum"]),
        ("mary", True, ["positions", "sum", "noise", "test-noise"]),
        ("mary", False, ["positions", "sum", "noise"]),
    ],
)
def test_a_party_waits_for_the_votes_before_it_and_the_last_one_for_noise(
    own: str, tested: bool, missing: list[str]
) -> None:
    assert PLACES.missing(STEPS[CapcStep.COLLECT], [], own, tested=tested) == missing


@pytest.mark.parametrize(("tested", "missing"), [(True, "answers"), (False, "winners")])
def test_the_last_step_waits_for_what_the_threshold_calls_for(tested: bool, missing: str) -> None:
    assert PLACES.missing(STEPS[CapcStep.LEARN], [], "anne", tested=tested) == [missing]


def take(mail: Mail, gives: dict[str, str] | None = None) -> tuple[CapcStep, list[str]]:
    """Have all nodes of the next step reply, and return the step and their names.

    A node gives the part that `gives` names, or the first one of the step.
    """
    due = mail.due()
    assert due is not None
    row, taken = due
    for name, parts in taken.items():
        if row.by_party:
            mail.post(row, name, dict.fromkeys(parts or PLACES.answering, b""), parts)
        elif row.gives:
            part = (gives or {}).get(name, row.gives[0].name)
            mail.post(row, name, {part: b""}, parts)
    return row.step, list(taken)


def test_answering_parties_wait_for_those_with_more_layers() -> None:
    mail = Mail(PLACES, in_turn=True)
    assert take(mail) == (CapcStep.ASK, ["anne"])
    shallow = {"john": "blinded", "mary": "blinded"}
    assert take(mail, shallow) == (CapcStep.EVALUATE, ["john", "luke", "mary"])
    layer = [take(mail, {"luke": units}) for units in ("", "compared", "", "units")]
    assert layer == [
        (CapcStep.UNIT_BITS, ["anne"]),
        (CapcStep.COMPARE_UNITS, ["luke"]),
        (CapcStep.PRODUCTS, ["anne"]),
        (CapcStep.RECTIFY, ["luke"]),
    ]
    again = [take(mail, {"luke": units})[0] for units in ("", "compared", "", "blinded")]
    assert again == [step for step, _ in layer]
    assert take(mail) == (CapcStep.LOGIT_BITS, ["anne"])
    assert take(mail) == (CapcStep.COMPARE, ["john", "luke", "mary"])
    assert take(mail) == (CapcStep.VOTE, ["anne"])
    assert take(mail) == (CapcStep.NOISE, ["holder"])
    chain = [take(mail, {"mary": "noisy-counts"}) for _ in range(3)]
    assert chain == [(CapcStep.COLLECT, [name]) for name in PLACES.answering]
    rest = [take(mail)[0] for _ in range(5)]
    assert rest[1:3] == [CapcStep.COUNT_BITS, CapcStep.COMPARE_COUNTS]
    assert rest[4] is CapcStep.LEARN
    assert mail.due() is None


@pytest.mark.parametrize("names", [(), ("john", "luke"), ("john", "luke", "mary", "nobody")])
def test_a_querying_party_that_leaves_somebody_out_is_refused(names: tuple[str, ...]) -> None:
    mail = Mail(PLACES, in_turn=True)
    with pytest.raises(ProtocolError, match=r"anne replied to query\.capc_ask with the parts"):
        mail.post(STEPS[CapcStep.ASK], "anne", dict.fromkeys(names, b""), {})


@pytest.mark.parametrize("names", [(), ("votes",), ("units", "features")])
def test_a_node_that_gives_something_else_is_refused(names: tuple[str, ...]) -> None:
    mail = Mail(PLACES, in_turn=True)
    given = dict.fromkeys(names, b"")
    with pytest.raises(ProtocolError, match=r"john replied to|has no part"):
        mail.post(STEPS[CapcStep.EVALUATE], "john", given, {"features": b""})


def test_only_the_last_party_of_a_chain_gives_no_sum() -> None:
    mail = Mail(PLACES, in_turn=True)
    with pytest.raises(ProtocolError, match="the last one's must have the guardian's noise"):
        mail.post(STEPS[CapcStep.COLLECT], "mary", {"sum": b""}, {"positions": b""})
