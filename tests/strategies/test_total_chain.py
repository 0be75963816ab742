"""The coordinator's half of a chain of totals in the open: its messages and its state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, MessageType
from flwr.serverapp.strategy import FedAvg
from sealed_federation import Federation, pooled_descent, terms

from fl_he.config.groups import CONTINUE
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.strategies.encrypted_sum import SequentialPaillier
from fl_he.strategies.total_chain import TotalChain
from fl_he.wire.encrypted_sum import DECRYPT, DecryptReply
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OpenNews

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path, HOSPITALS)


def coordinator(federation: Federation, topology: str = "fold") -> SequentialPaillier:
    strategy = SequentialPaillier(
        FedAvg(), topology=topology, node_timeout=0.5, on_dropout=CONTINUE
    )
    strategy.call_roll(federation.grid)
    strategy.chain = TotalChain(terms().to_config())
    return strategy


def totals_sent(federation: Federation) -> list[dict[str, int]]:
    """Return how many totals each hospital was sent, sum by sum."""
    rounds: list[dict[str, int]] = [{}]
    for message in federation.grid.sent:
        node = str(federation.grid.contexts[message.metadata.dst_node_id].node_config["name"])
        if message.metadata.message_type == DECRYPT:
            rounds.append({})
        elif OpenNews.is_in(message.content) and node in HOSPITALS:
            rounds[-1][node] = len(OpenNews.from_content(message.content).totals)
    return rounds


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_each_hospital_is_told_what_it_may_lack(federation: Federation, topology: str) -> None:
    strategy = coordinator(federation, topology)
    for number in (1, 2, 3):
        strategy.sum_up("train", number, MessageType.TRAIN)
    assert strategy.finish() == ()
    assert totals_sent(federation) == [dict.fromkeys(HOSPITALS, n) for n in (0, 1, 1, 1)]
    assert strategy.chain is not None
    assert [total.signed for total in strategy.sums] == strategy.chain.totals
    w, b = pooled_descent(federation.data.values(), 3)
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, w, rtol=0, atol=1e-6)
        assert abs(saved.intercept - b) < 1e-6


def test_one_that_erred_is_told_all(federation: Federation) -> None:
    strategy = coordinator(federation)
    strategy.sum_up("train", 1, MessageType.TRAIN)
    settings = federation.context("south").node_config
    manifest = settings["federation"]
    settings["federation"] = "nowhere"
    strategy.sum_up("train", 2, MessageType.TRAIN)
    settings["federation"] = manifest
    strategy.sum_up("train", 3, MessageType.TRAIN)
    strategy.sum_up("train", 4, MessageType.TRAIN)
    assert [one.contributors for one in strategy.sums] == [4, 3, 4, 4]
    assert [sent.get("south") for sent in totals_sent(federation)[:4]] == [0, 1, 2, 1]
    assert [sent.get("north") for sent in totals_sent(federation)[:4]] == [0, 1, 1, 1]


def test_a_hospital_that_joins_is_told_all(federation: Federation) -> None:
    strategy = coordinator(federation)
    node_id = federation.node_id("south")
    context = federation.grid.leave(node_id)
    strategy.sum_up("train", 1, MessageType.TRAIN)
    federation.grid.join(node_id, context.node_config)
    strategy.sum_up("train", 2, MessageType.TRAIN)
    assert [one.contributors for one in strategy.sums] == [3, 4]
    assert totals_sent(federation)[1] == dict.fromkeys(HOSPITALS, 1)


def test_a_hospital_that_joins_during_a_sum_is_told_all(federation: Federation) -> None:
    strategy = coordinator(federation)
    node_id = federation.node_id("south")
    context = federation.grid.leave(node_id)
    strategy.sum_up("train", 1, MessageType.TRAIN)

    def join(reply: Message) -> Message:
        federation.grid.tamper = lambda reply: reply
        federation.grid.join(node_id, context.node_config)
        strategy.roster.call_again()  # as while a hospital or company X is waited for
        return reply

    federation.grid.tamper = join
    strategy.sum_up("train", 2, MessageType.TRAIN)
    strategy.sum_up("train", 3, MessageType.TRAIN)
    assert [one.contributors for one in strategy.sums] == [3, 3, 4]
    assert totals_sent(federation)[2] == {"north": 1, "south": 2, "east": 1, "west": 1}


def test_a_run_goes_on_with_the_totals_that_were_kept(federation: Federation) -> None:
    first = coordinator(federation)
    first.sum_up("train", 1, MessageType.TRAIN)
    assert first.chain is not None
    second = coordinator(federation)
    second.chain = TotalChain(terms().to_config(), first.chain.totals)
    second.sum_up("train", 2, MessageType.TRAIN)
    assert len(second.chain.totals) == 2
    assert first.chain.totals == second.chain.totals[:1]


def test_company_x_that_tells_no_total(federation: Federation) -> None:
    strategy = coordinator(federation)

    def tamper(reply: Message) -> Message:
        if reply.metadata.message_type == DECRYPT:
            total = DecryptReply.from_content(reply.content).total
            reply.content = DecryptReply(total).to_content()
        return reply

    federation.grid.tamper = tamper
    with pytest.raises(ProtocolError, match="must tell hospitals the total"):
        strategy.sum_up("train", 1, MessageType.TRAIN)


def test_no_model_and_no_chain(federation: Federation) -> None:
    strategy = coordinator(federation)
    strategy.chain = None
    with pytest.raises(ProtocolError, match="where there is no chain of totals"):
        strategy.sum_up("train", 1, MessageType.TRAIN)
