"""Two runs at once, of honest coordinators: company X is sent no sum that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import MessageType
from flwr.serverapp.strategy import FedAvg
from sealed_federation import Federation, terms

from fl_he.config.groups import CONTINUE
from fl_he.strategies.encrypted_sum import SequentialPaillier
from fl_he.strategies.opened_sum import NotPermittedError
from fl_he.strategies.total_chain import TotalChain
from fl_he.wire.encrypted_sum import DECRYPT
from fl_he.wire.permission import PERMIT, PERMIT_SEALED
from fl_he.wire.sealed_messages import OPEN

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}
EXPOSES_WEST = "the total of these 4 hospitals would expose west"

#: Begins a run; the returned function takes its first round.
Begin = Callable[[Federation, Callable[[object], None]], Callable[[], object]]


def fold(federation: Federation, on_summed: Callable[[object], None]) -> Callable[[], object]:
    strategy = SequentialPaillier(
        FedAvg(), topology="fold", node_timeout=0.5, on_dropout=CONTINUE, on_summed=on_summed
    )
    strategy.call_roll(federation.grid)
    strategy.chain = TotalChain(terms().to_config())
    return lambda: strategy.sum_up("train", 1, MessageType.TRAIN)


def sealed(federation: Federation, on_summed: Callable[[object], None]) -> Callable[[], object]:
    chain = federation.chain(on_summed=on_summed)
    chain.begin()
    return chain.run_round


def sent(federation: Federation) -> list[str]:
    """Return the questions to company X about sums."""
    actions = [message.metadata.message_type for message in federation.grid.sent]
    about = {PERMIT: "permit", PERMIT_SEALED: "permit", DECRYPT: "open", OPEN: "open"}
    return [about[action] for action in actions if action in about]


@pytest.mark.parametrize("begin", [fold, sealed])
def test_a_run_that_began_before_another_opened_its_sum(tmp_path: Path, begin: Begin) -> None:
    one = Federation(tmp_path, HOSPITALS, alone=False)
    two = one.another_run()
    of_all, of_three = begin(one, lambda _: None), begin(two, lambda _: None)
    two.grid.leave(two.node_id("west"))
    of_three()
    with pytest.raises(NotPermittedError, match=EXPOSES_WEST):
        of_all()
    assert (sent(one), sent(two)) == (["permit"], ["permit", "open"])


@pytest.mark.parametrize("begin", [fold, sealed])
def test_two_runs_that_both_ask_first(tmp_path: Path, begin: Begin) -> None:
    one = Federation(tmp_path, HOSPITALS, alone=False)
    two = one.another_run()
    of_all = begin(one, lambda _: None)

    def between(_: object) -> None:
        with pytest.raises(NotPermittedError, match=EXPOSES_WEST):
            of_all()

    of_three = begin(two, between)
    two.grid.leave(two.node_id("west"))
    of_three()
    assert (sent(one), sent(two)) == (["permit"], ["permit", "open"])
