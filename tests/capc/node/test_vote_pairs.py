"""Pairwise masks of votes on deployed nodes: the parties of the set, and single use."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from capc_federation import CASES, Deployed
from capc_nodes import ANSWERING, HOLDER, KEYS, QUERYING, agreement, majority
from flwr.app import ConfigRecord, Context, Message, RecordDict
from local_grid import LocalGrid, simulated_nodes
from lost_replies import crash
from quick import slow

from fl_he import client_app, server_app
from fl_he.capc.coordinator.roster import CapcRoster
from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node.keys import PublicKeys
from fl_he.capc.node.vote_pairs import VotePairs
from fl_he.capc.protocol import CapcStep
from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.pair_memory import PairMemory
from fl_he.clients.state_store import StateStore
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.report.tables.capc import answers_table
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

GUARDIAN, OTHER = (
    PublicKeys(KEYS[name][0].public_key, KEYS[name][1].public_key) for name in (HOLDER, QUERYING)
)
SET = {name: bytes([number]) * 32 for number, name in enumerate(ANSWERING)}
ASKED = CapcRequest("ab" * 16, 2, QUERYING, ANSWERING)
FEATURES, LENGTH = bytes(32), 30


def pairs(name: str, seeds: dict[str, dict[str, bytes]]) -> VotePairs:
    """Return one party's seeds, whose halves for the others are added to all seeds."""
    memory = PairMemory(StateStore(ConfigRecord()), StateStore(ConfigRecord()), name)
    for other, half in memory.begin(SET).items():
        seeds[other][name] = half
    node = DeployedNode(Context(7, 1, {"role": "hospital", "name": name}, RecordDict(), {}))
    return VotePairs(node, agreement().fingerprint, memory)


@pytest.fixture
def voters() -> list[VotePairs]:
    seeds: dict[str, dict[str, bytes]] = {name: {} for name in ANSWERING}
    made = [pairs(name, seeds) for name in ANSWERING]
    for name, one in zip(ANSWERING, made, strict=True):
        one.memory.keep(seeds[name])
    return made


def masks(one: VotePairs, request: CapcRequest = ASKED, **changes: Any) -> list[int]:
    given: dict[str, Any] = {
        **{"guardian": GUARDIAN, "features": FEATURES, "length": LENGTH, "vote": b"vote"},
        **changes,
    }
    return one.masks(request, **given).plaintexts(3, int(GUARDIAN.paillier.n))


def total(parts: list[list[int]]) -> list[int]:
    return [sum(numbers) % int(GUARDIAN.paillier.n) for numbers in zip(*parts, strict=True)]


def test_masks_cancel_in_the_sum_of_all_alone(voters: list[VotePairs]) -> None:
    made = [masks(one) for one in voters]
    assert total(made) == [0] * 3
    for left_out in range(3):
        rest = [one for at, one in enumerate(made) if at != left_out]
        assert all(total(rest))


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (replace(ASKED, session="cd" * 16), {}),
        (replace(ASKED, queries=3), {}),
        (replace(ASKED, querying="st-agnes"), {}),
        (replace(ASKED, answering=ANSWERING[::-1]), {}),
        (ASKED, {"features": b"1" * 32}),
        (ASKED, {"length": 60}),
        (ASKED, {"guardian": OTHER}),
        (ASKED, {"guardian": PublicKeys(GUARDIAN.paillier, OTHER.dgk)}),
    ],
)
def test_parties_that_are_asked_differently_do_not_cancel(
    voters: list[VotePairs], request_: CapcRequest, changes: dict[str, Any]
) -> None:
    first, *others = voters
    made = [masks(first, request_, **changes), *(masks(one) for one in others)]
    assert all(total(made))
    assert not set(masks(first)) & set(made[0]), "a stream is used for one question"


def test_another_agreement_has_other_streams(voters: list[VotePairs]) -> None:
    assert not set(masks(replace(voters[0], agreement="ab" * 32))) & set(masks(voters[0]))


def test_a_batch_is_answered_with_one_vote(voters: list[VotePairs]) -> None:
    assert masks(voters[0]) == masks(voters[0])
    with pytest.raises(ProtocolError, match="must be the same whenever"):
        masks(voters[0], vote=b"another")


@pytest.mark.parametrize("names", [ANSWERING[:2], (*ANSWERING, "st-agnes")])
def test_other_parties_than_those_of_the_set_are_refused(
    voters: list[VotePairs], names: tuple[str, ...]
) -> None:
    with pytest.raises(ProtocolError, match="must be of all parties of the set"):
        masks(voters[0], replace(ASKED, answering=names))


def test_a_party_of_the_set_that_asks_is_left_out_but_not_of_three(
    voters: list[VotePairs],
) -> None:
    with pytest.raises(ProtocolError, match="and of 3 at least"):
        masks(voters[0], replace(ASKED, querying=ANSWERING[2], answering=ANSWERING[:2]))


def test_deployed_parties_mask_and_labels_stay(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, masked=True)
    deployed.ask(2)
    deployed.restart()
    deployed.ask(2)
    assert deployed.labels == majority(CASES)
    steps = [message.metadata.message_type for message in deployed.grid.sent]
    assert steps.count(CapcStep.SEEDS) == steps.count(CapcStep.PAIR) == len(ANSWERING)
    for name in ANSWERING:
        files = sorted(path.name for path in (tmp_path / name).glob("voting.jsonl*"))
        digits = agreement().fingerprint[:32]
        assert files == [
            *("voting.jsonl", "voting.jsonl.masked-set.jsonl"),
            f"voting.jsonl.pairs-{digits}.jsonl",
        ]
        for file in files:
            assert stat.S_IMODE((tmp_path / name / file).stat().st_mode) == 0o600


def test_a_coordinator_that_carries_no_seeds_gets_no_vote(tmp_path: Path) -> None:
    """The coordinator alters the descriptions, so that nobody seems to mask."""
    deployed = Deployed(tmp_path, masked=True)

    def hide(reply: Message) -> Message:
        if reply.metadata.message_type == CapcStep.DESCRIBE:
            found = CapcReply.from_content(reply.content)
            reply.content = replace(found, resistant=False).to_content()
        return reply

    deployed.grid.tamper = hide
    with pytest.raises(ProtocolError, match="seeds of masks must be exchanged"):
        deployed.ask(1)
    deployed.require_no_label()
    assert not any(m.metadata.message_type == CapcStep.COUNT for m in deployed.grid.sent)


def test_a_smaller_set_is_refused(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, masked=True)
    for name in ANSWERING:
        del deployed.own(name)["masked-set"]
    with pytest.raises(ProtocolError, match="must mask for a set of 4 to 300 hospitals"):
        deployed.ask(1)


def test_all_who_answer_mask_or_none(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, masked=True)
    own = deployed.own(ANSWERING[1])
    del own["collusion"], own["masked-set"]
    with pytest.raises(ProtocolError, match=rf"or none: {ANSWERING[1]} does not"):
        deployed.ask(1)


def test_a_party_that_has_masked_does_not_stop(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, masked=True)
    deployed.ask(1)
    for name in ANSWERING:
        del deployed.own(name)["collusion"], deployed.own(name)["masked-set"]
    deployed.restart()
    with pytest.raises(ProtocolError, match="must stay in the node configuration"):
        deployed.ask(1)


def test_a_party_that_has_lost_its_seeds_is_refused_by_the_others(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, masked=True)
    deployed.ask(1)
    files = [path for name in ANSWERING for path in (tmp_path / name).glob("*.pairs-*.jsonl")]
    files[0].unlink()
    deployed.restart()
    with pytest.raises(ProtocolError, match="must give one half of a seed"):
        deployed.ask(1)
    for file in files:
        file.unlink(missing_ok=True)
    deployed.restart()
    deployed.ask(1)
    assert deployed.labels == majority(CASES)[:2]


@pytest.mark.parametrize(
    "step", [CapcStep.SEEDS, *slow((CapcStep.PAIR,), (CapcStep.EVALUATE,)), CapcStep.COLLECT]
)
def test_without_one_of_them_no_sum_goes_on(tmp_path: Path, step: CapcStep) -> None:
    deployed = Deployed(tmp_path, masked=True)
    lost = deployed.node(ANSWERING[1])

    def tamper(reply: Message) -> Message:
        own = (reply.metadata.message_type, reply.metadata.src_node_id) == (step, lost)
        return crash(reply) if own else reply

    deployed.grid.tamper = tamper
    with pytest.raises(ProtocolError, match=ANSWERING[1]):
        deployed.ask(1)
    assert not any(m.metadata.message_type == CapcStep.COUNT for m in deployed.grid.sent)
    deployed.grid.tamper = lambda reply: reply
    deployed.restart()
    deployed.ask(1)
    assert deployed.labels == majority(CASES)[:1]


def test_a_lost_ledger_lets_no_second_order_of_positions_out(tmp_path: Path) -> None:
    """Two orders of the same positions under one stream would show the vote."""
    deployed, party = Deployed(tmp_path, masked=True), ANSWERING[0]
    node, kept = deployed.node(party), dict[CapcStep, CapcRequest]()

    def keep(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        if name == party:
            kept[step] = request
        return request

    deployed.grid.change = keep
    deployed.ask(3)
    context = deployed.grid.contexts[node]
    for _ in range(12):  # the order is the same as before in one of 8
        (tmp_path / party / "voting.jsonl").unlink(missing_ok=True)
        context.state = RecordDict()
        replies = list[Message]()
        for step in (CapcStep.EVALUATE, CapcStep.COMPARE, CapcStep.COLLECT):
            message = Message(kept[step].to_content(), node, step.value)
            replies += deployed.grid.send_and_receive([message])
        if replies[-1].has_error():
            break
    assert [reply.has_error() for reply in replies] == [False, False, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda halves: {**halves, "st-agnes": b"x"}, "must send halves for the others"),
        (lambda halves: dict(list(halves.items())[1:]), "must send halves for the others"),
        (lambda halves: dict.fromkeys(halves, b"x"), "envelope"),
    ],
)
def test_halves_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], words: str
) -> None:
    deployed = Deployed(tmp_path, masked=True)

    def tamper(reply: Message) -> Message:
        if reply.metadata.message_type == CapcStep.SEEDS:
            found = CapcReply.from_content(reply.content)
            reply.content = replace(found, parts=change(dict(found.parts))).to_content()
        return reply

    deployed.grid.tamper = tamper
    with pytest.raises(ProtocolError, match=words):
        deployed.ask(1)


def test_others_have_no_seeds(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, masked=True)
    roster = CapcRoster(deployed.grid, len(deployed.nodes) - 1)
    for name in ("the privacy guardian", QUERYING):
        with pytest.raises(ProtocolError, match=r"must go to hospitals|must be given capc-ledger"):
            roster.take(CapcStep.SEEDS, {name: ASKED})
    (tmp_path / "plain").mkdir()
    plain = Deployed(tmp_path / "plain")
    roster = CapcRoster(plain.grid, len(plain.nodes) - 1)
    with pytest.raises(ProtocolError, match="must go to hospitals with collusion='resistant'"):
        roster.take(CapcStep.SEEDS, {ANSWERING[0]: ASKED})


def test_a_run_that_asks_for_masks_refuses_parties_without(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path)
    config = compose(
        "config",
        [
            *("experiment=capc_breast_cancer", "hospitals=4", "topology=chain"),
            *("crypto.collusion=resistant", "crypto.key_bits=1024", f"output_dir={tmp_path}"),
        ],
    )
    with pytest.raises(ProtocolError, match="must be for hospitals that mask"):
        server_app.train(deployed.grid, config, tmp_path / "run")


def _given(config: Config, _: Context) -> Config:
    return config


@pytest.mark.parametrize("topology", ["fold", *slow(("chain",))])
def test_masks_change_no_label_of_a_simulated_run(tmp_path: Path, topology: str) -> None:
    found = []
    for collusion in ("none", "resistant"):
        config = compose(
            "config",
            [
                *("experiment=capc_breast_cancer", "crypto.key_bits=1024", "capc.queries=8"),
                *("capc.value_bits=28", "capc.querying=[1,3]", f"topology={topology}"),
                f"crypto.collusion={collusion}",
            ],
        )
        app = client_app.build(partial(_given, config))
        grid = LocalGrid(app, simulated_nodes(config.hospitals))
        found.append(server_app.train(grid, config, tmp_path / collusion))
    plain, masked = found
    assert masked["querying"] == plain["querying"]
    assert {one["party"] for one in masked["querying"]} == {"hospital-1", "hospital-3"}
    hops = [sum(step["hops"] for step in one["steps"]) for one in found]
    assert hops[1] == hops[0] + 2
    assert [one["masked_votes"] for one in found] == [0, 3]
    words = "company X learns one only with 2 of the 3 answering parties"
    pages = [(tmp_path / name / "report.html").read_text() for name in ("none", "resistant")]
    assert [words in page for page in pages] == [False, True]
    assert "no two of querying party, answering party and guardian" not in pages[1]
    assert [words in str(answers_table(one).caption) for one in found] == [False, True]
