"""A coordinator that lies to nodes with a manifest: each lie is refused, and nothing is opened."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identities import make
from sealed_federation import COMPANY, FEATURES, Federation, terms
from sealed_steps import Steps, reason, sealed
from ticketed_sums import MadeSum

from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.opening import Opener
from fl_he.clients.totals.model import canonical, terms_of
from fl_he.clients.totals.payload import (
    RunningSum,
    running_sum_binding,
    session_binding,
    total_binding,
)
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.sealing import seal, unseal
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import SCHEMES
from fl_he.crypto.tickets.opening import TicketError, value_key_of
from fl_he.wire.encrypted_sum import DECRYPT, FINISH, DecryptRequest, EncryptionRequest
from fl_he.wire.model import model_arrays, model_message_content
from fl_he.wire.sealed_messages import (
    JOIN,
    OPEN,
    SESSION,
    OpenReply,
    SealedTotal,
    SessionRequest,
)
from fl_he.wire.totals import Total
from fl_he.wire.update_layout import UpdateLayout

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}
NORTH, SOUTH, EAST, WEST = HOSPITALS
ALL = tuple(HOSPITALS)


@pytest.fixture(params=SCHEMES)
def steps(tmp_path: Path, request: pytest.FixtureRequest) -> Steps:
    steps = Steps(Federation(tmp_path, HOSPITALS), request.param)
    steps.start()
    return steps


@pytest.fixture
def nothing_opened(steps: Steps) -> Iterator[None]:
    """Check that company X has opened nothing and answered no request to open with a total."""
    yield
    assert steps.opened_rounds() == []
    assert not [
        reply
        for reply in steps.federation.grid.received
        if reply.metadata.message_type in (OPEN, DECRYPT) and reply.has_content()
    ]


def sealed_layout(steps: Steps) -> str:
    """Return a hospital's description of the slots of a sum."""
    sealed(steps.hop(NORTH, 1, [], SOUTH))
    contribution = steps.federation.state(NORTH).contribution
    assert contribution is not None
    return contribution.running_sum.layout


def model(steps: Steps, name: str) -> dict[str, list[float]]:
    arrays = steps.federation.state(name).learnt.model
    return {key: array.numpy().tolist() for key, array in arrays.items()}


@pytest.mark.usefixtures("nothing_opened")
class TestKeys:
    def test_a_swapped_paillier_key(self, steps: Steps) -> None:
        own = PrivateKey.generate(1024).public_key
        steps.public_key = own.to_json()
        pinned = steps.federation.key.public_key.fingerprint
        assert reason(steps.hop(NORTH, 1, [], SOUTH)) == (
            f"the public key must be the one that company-x signed, {pinned}, got {own.fingerprint}"
        )

    def test_a_node_that_is_not_in_the_manifest_is_sealed_for_by_nobody(self, steps: Steps) -> None:
        assert "a node must be one of" in reason(steps.hop(NORTH, 1, [], "mallory"))

    def test_an_impostor_of_the_hospital_before(self, steps: Steps) -> None:
        impostor = make(NORTH, number=1)
        entry = steps.federation.identities[SOUTH].public
        envelope = seal(b"?", impostor, entry, running_sum_binding(steps.session, 1, [NORTH]))
        assert "the envelope must be from north" in reason(
            steps.hop(SOUTH, 1, [NORTH], EAST, envelope)
        )

    def test_a_swapped_sealing_key_in_one_nodes_manifest(self, steps: Steps) -> None:
        federation = steps.federation
        swapped = make(SOUTH, number=1).public
        others = [node for node in federation.manifest.nodes if node.name != SOUTH]
        manifest = Manifest((*others, swapped))
        (federation.folder / "other.json").write_text(manifest.to_json())
        federation.context(NORTH).node_config["federation"] = str(federation.folder / "other.json")
        assert steps.join(NORTH).manifest == manifest.fingerprint != steps.join(EAST).manifest
        envelope = sealed(steps.hop(NORTH, 1, [], SOUTH))
        assert "the envelope must be for south" in reason(
            steps.hop(SOUTH, 1, [NORTH], EAST, envelope)
        )


@pytest.mark.usefixtures("nothing_opened")
class TestLoneCiphertext:
    def test_no_hospital_seals_its_update_alone_for_company_x(self, steps: Steps) -> None:
        assert reason(steps.hop(NORTH, 1, [], COMPANY)) == (
            "a sum for company X must have at least 3 contributors, got 1"
        )
        envelope = sealed(steps.hop(NORTH, 1, [], SOUTH))
        assert "at least 3 contributors, got 2" in reason(
            steps.hop(SOUTH, 1, [NORTH], COMPANY, envelope)
        )

    def test_nor_when_it_is_asked_to_seal_it_again(self, steps: Steps) -> None:
        sealed(steps.hop(NORTH, 1, [], SOUTH))
        assert "at least 3 contributors, got 1" in reason(steps.reseal(NORTH, 1, COMPANY))

    def test_an_envelope_for_the_next_hospital_opens_nowhere_else(self, steps: Steps) -> None:
        envelope = sealed(steps.hop(NORTH, 1, [], SOUTH))
        assert "the envelope must be for company-x" in reason(steps.open(1, [NORTH], envelope))
        assert "the envelope must be for east" in reason(
            steps.hop(EAST, 1, [NORTH], SOUTH, envelope)
        )

    def test_company_x_has_a_limit_of_its_own(self, steps: Steps) -> None:
        steps.federation.context(NORTH).node_config["min-contributors"] = 1
        envelope = sealed(steps.hop(NORTH, 1, [], COMPANY))
        assert "at least 3 and at most 4 contributors, got 1" in reason(
            steps.open(1, [NORTH], envelope)
        )

    def test_company_xs_node_configuration_goes_before_its_policy(self, steps: Steps) -> None:
        steps.federation.context(COMPANY).node_config["min-contributors"] = 4
        envelope = steps.chain(1, [NORTH, SOUTH, EAST])
        assert "at least 4 and at most 4 contributors, got 3" in reason(
            steps.open(1, [NORTH, SOUTH, EAST], envelope)
        )

    def test_company_x_opens_nothing_that_is_not_sealed(self, steps: Steps) -> None:
        made = MadeSum(steps.federation.key.public_key, [3.0, 9.0], 3, steps.federation.packing)
        request = DecryptRequest(steps.session, "train", 1, 3, made.to_bytes(steps.session))
        assert reason(steps.ask(COMPANY, DECRYPT, request.to_content())) == (
            "this node takes part in sealed chains only, and the 'query.decrypt' message is open"
        )


@pytest.mark.usefixtures("nothing_opened")
class TestForgedCount:
    def test_more_than_there_are(self, steps: Steps) -> None:
        envelope = steps.chain(1, [NORTH, SOUTH, EAST])
        forged = [WEST, NORTH, SOUTH, EAST]
        assert reason(steps.open(1, forged, envelope)) == (
            "the envelope's position must be 4, got 3"
        )
        assert "the envelope must be from west" in reason(
            steps.open(1, [NORTH, SOUTH, EAST, WEST], envelope)
        )

    def test_others_than_there_are(self, steps: Steps) -> None:
        envelope = steps.chain(1, [NORTH, SOUTH, EAST])
        assert "the envelope's contributors must be ('west', 'south', 'east')" in reason(
            steps.open(1, [WEST, SOUTH, EAST], envelope)
        )

    @pytest.mark.parametrize(
        ("contributors", "words"),
        [
            ([NORTH, NORTH, SOUTH], "contributors must be different"),
            (["mallory", NORTH, SOUTH], r"must be hospitals of the manifest, got ['mallory']"),
            ([COMPANY, NORTH, SOUTH], r"must be hospitals of the manifest, got ['company-x']"),
        ],
    )
    def test_contributors_that_cannot_be(
        self, steps: Steps, contributors: list[str], words: str
    ) -> None:
        envelope = steps.chain(1, [NORTH, SOUTH, EAST])
        assert words in reason(steps.open(1, contributors, envelope))
        assert words in reason(steps.hop(WEST, 1, contributors, COMPANY, envelope))


def test_a_hospital_that_signs_more_than_it_has(steps: Steps) -> None:
    """The hospital colludes with the coordinator: company X checks the sum, no more."""
    names = [NORTH, SOUTH, EAST]
    zeros = model_arrays(np.zeros(len(FEATURES)), 0.0)
    digest = terms_of(canonical(steps.config), zeros, "")
    numbers = [1.0, 9.0, *[0.5] * 10]
    federation = steps.federation
    made_up = MadeSum(
        *(federation.key.public_key, numbers, names, federation.packing), scheme=steps.scheme
    )
    data = made_up.to_bytes(steps.session)
    payload = RunningSum(0, digest, sealed_layout(steps), data).to_bytes()
    envelope = seal(
        payload,
        steps.federation.identities[EAST],
        steps.federation.identities[COMPANY].public,
        running_sum_binding(steps.session, 1, names),
    )
    assert reason(steps.open(1, names, envelope)) == str(TicketError())


class TestReplay:
    def test_a_hospital_contributes_to_a_round_once(self, steps: Steps) -> None:
        sealed(steps.hop(NORTH, 2, [], SOUTH))
        for round_, next_node in ((2, EAST), (1, SOUTH)):
            assert reason(steps.hop(NORTH, round_, [], next_node)) == (
                "a hospital contributes to each round once, in order: this one has contributed to "
                f"round 2 and was asked for round {round_}"
            )

    def test_but_a_lost_reply_can_be_asked_for_again(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        before = [sealed(steps.hop(NORTH, 1, [], SOUTH)) for _ in range(2)]
        middle = sealed(steps.hop(SOUTH, 1, [NORTH], EAST, before[0]))
        last = sealed(steps.hop(EAST, 1, [NORTH, SOUTH], COMPANY, middle))
        first, again = (steps.open(1, names, last) for _ in range(2))
        assert steps.opened_rounds() == [1]
        for name, reply in ((WEST, first), (NORTH, again)):
            total = OpenReply.from_content(reply.content).totals[name]
            assert steps.finish(name, [SealedTotal(1, tuple(names), total)]).has_content()
        assert model(steps, WEST) == model(steps, NORTH)

    def test_a_round_is_opened_once(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        envelope = steps.chain(1, names)
        others = [NORTH, SOUTH, WEST]
        other = sealed(
            steps.hop(WEST, 1, others[:2], COMPANY, sealed(steps.reseal(SOUTH, 1, WEST)))
        )
        assert steps.open(1, names, envelope).has_content()
        assert reason(steps.open(1, others, other)) == (
            "a round is opened once, in order: train 1 is open already, got train 1"
        )
        assert reason(steps.open(2, names, envelope)) == "the envelope's round must be 2, got 1"
        assert steps.opened_rounds() == [1]

    def test_a_sum_of_another_round_is_handed_to_nobody(self, steps: Steps) -> None:
        envelope = sealed(steps.hop(NORTH, 1, [], SOUTH))
        assert reason(steps.hop(SOUTH, 2, [NORTH], EAST, envelope)) == (
            "the envelope's round must be 2, got 1"
        )

    def test_a_round_before_one_that_is_open(self, steps: Steps) -> None:
        totals = steps.round(5, [NORTH, SOUTH, EAST])
        assert "round 5 is, got 4" in reason(steps.hop(WEST, 4, [], SOUTH, None, [totals[WEST]]))
        assert "round 5 is, got 5" in reason(steps.hop(WEST, 5, [], SOUTH))

    def test_a_sum_over_the_model_before(self, steps: Steps) -> None:
        """The difference of two rounds on one model would show the difference of their sets."""
        steps.round(1, [NORTH, SOUTH, EAST])
        names = [WEST, NORTH, SOUTH]
        assert "over the model after train 1" in reason(steps.open(2, names, steps.chain(2, names)))
        assert steps.opened_rounds() == [1]

    def test_two_sums_over_one_model_at_the_same_time(
        self, steps: Steps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two processes of company X: one opens its sum while the other has not noted its own."""
        all_of_them = steps.chain(1, [NORTH, SOUTH, EAST, WEST])
        without_west = steps.chain(2, [NORTH, SOUTH, EAST])
        opens = Opener.open
        others: list[Message] = []

        def meanwhile(*arguments: Any, **settings: Any) -> Any:
            monkeypatch.setattr(Opener, "open", opens)
            others.append(steps.open(1, [NORTH, SOUTH, EAST, WEST], all_of_them))
            return opens(*arguments, **settings)

        monkeypatch.setattr(Opener, "open", meanwhile)
        assert reason(steps.open(2, [NORTH, SOUTH, EAST], without_west)) == (
            "a sum must be over the model after train 1, the last that was opened, not over "
            "the model after round 0"
        )
        assert others[0].has_content()
        assert steps.opened_rounds() == [1]


@pytest.mark.usefixtures("nothing_opened")
class TestSpoiledEnvelopes:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_any_altered_byte_is_found_by_the_next_hospital(
        self, steps: Steps, data: st.DataObject
    ) -> None:
        if not hasattr(steps, "kept"):
            steps.kept = sealed(steps.hop(NORTH, 1, [], SOUTH))  # type: ignore[attr-defined]
        spoiled = bytearray(steps.kept)  # type: ignore[attr-defined]
        at = data.draw(st.integers(0, len(spoiled) - 1))
        spoiled[at] ^= data.draw(st.integers(1, 255))
        assert "envelope" in reason(steps.hop(SOUTH, 1, [NORTH], EAST, bytes(spoiled)))

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_any_altered_byte_is_found_by_company_x(
        self, steps: Steps, data: st.DataObject
    ) -> None:
        names = [NORTH, SOUTH, EAST]
        if not hasattr(steps, "kept"):
            steps.kept = steps.chain(1, names)  # type: ignore[attr-defined]
        spoiled = bytearray(steps.kept)  # type: ignore[attr-defined]
        at = data.draw(st.integers(0, len(spoiled) - 1))
        spoiled[at] ^= data.draw(st.integers(1, 255))
        assert "envelope" in reason(steps.open(1, names, bytes(spoiled)))

    @pytest.mark.parametrize("length", [0, 16, 17, 200, -65, -1])
    def test_truncated(self, steps: Steps, length: int) -> None:
        envelope = steps.chain(1, [NORTH, SOUTH, EAST])[:length]
        assert "envelope must have" in reason(steps.open(1, [NORTH, SOUTH, EAST], envelope))
        first = sealed(steps.reseal(NORTH, 1, WEST))[:length]
        assert "envelope must have" in reason(steps.hop(WEST, 1, [NORTH], SOUTH, first))


@pytest.mark.usefixtures("nothing_opened")
class TestOrder:
    def test_envelopes_in_the_wrong_order(self, steps: Steps) -> None:
        first = sealed(steps.hop(NORTH, 1, [], SOUTH))
        second = sealed(steps.hop(SOUTH, 1, [NORTH], EAST, first))
        assert "the envelope must be from south" in reason(
            steps.hop(EAST, 1, [NORTH, SOUTH], WEST, first)
        )
        assert "the envelope's position must be 1, got 2" in reason(
            steps.hop(EAST, 1, [SOUTH], WEST, second)
        )

    def test_a_sum_that_has_the_own_update_already(self, steps: Steps) -> None:
        first = sealed(steps.hop(NORTH, 1, [], SOUTH))
        assert "must be company X or a hospital that is not in the sum" in reason(
            steps.hop(SOUTH, 1, [NORTH], NORTH, first)
        )
        second = sealed(steps.hop(SOUTH, 1, [NORTH], EAST, first))
        assert "must not have this hospital's update already" in reason(
            steps.hop(NORTH, 2, [NORTH, SOUTH], EAST, second)
        )

    def test_a_sum_without_contributors_or_the_other_way_round(self, steps: Steps) -> None:
        first = sealed(steps.hop(NORTH, 1, [], SOUTH))
        for before, envelope in (([], first), ([NORTH], None)):
            assert "must come with its contributors" in reason(
                steps.hop(SOUTH, 1, before, EAST, envelope)
            )

    def test_what_is_sealed_again(self, steps: Steps) -> None:
        first = sealed(steps.hop(NORTH, 1, [], SOUTH))
        sealed(steps.hop(SOUTH, 1, [NORTH], EAST, first))
        assert sealed(steps.reseal(SOUTH, 1, WEST))
        for name, round_, next_node, words in (
            (SOUTH, 2, WEST, "sealed again in its own round only"),
            (SOUTH, 1, NORTH, "not in the sum yet"),
            (SOUTH, 1, SOUTH, "not in the sum yet"),
            (SOUTH, 1, "mallory", "a node must be one of"),
            (EAST, 1, WEST, "the session must be the one"),
        ):
            assert words in reason(steps.reseal(name, round_, next_node))


class TestTotals:
    def test_nothing_is_sealed_again_for_another_session_or_once_the_total_is_known(
        self, steps: Steps
    ) -> None:
        totals = steps.round(1, [NORTH, SOUTH, EAST])
        right, steps.session = steps.session, "0" * 32
        assert "the session must be the one" in reason(steps.reseal(NORTH, 1, WEST))
        steps.session = right
        assert sealed(steps.reseal(NORTH, 1, WEST))
        assert steps.finish(NORTH, [totals[NORTH]]).has_content()
        assert "as long as its total is not known" in reason(steps.reseal(NORTH, 1, WEST))

    def test_a_hospital_applies_what_it_lacks_in_order(self, steps: Steps) -> None:
        first = steps.round(1, [NORTH, SOUTH, EAST])
        sealed(steps.hop(NORTH, 2, [], SOUTH, None, [first[NORTH]]))
        assert model(steps, NORTH) != model(steps, SOUTH)
        assert steps.finish(SOUTH, [first[SOUTH]]).has_content()
        assert model(steps, NORTH) == model(steps, SOUTH)

    def test_skipped_repeated_reordered(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        first = steps.round(1, names)
        for name in names:
            assert steps.finish(name, [first[name]]).has_content()
        second = steps.round(2, names)
        assert reason(steps.finish(WEST, [second[WEST]])) == (
            "total 2 must follow total 1, and this hospital's model is the one after total 0"
        )
        assert "must follow total 1" in reason(steps.finish(WEST, [second[WEST], first[WEST]]))
        before = steps.federation.state(NORTH).to_text()
        assert steps.finish(NORTH, [first[NORTH]]).has_content()
        assert steps.federation.state(NORTH).to_text() == before
        assert steps.finish(WEST, [first[WEST], first[WEST]]).has_content()
        moved = dataclasses.replace(first[NORTH], round=2)
        assert reason(steps.finish(NORTH, [moved])) == "the envelope's round must be 2, got 1"
        fewer = dataclasses.replace(second[NORTH], contributors=(NORTH, SOUTH, WEST))
        assert "the envelope's contributors must be" in reason(steps.finish(NORTH, [fewer]))
        assert steps.finish(WEST, [second[WEST]]).has_content()

    def test_made_up_or_for_somebody_else(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        totals = steps.round(1, names)
        assert "the envelope must be for south" in reason(steps.finish(SOUTH, [totals[NORTH]]))
        payload = Total(0, "{}", np.ones(3), bytes(32), 1, bytes(32)).to_bytes()
        entry = steps.federation.identities[SOUTH].public
        for forger in (make(COMPANY, "key-holder", 1), steps.federation.identities[NORTH]):
            envelope = seal(payload, forger, entry, total_binding(steps.session, 1, names))
            assert "the envelope must be from company-x" in reason(
                steps.finish(SOUTH, [SealedTotal(1, tuple(names), envelope)])
            )
        assert model(steps, SOUTH) == {"coefficients": [0.0] * len(FEATURES), "intercept": [0.0]}

    def test_a_sum_is_no_total(self, steps: Steps) -> None:
        names = (NORTH, SOUTH, EAST)
        envelope = steps.chain(1, names)
        assert "the envelope must be from company-x" in reason(
            steps.finish(WEST, [SealedTotal(1, names, envelope)])
        )

    def test_who_was_left_out_finds_out(
        self, steps: Steps, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = [NORTH, SOUTH, EAST]
        envelope = steps.chain(1, names)
        sealed(steps.hop(WEST, 1, [NORTH, SOUTH], COMPANY, sealed(steps.reseal(SOUTH, 1, WEST))))
        reply = OpenReply.from_content(steps.open(1, names, envelope).content)
        for name in (NORTH, WEST):
            total = SealedTotal(1, tuple(names), reply.totals[name])
            assert steps.finish(name, [total]).has_content()
        assert [record.message for record in caplog.records if "without" in record.message] == [
            "round 1 was opened without this hospital's update, which it had sent"
        ]

    def test_who_was_not_asked_has_nothing_to_find_out(
        self, steps: Steps, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert "after the first total of its session" in reason(steps.finish(WEST))
        names = [NORTH, SOUTH, EAST]
        totals = steps.round(1, names)
        for name in ALL:
            assert steps.finish(name, [totals[name]]).has_content()
        assert "this hospital" not in caplog.text

    def test_totals_lie_on_one_line(self, steps: Steps) -> None:
        """Company X states after which round each is, and it could be wrong."""
        names = (NORTH, SOUTH, EAST)
        totals = steps.round(2, names)
        assert steps.finish(WEST, [totals[WEST]]).has_content()
        company_x = steps.federation.identities[COMPANY]
        west = steps.federation.identities[WEST]
        opened = Total.from_bytes(
            unseal(
                totals[WEST].envelope,
                west,
                company_x.public,
                total_binding(steps.session, 2, names),
            )
        )
        for after in (0, 1, 3):
            envelope = seal(
                dataclasses.replace(opened, after=after, counter=2).to_bytes(),
                company_x,
                west.public,
                total_binding(steps.session, 3, names),
            )
            assert f"must follow total {after}" in reason(
                steps.finish(WEST, [SealedTotal(3, names, envelope)])
            )

    def test_nobody_is_said_to_be_in_a_sum_that_is_not(self, steps: Steps) -> None:
        """North colludes with the coordinator and invents the others: the whole sum is west's."""
        federation = steps.federation
        others = (SOUTH, EAST, NORTH)
        layout = sealed_layout(steps)
        numbers = [3.0, 1.0, *[0.0] * 10]
        made_up = MadeSum(
            *(federation.key.public_key, numbers, others, federation.packing),
            metric_values=UpdateLayout.from_json(layout).metric_values,
            scheme=steps.scheme,
            value_key=value_key_of(federation.key),  # north has it
        )
        terms = federation.state(NORTH).terms
        envelope = seal(
            RunningSum(0, terms, layout, made_up.to_bytes(steps.session)).to_bytes(),
            federation.identities[NORTH],
            federation.identities[WEST].public,
            running_sum_binding(steps.session, 2, others),
        )
        last = sealed(steps.hop(WEST, 2, others, COMPANY, envelope))
        assert reason(steps.open(2, (*others, WEST), last)) == str(TicketError())

    def test_the_tickets_are_those_of_the_contributors(self, steps: Steps) -> None:
        """East seals the received sum without its own update, and claims to have contributed."""
        federation = steps.federation
        names = (NORTH, SOUTH, WEST)
        honest = unseal(
            steps.chain(1, names),
            federation.identities[COMPANY],
            federation.identities[WEST].public,
            running_sum_binding(steps.session, 1, names),
        )
        claimed = (NORTH, SOUTH, EAST)
        envelope = seal(
            honest,
            federation.identities[EAST],
            federation.identities[COMPANY].public,
            running_sum_binding(steps.session, 1, claimed),
        )
        assert reason(steps.open(1, claimed, envelope)) == str(TicketError())

    def test_who_lacks_a_total_contributes_to_no_sum(self, steps: Steps) -> None:
        first = steps.round(1, [NORTH, SOUTH, EAST])
        envelope = sealed(steps.hop(NORTH, 2, [], WEST, None, [first[NORTH]]))
        assert reason(steps.hop(WEST, 2, [NORTH], SOUTH, envelope)) == (
            "north must have the model after round 0 as this hospital has, got the one after "
            "round 1"
        )

    def test_a_sum_over_an_older_model_is_not_added_to(self, steps: Steps) -> None:
        first = steps.round(1, [NORTH, SOUTH, EAST])
        envelope = sealed(steps.hop(NORTH, 2, [], WEST))
        assert reason(steps.hop(WEST, 2, [NORTH], SOUTH, envelope, [first[WEST]])) == (
            "north must have the model after round 1 as this hospital has, got the one after "
            "round 0"
        )


@pytest.mark.usefixtures("nothing_opened")
class TestSession:
    def test_a_hospital_without_a_statement(self, steps: Steps) -> None:
        steps.statements.clear()
        assert "must be told the session first" in reason(steps.hop(NORTH, 1, [], SOUTH))

    def test_an_old_statement(self, steps: Steps, tmp_path: Path) -> None:
        folder = tmp_path / "new"
        folder.mkdir()
        new = Steps(Federation(folder, HOSPITALS))
        new.start()
        new.session, new.statements = steps.session, steps.statements
        assert "answers another challenge than this hospital's" in reason(
            new.hop(NORTH, 1, [], SOUTH)
        )

    def test_a_statement_that_company_x_has_not_made(self, steps: Steps) -> None:
        challenge = steps.join(NORTH).challenge
        entry = steps.federation.identities[NORTH].public
        for forger in (make(COMPANY, "key-holder", 1), steps.federation.identities[SOUTH]):
            steps.statements[NORTH] = seal(
                challenge.encode(), forger, entry, session_binding(steps.session)
            )
            assert "the envelope must be from company-x" in reason(steps.hop(NORTH, 1, [], SOUTH))

    def test_a_statement_for_another_session_or_hospital(self, steps: Steps) -> None:
        right, steps.session = steps.session, "0" * 32
        assert f"the envelope's run must be '{'0' * 32}', got '{right}'" in reason(
            steps.hop(NORTH, 1, [], SOUTH)
        )
        steps.session, steps.statements[NORTH] = right, steps.statements[SOUTH]
        assert "the envelope must be for north" in reason(steps.hop(NORTH, 1, [], SOUTH))

    def test_company_x_signs_no_long_texts_of_others(self, steps: Steps) -> None:
        request = SessionRequest("", {NORTH: "0" * 65})
        assert reason(steps.ask(COMPANY, SESSION, request.to_content())) == (
            "a challenge must have at most 64 characters, got 65"
        )
        for name, words in (("mallory", "a node must be one of"), (COMPANY, "hospitals")):
            request = SessionRequest("", {name: "0"})
            assert words in reason(steps.ask(COMPANY, SESSION, request.to_content()))

    def test_a_change_of_session(self, steps: Steps) -> None:
        sealed(steps.hop(NORTH, 1, [], SOUTH))
        right, steps.session = steps.session, "0" * 32
        assert f"the session must be '{right}' for the whole run" in reason(
            steps.hop(NORTH, 2, [], SOUTH)
        )
        assert "the session must be one" in reason(steps.open(1, [NORTH], b""))

    def test_an_envelope_of_an_old_run(self, steps: Steps, tmp_path: Path) -> None:
        old = sealed(steps.hop(NORTH, 1, [], SOUTH))
        folder = tmp_path / "new"
        folder.mkdir()
        new = Steps(Federation(folder, HOSPITALS))
        new.start()
        assert f"the envelope's run must be '{new.session}', got '{steps.session}'" in reason(
            new.hop(SOUTH, 1, [NORTH], EAST, old)
        )


def resigned(steps: Steps, total: SealedTotal, **changes: Any) -> SealedTotal:
    """Return a total that company X has signed for south with something else in it."""
    company, south = (steps.federation.identities[name] for name in (COMPANY, SOUTH))
    binding = total_binding(steps.session, total.round, total.contributors)
    signed = Total.from_bytes(unseal(total.envelope, south, company.public, binding))
    payload = dataclasses.replace(signed, **changes).to_bytes()
    return dataclasses.replace(total, envelope=seal(payload, company, south.public, binding))


class TestSteps:
    """Every hospital computes each step, and adopts company X's numbers if the two agree."""

    def test_company_xs_step_must_be_the_one_that_follows(
        self, steps: Steps, caplog: pytest.LogCaptureFixture
    ) -> None:
        right = steps.round(1, [NORTH, SOUTH, EAST])[SOUTH]
        before = model(steps, SOUTH)
        company = steps.federation.identities[COMPANY]
        binding = total_binding(steps.session, 1, right.contributors)
        south = steps.federation.identities[SOUTH]
        memory = Total.from_bytes(unseal(right.envelope, south, company.public, binding)).memory
        training = json.loads(memory)
        for change in (
            {"theta": [value + 1e-6 for value in training["theta"]]},
            {"theta": [0.0] * len(training["theta"])},
            {"steps": 2},
            {"mean": [0.0] * 3},
        ):
            wrong = json.dumps({**training, **change})
            refused = reason(steps.finish(SOUTH, [resigned(steps, right, memory=wrong)]))
            assert refused == PRIVATE_REFUSAL, "the coordinator must not know the total"
            assert "refused: the step that company X has signed is not" in caplog.messages[-1]
        for nothing in ("", "{}", "null"):
            refused = reason(steps.finish(SOUTH, [resigned(steps, right, memory=nothing)]))
            assert refused == PRIVATE_REFUSAL
            assert "refused: the training so far:" in caplog.messages[-1]
        assert model(steps, SOUTH) == before
        rounded = {"theta": [value * (1 + 1e-15) for value in training["theta"]]}
        near = resigned(steps, right, memory=json.dumps({**training, **rounded}))
        assert steps.finish(SOUTH, [near]).has_content()
        assert steps.federation.state(SOUTH).learnt.memory == json.dumps({**training, **rounded})

    def test_a_total_names_the_one_before_it(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        first = steps.round(1, names)
        wrong = resigned(steps, first[SOUTH], previous=bytes(32))
        assert "must follow total 0" in reason(steps.finish(SOUTH, [wrong]))
        for name in names:
            assert steps.finish(name, [first[name]]).has_content()
        second = steps.round(2, names)[SOUTH]
        wrong = resigned(steps, second, previous=steps.federation.state(SOUTH).terms)
        assert "must follow total 1" in reason(steps.finish(SOUTH, [wrong]))
        assert steps.finish(SOUTH, [second]).has_content()

    def test_company_x_takes_no_other_total_before(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        first = steps.round(1, names)
        for name in names:
            assert steps.finish(name, [first[name]]).has_content()
        envelope, right = steps.chain(2, names), steps.last
        for last, words in (
            ((), "must come with that round's total, got []"),
            ((*right, *right), "must come with that round's total, got [1, 1]"),
            ((dataclasses.replace(right[0], round=2),), "must come with that round's total"),
            ((first[SOUTH],), "the envelope must be for company-x"),
        ):
            steps.last = last
            assert words in reason(steps.open(2, names, envelope))
        assert steps.opened_rounds() == [1]
        steps.last = right
        assert steps.open(2, names, envelope).has_content()

    def test_nor_another_train_config(self, steps: Steps) -> None:
        names = [NORTH, SOUTH, EAST]
        envelope, right = steps.chain(1, names), steps.config
        for other in (terms(lr=9.0), terms(optimizer="newton"), terms(C=1.0), terms(features=4)):
            steps.config = other.to_config()
            assert reason(steps.open(1, names, envelope)) == (
                "the train config must be the one that the hospitals have"
            )
        assert steps.opened_rounds() == []
        steps.config = right
        assert steps.open(1, names, envelope).has_content()

    @pytest.mark.parametrize("changes", [{"features": 4}, {"classes": 3}])
    def test_a_hospital_trains_a_model_of_its_own_columns(
        self, steps: Steps, changes: dict[str, int]
    ) -> None:
        steps.config = terms(**changes).to_config()
        assert reason(steps.hop(NORTH, 1, [], SOUTH)) == (
            "the train config must be of this hospital's features and classes, and is of others"
        )


@pytest.mark.usefixtures("nothing_opened")
class TestTerms:
    def test_the_train_config_is_fixed(self, steps: Steps) -> None:
        sealed(steps.hop(NORTH, 1, [], SOUTH))
        steps.config = terms(lr=0.25).to_config()
        refused = reason(steps.hop(NORTH, 2, [], SOUTH))
        assert refused.startswith("the train config must stay as it was when the run began, {")
        assert refused.index('"lr": 0.5') < refused.index('"lr": 0.25')

    def test_no_two_configs_pass_for_one(self, steps: Steps) -> None:
        different: tuple[Any, ...] = (
            *(b"\x00", "00", ["00"], [b"\x00"], [0], 0, 0.0, False, [False], "[0]"),
        )
        for number, value in enumerate(different):
            steps.config = ConfigRecord({**terms().to_config(), "more": value})
            asked = [NORTH, SOUTH, EAST, WEST][number % 4]
            reply = steps.hop(asked, number + 1, [], COMPANY)
            if number < 4:
                assert "at least 3 contributors" in reason(reply)
            else:
                assert "the train config must stay" in reason(reply)
        assert len({steps.federation.state(name).terms for name in ALL}) == 4

    def test_and_the_same_for_all(self, steps: Steps) -> None:
        envelope = sealed(steps.hop(NORTH, 1, [], SOUTH))
        steps.config = terms(lr=0.25).to_config()
        assert reason(steps.hop(SOUTH, 1, [NORTH], EAST, envelope)) == (
            "north must have the same initial model and train config as this hospital"
        )

    def test_the_coordinator_gives_no_model(self, steps: Steps) -> None:
        content = steps.news(NORTH)
        content.update(model_message_content(model_arrays(np.full(3, 9.0), 9.0)))
        assert "after the first total of its session" in reason(steps.ask(NORTH, FINISH, content))
        assert model(steps, NORTH) == {"coefficients": [0.0] * len(FEATURES), "intercept": [0.0]}


@pytest.mark.usefixtures("nothing_opened")
class TestNoOtherWay:
    @pytest.mark.parametrize("action", [MessageType.TRAIN, MessageType.EVALUATE, FINISH])
    def test_an_open_message(self, steps: Steps, action: str) -> None:
        packing = steps.federation.packing.to_json()
        request = EncryptionRequest(steps.public_key, packing, steps.session, 1)
        content = request.add_to(model_message_content(model_arrays(np.zeros(3), 0.0)))
        assert reason(steps.ask(NORTH, action, content)) == (
            f"this node takes part in sealed chains only, and the {action!r} message is open"
        )

    @pytest.mark.parametrize("name", [NORTH, COMPANY])
    def test_a_node_that_says_sealed_is_closed_from_the_start(
        self, tmp_path: Path, steps: Steps, name: str
    ) -> None:
        folder = tmp_path / "new"
        folder.mkdir()
        federation = Federation(folder, HOSPITALS)
        new = Steps(federation)
        federation.context(name).node_config["sealed"] = True
        action = DECRYPT if name == COMPANY else MessageType.TRAIN
        assert "sealed chains only" in reason(new.ask(name, action, RecordDict()))
        federation.context(name).node_config["sealed"] = "yes"
        assert "sealed in the node configuration must be true or false" in reason(
            new.ask(name, action, RecordDict())
        )

    @pytest.mark.parametrize("action", [JOIN, OPEN])
    def test_who_has_no_manifest(self, steps: Steps, action: str) -> None:
        name = COMPANY if action == OPEN else NORTH
        node_config = steps.federation.context(name).node_config
        del node_config["federation"], node_config["identity"]
        if name == NORTH:
            node_config["key-fingerprint"] = "ab" * 32
        assert "give this node federation and identity" in reason(
            steps.ask(name, action, RecordDict())
        )

    def test_a_message_to_the_wrong_node(self, steps: Steps) -> None:
        assert "'query.open' must go to a key-holder" in reason(
            steps.ask(NORTH, OPEN, RecordDict())
        )
        assert "'query.join' must go to a hospital" in reason(
            steps.ask(COMPANY, JOIN, RecordDict())
        )
