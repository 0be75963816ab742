"""Totals in the open: a coordinator that lies about the model, the totals or the terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, MessageType, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identities import make
from open_steps import OpenSteps
from sealed_federation import COMPANY, Federation, descent_through, terms
from sealed_steps import reason
from ticketed_sums import MadeSum

from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.totals import training
from fl_he.clients.totals.state import ChainState, chain_state
from fl_he.crypto.schemes import SCHEMES
from fl_he.learning.optimizers.task import Task
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    FIRTH,
    MOMENTS,
    PROFILE,
    SEPARATION,
    DecryptReply,
    DecryptRequest,
    EncryptedReply,
    MisfitReply,
)
from fl_he.wire.learning_terms import LearningTerms, task_of
from fl_he.wire.model import model_arrays, model_message_content
from fl_he.wire.totals import SignedTotal
from fl_he.wire.update_layout import UpdateLayout

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}
NORTH, SOUTH, EAST, WEST = HOSPITALS
ALL = tuple(HOSPITALS)
THREE = (NORTH, SOUTH, EAST)


@pytest.fixture(params=SCHEMES)
def steps(tmp_path: Path, request: pytest.FixtureRequest) -> OpenSteps:
    return OpenSteps(Federation(tmp_path, HOSPITALS), request.param)


def state(steps: OpenSteps, name: str) -> ChainState:
    """Return how far a hospital is, by its own disk."""
    with chain_state(DeployedNode(steps.federation.context(name)), steps.session) as found:
        return found


def theta(steps: OpenSteps, name: str) -> np.ndarray:
    model = state(steps, name).learnt.model
    return np.append(model["coefficients"].numpy(), model["intercept"].numpy())


def expected(steps: OpenSteps, *rounds: tuple[str, ...]) -> np.ndarray:
    data = steps.federation.data
    w, b = descent_through([[data[name] for name in names] for names in rounds])
    return np.append(w, b)


def refused(steps: OpenSteps, name: str, **news: Any) -> str:
    """Return why a hospital refuses totals; its model must be as before."""
    before = state(steps, name).to_text()
    words = reason(steps.finish(name, **news))
    assert state(steps, name).to_text() == before or before is None
    return words


class TestHonest:
    def test_hospitals_and_company_x_compute_the_model(self, steps: OpenSteps) -> None:
        for number, names in enumerate((THREE, ALL, THREE), start=1):
            steps.round(number, names)
        for name in ALL:
            assert steps.finish(name).has_content()
            saved = LogisticModel.load(steps.federation.model(name))
            np.testing.assert_allclose(
                np.append(saved.coefficients, saved.intercept),
                expected(steps, THREE, ALL, THREE),
                rtol=0,
                atol=1e-6,
            )
        assert len({state(steps, name).learnt.memory for name in ALL}) == 1
        last = SignedTotal.from_bytes(steps.totals[-1])
        assert last.total.memory == state(steps, NORTH).learnt.memory

    def test_the_coordinator_is_told_the_total_too(self, steps: OpenSteps) -> None:
        reply = steps.open(1, 3, steps.summed(1, THREE))
        answer = DecryptReply.from_content(reply.content)
        assert answer.signed is not None
        total = SignedTotal.from_bytes(answer.signed).total
        np.testing.assert_array_equal(total.values, answer.total)
        assert answer.total[0] == 3.0

    def test_a_node_that_lost_its_state_or_its_file_has_the_same_model(
        self, steps: OpenSteps
    ) -> None:
        steps.round(1, ALL)
        steps.round(2, ALL)
        for context in steps.federation.grid.contexts.values():
            context.state = RecordDict()
        assert steps.finish(NORTH, totals=steps.totals[1:]).has_content()
        (file,) = steps.federation.folder.glob("south.json.training-*.json")
        file.unlink()
        assert "must follow total 1" in reason(steps.finish(SOUTH, totals=steps.totals[1:]))
        assert steps.finish(SOUTH).has_content()
        steps.round(3, (NORTH, SOUTH, EAST))
        assert steps.finish(NORTH).has_content()
        np.testing.assert_allclose(
            theta(steps, NORTH), expected(steps, ALL, ALL, THREE), rtol=0, atol=1e-6
        )

    def test_a_message_has_its_task_read_once(
        self, steps: OpenSteps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps.round(1, ALL)
        read: list[ConfigRecord] = []

        def spy(config: ConfigRecord, limbs: Limbs) -> Task:
            read.append(config)
            return task_of(config, limbs)

        monkeypatch.setattr(training, "task_of", spy)
        summed = steps.summed(2, THREE)
        assert len(read) == len(THREE)
        assert steps.open(2, 3, summed).has_content()
        assert len(read) == len(THREE) + 1

    def test_totals_that_a_hospital_has_change_nothing(self, steps: OpenSteps) -> None:
        steps.round(1, ALL)
        for _ in range(2):
            assert steps.finish(NORTH).has_content()
        before = state(steps, NORTH).to_text()
        assert steps.finish(NORTH, totals=steps.totals * 2).has_content()
        assert state(steps, NORTH).to_text() == before

    def test_the_same_sum_has_the_same_answer(self, steps: OpenSteps) -> None:
        first = steps.summed(1, THREE)
        replies = [steps.open(1, 3, first).content for _ in range(2)]
        texts = [DecryptReply.from_content(content).signed for content in replies]
        assert texts[0] == texts[1] is not None

    def test_a_sum_that_did_not_fit_is_asked_for_again(self, steps: OpenSteps) -> None:
        good = steps.federation.data[NORTH]
        steps.federation.data[NORTH] = replace(good, features=good.features * 1e300)
        reply = steps.open(1, 3, steps.summed(1, THREE))
        assert MisfitReply.is_in(reply.content)
        steps.federation.data[NORTH] = good
        steps.round(1, THREE)
        assert steps.finish(WEST).has_content()
        np.testing.assert_allclose(theta(steps, WEST), expected(steps, THREE), rtol=0, atol=1e-6)


class TestModels:
    def test_a_hospital_is_told_no_model(self, steps: OpenSteps) -> None:
        content = steps.request(1).add_to(steps.news())
        content.update(model_message_content(model_arrays(np.full(3, 9.0), 9.0)))
        assert reason(steps.ask(NORTH, MessageType.TRAIN, content)) == (
            "a message with totals must hold the train config and no other records, got ['arrays']"
        )

    def test_nor_what_it_computes_with(self, steps: OpenSteps) -> None:
        config = LearningTerms(class_weights=(1.0, 1e-300)).to_config()
        assert "features must be an integer, got nothing" in reason(
            steps.hospital(NORTH, 1, config=config)
        )

    @pytest.mark.parametrize("action", [MOMENTS, FIRTH, PROFILE, MessageType.EVALUATE])
    def test_nor_is_it_asked_what_cannot_come_now(self, steps: OpenSteps, action: str) -> None:
        assert reason(steps.hospital(NORTH, 1, action))
        assert reason(steps.open(1, 3, b"", purpose="firth"))

    def test_a_model_is_asked_about_in_one_round(self, steps: OpenSteps) -> None:
        """Otherwise a withheld total would allow two sums over one model."""
        assert not steps.hospital(NORTH, 1).has_error()
        assert not steps.hospital(NORTH, 1).has_error()
        for context in steps.federation.grid.contexts.values():
            context.state = RecordDict()
        assert reason(steps.hospital(NORTH, 2)) == (
            "a model is asked about in one round of train, later than the model before: the last "
            "was 1, after total 0, got 2, after total 0"
        )
        steps.round(1, ALL)
        assert reason(steps.hospital(NORTH, 1)).endswith("got 1, after total 1")
        assert not steps.hospital(NORTH, 2).has_error()


class TestTotals:
    def test_left_out_or_reordered(self, steps: OpenSteps) -> None:
        steps.round(1, ALL)
        steps.round(2, ALL)
        first, second = steps.totals
        words = "total 2 must follow total 1, and this hospital's model is the one after total 0"
        for name, totals in ((NORTH, [second]), (SOUTH, [second, first])):
            (file,) = steps.federation.folder.glob(f"{name}.json.training-*.json")
            file.unlink()
            assert reason(steps.finish(name, totals=totals)) == words

    def test_a_fork(self, steps: OpenSteps) -> None:
        """Company X has signed two totals over one model, by mistake or for a rolled-back disk."""
        steps.round(1, ALL)
        assert steps.finish(NORTH).has_content()
        other = signed_again(steps, steps.totals[0], number=2)
        assert "ledger was rolled back" in refused(steps, NORTH, totals=[other])
        other = signed_again(steps, steps.totals[0], number=2, counter=2)
        assert "must follow total 0" in refused(steps, NORTH, totals=[other])
        steps.round(2, ALL)
        fork = signed_again(steps, steps.totals[1], previous=bytes(32))
        assert "must follow total 1" in refused(steps, NORTH, totals=[fork])

    def test_unsigned_or_signed_by_somebody_else(self, steps: OpenSteps) -> None:
        signed = SignedTotal.from_bytes(steps.round(1, THREE))
        others = (steps.federation.identities[NORTH], make(COMPANY, "key-holder", 1))
        signatures = [b"", signed.signature[:-1], *(one.sign(signed.statement) for one in others)]
        for signature in signatures:
            forged = replace(signed, signature=signature).to_bytes()
            words = "the total is not as company-x signed it"
            assert refused(steps, WEST, totals=[forged]) == words
            assert reason(steps.open(2, 3, b"", totals=[forged])) == words

    @settings(
        max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_altered(self, steps: OpenSteps, data: st.DataObject) -> None:
        if not steps.totals:
            steps.round(1, THREE)
        spoiled = bytearray(steps.totals[0])
        at = data.draw(st.integers(0, len(spoiled) - 1))
        spoiled[at] ^= data.draw(st.integers(1, 255))
        words = refused(steps, WEST, totals=[bytes(spoiled)])
        assert " must " in words or words == "the total is not as company-x signed it"

    def test_of_another_session(self, steps: OpenSteps) -> None:
        old = steps.round(1, THREE)
        for context in steps.federation.grid.contexts.values():
            context.run_id += 1
        new = OpenSteps(steps.federation)
        assert new.session != steps.session
        words = "the total belongs to another session"
        assert reason(new.hospital(NORTH, 1, totals=[old])) == words
        assert reason(new.open(1, 3, b"", totals=[old])) == words

    def test_company_xs_step_must_be_the_one_that_follows(self, steps: OpenSteps) -> None:
        right = steps.round(1, THREE)
        memory = SignedTotal.from_bytes(right).total.memory
        wrong = memory.replace('"steps": 1', '"steps": 2')
        assert wrong != memory
        forged = signed_again(steps, right, memory=wrong)
        assert "its reason stays there" in refused(steps, WEST, totals=[forged])
        assert steps.finish(WEST).has_content()

    def test_a_total_that_is_refused_leaves_the_model_before_it(self, steps: OpenSteps) -> None:
        first, second = (SignedTotal.from_bytes(steps.round(n, THREE)) for n in (1, 2))
        wrong = second.total.memory.replace('"steps": 2', '"steps": 3')
        forged = signed_again(steps, steps.totals[1], memory=wrong)
        assert "its reason stays there" in reason(
            steps.finish(WEST, totals=[steps.totals[0], forged])
        )
        kept = state(steps, WEST)
        assert (kept.after, kept.learnt.memory) == (1, first.total.memory)
        assert steps.finish(WEST).has_content()


def signed_again(steps: OpenSteps, total: bytes, **changes: Any) -> bytes:
    """Return a total that company X has signed with something else in it."""
    signed = SignedTotal.from_bytes(total)
    opening = replace(
        signed.opening, **{k: v for k, v in changes.items() if hasattr(signed.opening, k)}
    )
    own = replace(signed.total, **{k: v for k, v in changes.items() if hasattr(signed.total, k)})
    changed = replace(signed, opening=opening, total=own)
    identity = steps.federation.identities[COMPANY]
    return replace(changed, signature=identity.sign(changed.statement)).to_bytes()


class TestCompanyX:
    def test_one_sum_over_each_model(self, steps: OpenSteps) -> None:
        steps.round(1, ALL)
        over_the_first = steps.summed(2, THREE)
        steps.round(2, ALL)
        words = (
            "a sum must be over the model after train 2, the last that was opened, not over "
            "the model after {}"
        )
        for last, named in ((steps.totals[:1], "train 1"), ([], "round 0")):
            refusal = reason(steps.open(3, 3, over_the_first, totals=last))
            assert refusal == words.format(named)

    def test_a_sum_that_is_asked_for_again_is_over_the_same_model(self, steps: OpenSteps) -> None:
        steps.round(1, ALL)
        summed = steps.summed(2, THREE)
        first = steps.open(2, 3, summed)
        assert DecryptReply.from_content(first.content).signed is not None
        assert reason(steps.open(2, 3, summed, totals=[])) == (
            "a sum must be over the model after train 1, the last that was opened, not over "
            "the model after round 0"
        )

    def test_one_total_before(self, steps: OpenSteps) -> None:
        steps.round(1, ALL)
        steps.round(2, ALL)
        summed = steps.summed(3, THREE)
        assert "must come with the last total alone, got 2" in reason(
            steps.open(3, 3, summed, totals=steps.totals)
        )
        assert steps.open(3, 3, summed).has_content()

    def test_the_layout_is_that_of_the_question(self, steps: OpenSteps) -> None:
        reply = steps.hospital(NORTH, 1)
        layout = EncryptedReply.from_content(reply.content).layout
        total = SignedTotal.from_bytes(steps.round(1, THREE)).total
        assert total.layout == layout
        key, slots = steps.federation.key.public_key, len(UpdateLayout.from_json(layout))
        for length in (slots - 1, slots + 1):
            made_up = MadeSum(
                *(key, np.ones(length)), packing=steps.federation.packing, scheme=steps.scheme
            )
            assert reason(steps.open(2, 3, made_up.to_bytes(steps.session, "train", 2))) == (
                f"the sum must hold the {slots} numbers that were asked for"
            )

    def test_the_coordinator_says_not_which_numbers_are_metrics(self, steps: OpenSteps) -> None:
        summed = steps.summed(1, THREE)
        answers = []
        for metric_values in (0, 1, 2):
            request = DecryptRequest(steps.session, "train", 1, 3, summed, metric_values)
            content = request.add_to(steps.news(totals=[]))
            reply = steps.ask(COMPANY, DECRYPT, content)
            answers.append(DecryptReply.from_content(reply.content).signed)
        assert answers[0] is not None
        assert len(set(answers)) == 1

    def test_other_terms(self, steps: OpenSteps) -> None:
        steps.round(1, ALL)
        summed = steps.summed(2, THREE)
        for other in (terms(lr=9.0), terms(C=1.0), terms(optimizer="nesterov")):
            assert reason(steps.open(2, 3, summed, config=other.to_config())) == (
                "the train config must be as in the totals so far"
            )
        assert steps.open(2, 3, summed).has_content()

    def test_messages_to_the_wrong_node(self, steps: OpenSteps) -> None:
        assert "'train' must go to a hospital" in reason(steps.hospital(COMPANY, 1))
        request = DecryptRequest(steps.session, "train", 1, 3, b"")
        assert "only company X can open" in reason(
            steps.ask(NORTH, DECRYPT, request.add_to(steps.news()))
        )

    def test_two_sessions_in_one_message(self, steps: OpenSteps) -> None:
        content = steps.request(1, session="0" * 32).add_to(steps.news())
        words = "the message names two sessions"
        assert reason(steps.ask(NORTH, MessageType.TRAIN, content)) == words
        request = DecryptRequest("0" * 32, "train", 1, 3, b"")
        assert reason(steps.ask(COMPANY, DECRYPT, request.add_to(steps.news()))) == words


class TestTerms:
    def test_other_terms_for_one_hospital(self, steps: OpenSteps) -> None:
        other = terms(lr=9.0).to_config()
        assert not steps.hospital(WEST, 1, config=other).has_error()
        total = steps.round(1, THREE)
        assert refused(steps, WEST, totals=[total], config=other) == (
            "the train config must be the one that the totals are of"
        )
        assert "the train config must stay as it was" in refused(steps, WEST)

    def test_what_no_plan_knows_is_in_the_digest_too(self, steps: OpenSteps) -> None:
        more = ConfigRecord({**steps.config, "more": 1})
        assert not steps.hospital(WEST, 1, config=more).has_error()
        total = steps.round(1, THREE)
        assert "the one that the totals are of" in refused(steps, WEST, totals=[total], config=more)

    @pytest.mark.parametrize("changes", [{"features": 4}, {"classes": 3}])
    def test_a_hospital_trains_a_model_of_its_own_columns(
        self, steps: OpenSteps, changes: dict[str, int]
    ) -> None:
        assert reason(steps.hospital(NORTH, 1, config=terms(**changes).to_config())) == (
            "the train config must be of this hospital's features and classes, and is of others"
        )


class TestSeparation:
    def test_everybody_is_told_whether_there_are_examples_and_not_how_many(
        self, steps: OpenSteps
    ) -> None:
        steps.config = terms(optimizer="newton", scaling="local").to_config()
        for name in THREE:  # three hospitals' classes are separated, and those of all are not
            part = steps.federation.data[name]
            sign = 2 * part.labels - 1
            features = np.column_stack([4 * sign, part.features[:, 1:]])
            steps.federation.data[name] = replace(part, features=features)
        for number in (1, 2):
            steps.round(number, THREE)
        replies = {name: steps.hospital(name, 1, SEPARATION) for name in ALL}
        reply = steps.open(1, 4, steps.sum_of(replies), purpose="separation")
        answer = DecryptReply.from_content(reply.content)
        assert answer.signed is not None
        signed = SignedTotal.from_bytes(answer.signed)
        for values in (answer.total, signed.total.values):
            assert values.tolist() == [4.0, 156.0, 1.0, 0.0]
        assert signed.opening.purpose == "separation"
        assert steps.finish(NORTH, totals=[*steps.totals, answer.signed]).has_content()
        assert '"proof": "not proved"' in state(steps, NORTH).learnt.memory
