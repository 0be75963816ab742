"""The coordinator of a sealed chain: participants, and failures."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, MessageType, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from identities import make
from local_grid import LocalGrid
from quick import slow, slow_but
from sealed_federation import (
    COMPANY,
    Federation,
    dataset,
    descent_through,
    pooled_descent,
)

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.schemes import MASKS, SCHEMES
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.strategies.dropouts import DropoutError, Waiting
from fl_he.strategies.sealed.progress import SealedProgress, SealedSum
from fl_he.strategies.sealed.router import Member
from fl_he.wire.encrypted_sum import FINISH
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import (
    JOIN,
    OPEN,
    RESEAL,
    SESSION,
    Hop,
    News,
    SessionReply,
)

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}


class LossyGrid(LocalGrid):
    """A grid that loses some messages on their way, or the replies to them."""

    def __init__(self, app: ClientApp, node_configs: list[UserConfig]) -> None:
        super().__init__(app, node_configs)
        self.loses: Callable[[Message], bool] = lambda _: False
        #: Whether the node gets the message, so that it is the reply that is lost.
        self.acts = False
        self.struck: list[str] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids: list[str] = []
        for message in messages:
            if not self.loses(message):
                ids += super().push_messages([message])
                continue
            name = self.contexts[message.metadata.dst_node_id].node_config["name"]
            self.struck.append(str(name))
            if self.acts:
                list(super().pull_messages(super().push_messages([message])))
            ids.append(f"lost {len(self.struck)}")
        return ids


@pytest.fixture(params=slow_but(SCHEMES, MASKS))
def federation(tmp_path: Path, request: pytest.FixtureRequest) -> Federation:
    federation = Federation(tmp_path, HOSPITALS, LossyGrid)
    federation.scheme = request.param
    return federation


def losing(federation: Federation, loses: Callable[[Message], bool], acts: bool) -> LossyGrid:
    grid = federation.grid
    assert isinstance(grid, LossyGrid)
    grid.loses, grid.acts = loses, acts
    return grid


def check_models(federation: Federation, rounds: list[SealedSum], *names: str) -> None:
    """Compare saved models with plain descent over the contributors of each round."""
    w, b = descent_through(
        [federation.data[name] for name in entry.request.contributors] for entry in rounds
    )
    assert np.abs(w).max() > 0.1
    for name in names:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, w, rtol=0, atol=1e-6)
        assert abs(saved.intercept - b) < 1e-6


@pytest.mark.parametrize("C", [None, 0.1])
def test_the_hospitals_model_is_that_of_plain_gradient_descent(
    federation: Federation, C: float | None
) -> None:
    rounds = federation.run(4, C=C)
    w, b = pooled_descent(federation.data.values(), 4, C)
    assert np.abs(w).max() > 0.1
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, w, rtol=0, atol=1e-6)
        assert abs(saved.intercept - b) < 1e-6
    assert [set(entry.request.contributors) for entry in rounds] == [set(HOSPITALS)] * 4
    assert [entry.request.round for entry in rounds] == [1, 2, 3, 4]
    assert all(entry.cost.bytes_sent > 5 * entry.update_bytes > 0 for entry in rounds)


def test_the_order_changes_from_round_to_round(federation: Federation) -> None:
    orders = {entry.request.contributors for entry in federation.run(12)}
    assert len(orders) > 1, "the same order twelve times in a row has a chance of 24**-11"


def hop_at(round_: int, place: int) -> Callable[[Message], bool]:
    """Strike the node that is asked for a contribution at this place of this round."""

    def strikes(message: Message) -> bool:
        if message.metadata.message_type != MessageType.TRAIN:
            return False
        hop = Hop.from_content(message.content)
        return (hop.round, len(hop.contributors)) == (round_, place)

    return once(strikes)


def once(strikes: Callable[[Message], bool]) -> Callable[[Message], bool]:
    spent: list[bool] = []

    def strike(message: Message) -> bool:
        if spent or not strikes(message):
            return False
        spent.append(True)
        return True

    return strike


@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("place", [0, *slow((1,)), 3])
def test_a_hospital_that_fails_is_left_out_and_catches_up(
    federation: Federation, place: int, acts: bool
) -> None:
    grid = losing(federation, hop_at(2, place), acts)
    rounds = federation.run(4, hop_timeout=0.3)
    (lost,) = grid.struck
    assert [len(entry.request.contributors) for entry in rounds] == [4, 3, 4, 4]
    assert rounds[1].skipped == (lost,)
    assert lost not in rounds[1].request.contributors
    check_models(federation, rounds, *HOSPITALS)


def test_a_sum_that_is_lost_with_its_last_contributor_begins_anew(federation: Federation) -> None:
    failing = hop_at(1, 2)

    def strikes(message: Message) -> bool:
        return message.metadata.message_type == RESEAL or failing(message)

    grid = losing(federation, strikes, acts=False)
    rounds = federation.run(2, hop_timeout=0.3)
    assert len(grid.struck) == 2
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4]
    assert [entry.skipped for entry in rounds] == [(), ()], "all are in the second attempt"
    check_models(federation, rounds, *HOSPITALS)


def test_a_sum_that_is_lost_again_and_again(federation: Federation) -> None:
    def strikes(message: Message) -> bool:
        if message.metadata.message_type == RESEAL:
            return True
        train = message.metadata.message_type == MessageType.TRAIN
        return train and len(Hop.from_content(message.content).contributors) == 1

    losing(federation, strikes, acts=False)
    with pytest.raises(ProtocolError, match="must come to a sum within 5 attempts; left out: "):
        federation.run(1, hop_timeout=0.3)


@pytest.mark.parametrize(
    "order", [("north", "east", "south", "west"), ("west", "south", "north", "east")]
)
def test_too_few_that_answer(
    federation: Federation, order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_order(_: random.SystemRandom, members: list[Member]) -> None:
        members.sort(key=lambda member: order.index(member.name))

    monkeypatch.setattr(random.SystemRandom, "shuffle", in_order)

    def strikes(message: Message) -> bool:
        away = [federation.node_id(name) for name in ("north", "east")]
        train = message.metadata.message_type == MessageType.TRAIN
        return train and message.metadata.dst_node_id in away

    losing(federation, strikes, acts=False)
    words = r"at least 3 contributors .* got 2; left out: east, north"
    with pytest.raises(ProtocolError, match=words):
        federation.run(1, hop_timeout=0.3)
    ledger = (federation.folder / "company-x.json.opened.jsonl").read_text()
    assert '"round"' not in ledger


def test_what_flower_forgets_changes_nothing(federation: Federation) -> None:
    def forget(_: SealedSum) -> None:
        for context in federation.grid.contexts.values():
            context.state = RecordDict()

    rounds = federation.run(3, forget)
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4, 4]
    check_models(federation, rounds, *HOSPITALS)


def test_a_hospital_that_lost_its_file_is_told_everything_again(federation: Federation) -> None:
    def forget(entry: SealedSum) -> None:
        if entry.request.round == 2:
            (file,) = federation.folder.glob("south.json.training-*.json")
            file.unlink()

    rounds = federation.run(4, forget)
    # It finds out in the third round that it lacks the totals before it.
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4, 3, 4]
    check_models(federation, rounds, *HOSPITALS)


def test_a_hospital_that_lost_all_its_files_meets_company_x_again(federation: Federation) -> None:
    def forget(entry: SealedSum) -> None:
        if entry.request.round == 2:
            for file in federation.folder.glob("south.json.*"):
                file.unlink()

    rounds = federation.run(4, forget)
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4, 3, 4]
    check_models(federation, rounds, *HOSPITALS)


def test_a_hospital_that_comes_back_as_another_node(federation: Federation) -> None:
    def restart(entry: SealedSum) -> None:
        if entry.request.round == 1:
            context = federation.grid.leave(federation.node_id("south"))
            federation.grid.join(2000, context.node_config)

    rounds = federation.run(3, restart)
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4, 4]
    check_models(federation, rounds, *HOSPITALS)


def test_one_that_is_away_to_the_end_has_no_model(federation: Federation) -> None:
    chain = federation.chain()
    rounds = [chain.run_round()]
    federation.grid.leave(federation.node_id("south"))
    rounds.append(chain.run_round())
    assert chain.finish() == ()
    assert not (federation.folder / "models" / "south.json").exists()
    check_models(federation, rounds, "north", "east", "west")


@pytest.mark.parametrize("acts", [False, True])
def test_company_x_is_asked_again_and_opens_no_round_twice(
    federation: Federation, acts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fl_he.strategies.exchange._FIRST_PAUSE", 0.05)
    opening = once(lambda message: message.metadata.message_type == OPEN)
    grid = losing(federation, opening, acts)
    rounds = federation.run(2)
    assert grid.struck == [COMPANY]
    lines = (federation.folder / "company-x.json.opened.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines if "round" in line] == [1, 2]
    check_models(federation, rounds, *HOSPITALS)


@pytest.mark.parametrize("unopened", [False, True])
def test_a_resumed_run_ends_with_the_same_model(tmp_path: Path, unopened: bool) -> None:
    """The second Flower run knows only the files of the first one's coordinator."""
    federation = Federation(tmp_path, HOSPITALS)
    kept: list[str] = []
    chain = federation.chain(
        on_summed=lambda progress: kept.append(json.dumps(progress.to_members()))
    )
    rounds = [chain.run_round() for _ in range(3)]
    assert len(kept) == 3
    kept.append(json.dumps(chain.progress.to_members()))
    for context in federation.grid.contexts.values():
        context.state = RecordDict()
        context.run_id = 8
    progress = SealedProgress.from_members(json.loads(kept[-2 if unopened else -1]))
    resumed = federation.chain(progress=progress)
    if unopened:
        again = resumed.run_round()
        assert (again.request.round, again.request.contributors) == (
            3,
            rounds[2].request.contributors,
        )
    rounds.append(resumed.run_round())
    assert rounds[-1].request.round == 4
    assert resumed.finish() == ()
    check_models(federation, rounds, *HOSPITALS)


def test_a_session_that_company_x_does_not_know(federation: Federation) -> None:
    with pytest.raises(ProtocolError, match="company-x: the session must be one that company X "):
        federation.chain(progress=SealedProgress(session="0" * 32))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda members: members.pop("opened"),
        lambda members: members.update(opened=[{}]),
        lambda members: members.update(opened=[{"number": "x", "contributors": [], "totals": {}}]),
        lambda members: members.update(unopened={"session": "s"}),
        lambda members: members["unopened"].update(number=0),
        lambda members: members["unopened"].update(envelope="?"),
    ],
)
def test_progress_that_is_damaged(
    federation: Federation, spoil: Callable[[dict[str, object]], object]
) -> None:
    kept: list[SealedProgress] = []
    federation.chain(on_summed=kept.append).run_round()
    members = kept[0].to_members()
    assert SealedProgress.from_members(json.loads(json.dumps(members))) == kept[0]
    spoil(members)
    with pytest.raises(ProtocolError):
        SealedProgress.from_members(members)


def test_nodes_must_have_the_same_manifest(federation: Federation) -> None:
    swapped = make("south", number=1).public
    others = [node for node in federation.manifest.nodes if node.name != "south"]
    manifest = Manifest((*others, swapped))
    (federation.folder / "other.json").write_text(manifest.to_json())
    federation.context("north").node_config["federation"] = str(federation.folder / "other.json")
    with pytest.raises(ProtocolError, match=r"north takes part in no sealed chain: its manifest"):
        federation.chain().begin()


def enrolled(federation: Federation, name: str, identity: Identity) -> UserConfig:
    """Return the configuration of a node whose manifest holds this identity as well."""
    manifest = Manifest((*federation.manifest.nodes, identity.public))
    file = federation.folder / "other.json"
    file.write_text(manifest.to_json())
    identity.save(federation.folder / f"{name}.json")
    federation.data[name] = dataset(name, 20)
    return {**federation.node(name), "federation": str(file)}


def test_a_newcomer_whom_company_x_does_not_know_stops_nobody(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    chain = federation.chain()
    rounds = [chain.run_round()]
    federation.grid.join(2000, enrolled(federation, "stranger", make("stranger")))
    federation.context("north").state = RecordDict()
    chain.members.present.clear()  # all have to meet company X again, together with the stranger
    rounds.append(chain.run_round())
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4]
    assert chain.finish() == ()
    check_models(federation, rounds, *HOSPITALS)
    assert "stranger takes no part yet: its manifest must be company X's" in caplog.text


def test_a_newcomer_to_the_manifest_has_no_totals_of_the_rounds_before(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    chain = federation.chain()
    rounds = [chain.run_round()]
    federation.grid.join(2000, enrolled(federation, "later", make("later")))
    text = (federation.folder / "other.json").read_text()
    (federation.folder / "federation.json").write_text(text)
    again = federation.chain(hospitals=4, progress=chain.progress)
    with pytest.raises(ProtocolError, match="later takes part in no sealed chain: company X has"):
        again.begin()
    rounds.append(again.run_round())
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4]
    assert "later takes no part yet: company X has sealed no totals for it" in caplog.text


def test_a_reply_that_is_none_stops_nobody_else(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    chain = federation.chain()
    chain.run_round()
    federation.grid.join(2000, federation.grid.leave(federation.node_id("south")).node_config)

    def spoiled(reply: Message) -> Message:
        if reply.metadata.message_type == JOIN:
            reply.content = RecordDict()
        return reply

    federation.grid.tamper = spoiled
    assert len(chain.run_round().request.contributors) == 3
    assert "south takes no part yet: message has no config record" in caplog.text


def test_company_x_must_keep_to_the_session(federation: Federation) -> None:
    chain = federation.chain()
    chain.run_round()
    federation.grid.join(2000, federation.grid.leave(federation.node_id("south")).node_config)

    def another(reply: Message) -> Message:
        if reply.metadata.message_type == SESSION:
            stated = SessionReply.from_content(reply.content)
            reply.content = replace(stated, session="0" * 32).to_content()
        return reply

    federation.grid.tamper = another
    with pytest.raises(ProtocolError, match="must keep to the session in which the run began"):
        chain.run_round()


def test_two_nodes_of_one_name(federation: Federation) -> None:
    federation.grid.join(2000, federation.context("north").node_config)
    with pytest.raises(ProtocolError, match=r"north takes part .*: there is a node of that name"):
        federation.chain().begin()


def test_hospitals_that_take_part_in_another_session(federation: Federation) -> None:
    federation.run(1)
    federation.context(COMPANY).run_id = 8
    with pytest.raises(ProtocolError, match="it takes part in another session"):
        federation.chain().begin()


def test_hospitals_without_a_manifest(federation: Federation) -> None:
    node_config = federation.context("east").node_config
    del node_config["federation"], node_config["identity"]
    node_config["key-fingerprint"] = "ab" * 32
    with pytest.raises(ProtocolError, match=r"east takes part in no sealed chain: .* manifest"):
        federation.chain().begin()


def test_too_few_for_a_sum() -> None:
    with pytest.raises(ProtocolError, match="min_contributors must be at least 1, got 0"):
        Waiting(min_contributors=0)


def test_a_hospital_is_told_everything_once(federation: Federation) -> None:
    federation.run(3)
    for name in HOSPITALS:
        told = [
            News.from_content(message.content)
            for message in federation.grid.sent
            if message.metadata.dst_node_id == federation.node_id(name)
            and News.is_in(message.content)
        ]
        assert [news.statement is not None for news in told] == [True, False, False, False]
        assert [[total.round for total in news.totals] for news in told] == [[], [1], [2], [3]]


def test_the_last_totals_come_with_the_request_to_save(federation: Federation) -> None:
    federation.run(2)
    finish = [m for m in federation.grid.sent if m.metadata.message_type == FINISH]
    assert [len(News.from_content(message.content).totals) for message in finish] == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("place", [0, 3])
def test_a_hospital_is_waited_for_with_what_it_was_asked(
    federation: Federation, caplog: pytest.LogCaptureFixture, place: int, acts: bool
) -> None:
    """Its reply that was lost is made once: it has noted its contribution."""
    grid = losing(federation, hop_at(2, place), acts)
    rounds = federation.run(3, hop_timeout=0.3, on_dropout="wait")
    (lost,) = grid.struck
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4, 4]
    assert [entry.skipped for entry in rounds] == [(), (), ()]
    assert rounds[1].request.contributors[place] == lost
    assert f"waiting for {lost}, {place} of 4 answered" in caplog.text
    assert not any(message.metadata.message_type == RESEAL for message in grid.sent)
    check_models(federation, rounds, *HOSPITALS)


def test_a_hospital_that_restarts_as_another_node_is_waited_for(federation: Federation) -> None:
    south = federation.node_id("south")

    def dies(message: Message) -> bool:
        metadata = message.metadata
        if (metadata.message_type, metadata.dst_node_id) == (MessageType.TRAIN, south) and (
            Hop.from_content(message.content).round == 2 and south in federation.grid.contexts
        ):
            context = federation.grid.leave(south)
            federation.grid.join(south + 1000, context.node_config)
        return False

    losing(federation, dies, acts=False)
    rounds = federation.run(3, hop_timeout=0.3, on_dropout="wait")
    assert federation.node_id("south") == south + 1000
    assert [len(entry.request.contributors) for entry in rounds] == [4, 4, 4]
    check_models(federation, rounds, *HOSPITALS)


def test_a_hospital_that_does_not_answer_before_the_first_round_is_waited_for(
    federation: Federation,
) -> None:
    grid = losing(federation, once(lambda m: m.metadata.message_type == JOIN), acts=False)
    rounds = federation.run(1, hop_timeout=0.3, on_dropout="wait")
    assert len(grid.struck) == 1
    assert [len(entry.request.contributors) for entry in rounds] == [4]


@pytest.mark.parametrize("on_dropout", ["wait", "stop"])
def test_a_sealed_chain_stops_without_a_hospital(federation: Federation, on_dropout: str) -> None:
    """With ``wait`` a refusal stops the chain: the hospital's configuration is wrong."""
    chain = federation.chain(hop_timeout=0.3, on_dropout=on_dropout)
    chain.begin()
    chain.run_round()
    if on_dropout == "stop":
        losing(federation, hop_at(2, 2), acts=False)
    else:
        federation.context("east").node_config["federation"] = "nowhere"
    with pytest.raises(DropoutError, match=f"with on_dropout={on_dropout} no total is opened with"):
        chain.run_round()
    sent = [message.metadata.message_type for message in federation.grid.sent]
    assert sent.count(OPEN) == 1
    assert RESEAL not in sent
