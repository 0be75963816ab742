"""CaPC on deployed nodes, whose files are on this disk and whose messages a coordinator changes."""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from capc_federation import CASES, Deployed
from capc_nodes import ANSWERING, HOLDER, KEYS, QUERYING, agreement, majority
from capc_snapshots import Snapshots, snapshots
from flwr.app import Message
from local_grid import LocalGrid
from quick import slow

from fl_he import server_app
from fl_he.capc.coordinator.roster import CapcRoster
from fl_he.capc.coordinator.rounds import CaPC
from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node.deployed import AgreedNode
from fl_he.capc.protocol import COUNTS, NOISE, SUM, CapcStep
from fl_he.config.composition import compose
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.tables.schema.description import read_schema
from fl_he.learning.voting.integer_model import IntegerModel
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

LAST = ANSWERING[-1]
NETWORK = b"of another format, by its name one of a network"


def answered(folder: Path) -> list[int]:
    """Return the sizes of the batches that a party has answered."""
    path = folder / "voting.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry["queries"] for entry in map(json.loads, lines) if "begun" not in entry]


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def test_the_querying_party_gets_the_majority_label_on_its_own_disk(deployed: Deployed) -> None:
    deployed.ask(3)
    assert deployed.labels == majority(CASES)[:3]
    assert set(deployed.labels) == {"well", "sick"}
    deployed.restart()
    deployed.ask(1)
    assert deployed.labels == majority(CASES), "the next run asks about what is left"
    for path in (QUERYING + "/labels.csv", LAST + "/voting.jsonl"):
        assert stat.S_IMODE((deployed.folder / path).stat().st_mode) == 0o600
    with pytest.raises(ProtocolError, match="open cases"):
        deployed.ask(1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "3,1e308,x",
            "times half an agreed range from its middle, but those of column 'size' are not all",
        ),
        (
            "secret,,x",
            "column 'age' must be numeric, got 1 cell of text in row 2; column 'size' must have no "
            "missing values, got 1 missing cell in row 2 (the header is row 1)",
        ),
    ],
)
def test_what_is_wrong_with_cases_stands_in_the_nodes_log_alone(
    deployed: Deployed, caplog: pytest.LogCaptureFixture, row: str, words: str
) -> None:
    (deployed.folder / QUERYING / "cases.csv").write_text(f"age,size,remark\n{row}\n4,4,y\n")
    with pytest.raises(ProtocolError) as caught:
        deployed.ask(1)
    assert not {"age", "size", "secret"} & set(str(caught.value).replace("'", " ").split())
    assert words in caplog.text
    assert "secret" not in caplog.text
    deployed.require_no_label()


def test_a_case_without_an_answer_has_an_empty_cell(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, threshold=4)
    deployed.ask(2)
    assert deployed.labels == ["", ""], "three parties cannot reach four votes"


def test_without_a_threshold_every_case_is_answered(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, threshold=None, sigma_threshold=None)
    deployed.ask(4)
    assert deployed.labels == majority(CASES)


def test_the_coordinator_sees_envelopes_and_no_report(deployed: Deployed) -> None:
    deployed.ask(4)
    parts = [
        array.data
        for message in [*deployed.grid.sent, *deployed.grid.received]
        for record in message.content.array_records.values()
        for array in record.values()
    ]
    assert len(parts) > 50
    assert all(part.startswith(b"FLSE") for part in parts)
    assert len(set(parts)) * 2 == len(parts), "each goes in and out once"
    replies = [CapcReply.from_content(message.content) for message in deployed.grid.received]
    assert {reply.report for reply in replies} == {"", "{}"}
    assert {reply.seconds for reply in replies} == {None}, "nobody learns how long numbers took"


def test_nothing_secret_is_left_in_the_state_and_none_of_it_was_in_a_message(
    deployed: Deployed,
) -> None:
    kept: set[bytes] = set()

    def look(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        for context in deployed.grid.contexts.values():
            for record in context.state.config_records.values():
                kept.update(value for value in record.values() if isinstance(value, bytes))
        return request

    deployed.grid.change = look
    deployed.ask(4)
    assert len(kept) > 8, "masks and permutations were there"
    for context in deployed.grid.contexts.values():
        for record in context.state.config_records.values():
            assert not [value for value in record.values() if not isinstance(value, int)]
    sent = b"".join(
        array.data
        for message in [*deployed.grid.sent, *deployed.grid.received]
        for record in message.content.array_records.values()
        for array in record.values()
    )
    assert not [value for value in kept if len(value) > 16 and value in sent]


@pytest.mark.parametrize("last", [*slow((CapcStep.COMPARE,)), CapcStep.COUNT])
def test_what_a_broken_batch_left_is_gone_with_the_next_one(
    deployed: Deployed, last: CapcStep
) -> None:
    def stop(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        if step is last:
            raise KeyboardInterrupt
        return request

    deployed.grid.change = stop
    with pytest.raises(KeyboardInterrupt):
        deployed.ask(1)
    deployed.grid.change = lambda step, name, request: request
    deployed.ask(1)
    for context in deployed.grid.contexts.values():
        memory = context.state.config_records["fl-he.capc-memory"]
        assert len({key.partition("/")[0] for key in memory}) == 1, context.node_config["name"]


@pytest.mark.parametrize(
    ("kind", "owner"),
    [
        ("paillier", "querying"),
        ("dgk", "guardian"),
        *slow(("paillier", "guardian"), ("dgk", "querying")),
    ],
)
def test_a_key_that_is_not_pinned_is_refused_by_whoever_gets_it(
    deployed: Deployed, owner: str, kind: str
) -> None:
    made = PrivateKey.generate(1024) if kind == "paillier" else DgkPrivateKey.generate(1024)
    other = made.public_key.to_json()

    def swap(victim: str, step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        if name != victim or step in (CapcStep.DESCRIBE, CapcStep.KEYS):
            return request
        return replace(request, keys={**request.keys, f"{owner}-{kind}": other})

    for victim in (QUERYING, LAST, HOLDER):
        deployed.grid.change = partial(swap, victim)
        with pytest.raises(ProtocolError, match=f"the {owner} keys are not those pinned"):
            deployed.ask(1)
    deployed.require_no_label()


def test_one_partys_own_keys_do_not_pass_for_anothers(deployed: Deployed) -> None:
    """The guardian's keys are pinned, but not for the querying party."""
    key, dgk = KEYS[HOLDER]
    own = {
        "querying-paillier": key.public_key.to_json(),
        "querying-dgk": dgk.public_key.to_json(),
    }
    deployed.grid.change = lambda step, name, request: replace(
        request, keys={**request.keys, **own} if step is CapcStep.EVALUATE else request.keys
    )
    with pytest.raises(ProtocolError, match="the querying keys are not those pinned"):
        deployed.ask(1)


@pytest.mark.parametrize("missing", [("capc",), ("federation", "identity")])
@pytest.mark.parametrize("name", [HOLDER, QUERYING, LAST])
def test_a_node_without_pins_takes_no_part(
    tmp_path: Path, missing: tuple[str, ...], name: str
) -> None:
    deployed = Deployed(tmp_path)
    for setting in missing:
        del deployed.own(name)[setting]
    with pytest.raises(ProtocolError) as refused:
        deployed.ask(1)
    assert f"{name}: a deployed node in CaPC must be given capc" in str(refused.value)


def test_a_fold_is_refused(deployed: Deployed) -> None:
    with pytest.raises(ProtocolError, match="topology must be chain"):
        deployed.ask(1, topology="fold")
    with pytest.raises(ProtocolError, match="segments 1"):
        deployed.ask(1, segments=2)


def test_nodes_with_different_agreements_are_told(deployed: Deployed) -> None:
    other = deployed.folder / "other.json"
    other.write_text(agreement(sigma_gnmax=0.06).to_json())
    deployed.own(LAST)["capc"] = str(other)
    with pytest.raises(ProtocolError, match="the same agreement, got 2 different"):
        deployed.ask(1)


def test_several_labels_are_refused_by_coordinator_and_nodes(
    deployed: Deployed, tmp_path: Path
) -> None:
    words = (
        *("experiment=capc_breast_cancer", "hospitals=4", "topology=chain", "data=csv"),
        *("data.path=none.csv", "capc.voting=powerset", "capc.labels=[a,b]"),
    )
    with pytest.raises(ProtocolError, match=r"capc\.labels must be left out with deployed nodes"):
        server_app.train(deployed.grid, compose("config", list(words)), tmp_path / "run")
    deployed.grid.change = lambda step, name, request: replace(request, label=2)
    with pytest.raises(ProtocolError, match="label must be 0: this node has agreed on one vote"):
        deployed.ask(1)
    assert answered(tmp_path / LAST) == []


def test_nor_does_a_coordinator_that_hides_it_get_far(deployed: Deployed) -> None:
    """The guardian has agreed to less noise than the others."""
    other = deployed.folder / "other.json"
    other.write_text(agreement(sigma_gnmax=0.06).to_json())
    deployed.own(HOLDER)["capc"] = str(other)

    def hide(reply: Message) -> Message:
        if reply.metadata.message_type == CapcStep.DESCRIBE:
            found = CapcReply.from_content(reply.content)
            reply.content = replace(found, agreement=agreement().to_json()).to_content()
        return reply

    deployed.grid.tamper = hide
    with pytest.raises(ProtocolError, match="the envelope's run must be"):
        deployed.ask(1)
    deployed.require_no_label()


STEPS = [
    (CapcStep.EVALUATE, LAST),
    (CapcStep.LOGIT_BITS, QUERYING),
    (CapcStep.COMPARE, LAST),
    (CapcStep.VOTE, QUERYING),
    (CapcStep.COLLECT, ANSWERING[1]),
    (CapcStep.COUNT, QUERYING),
    (CapcStep.COUNT_BITS, HOLDER),
    (CapcStep.COMPARE_COUNTS, QUERYING),
    (CapcStep.DECIDE, HOLDER),
    (CapcStep.ANY, QUERYING),
    (CapcStep.RELEASE, HOLDER),
    (CapcStep.LEARN, QUERYING),
]


@pytest.fixture(scope="module")
def two_batches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployed, list[Snapshots]]:
    """Return nodes that have answered two batches, and snapshots from before each step."""
    deployed, batches = Deployed(tmp_path_factory.mktemp("two-batches")), []
    for _ in range(2):
        deployed.restart()
        with snapshots(deployed.grid) as taken:
            deployed.ask(1)
        batches.append(taken)
    return deployed, batches


@pytest.mark.parametrize(("step", "name"), STEPS, ids=str)
def test_parts_that_were_altered_or_are_old_are_refused(
    two_batches: tuple[Deployed, list[Snapshots]], step: CapcStep, name: str
) -> None:
    deployed, (before, batch) = two_batches
    node = deployed.node(name)
    old = before.request(step, node)

    def altered(request: CapcRequest) -> CapcRequest:
        part, data = sorted(request.parts.items())[0]
        flipped = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
        return replace(request, parts={**request.parts, part: flipped})

    assert "signed it: altered or forged" in batch.refusal(step, node, altered)
    repeated = batch.refusal(step, node, lambda request: replace(request, parts=old.parts))
    assert "the envelope's run must be" in repeated
    assert len(deployed.labels) == 2


def test_parts_of_this_batch_are_refused_out_of_their_place(deployed: Deployed) -> None:
    """Two that the guardian sends the querying party in one reply, exchanged."""
    deployed.grid.change = lambda step, name, request: (
        replace(
            request,
            parts={"bits": request.part("reached-bits"), "reached-bits": request.part("bits")},
        )
        if step is CapcStep.COMPARE_COUNTS
        else request
    )
    with pytest.raises(ProtocolError, match="the envelope's purpose must be"):
        deployed.ask(1)


@pytest.mark.parametrize(
    ("step", "change", "reason"),
    [
        (CapcStep.EVALUATE, {"queries": 2}, "the envelope's position must be 2"),
        (CapcStep.EVALUATE, {"answering": ANSWERING[::-1]}, "the envelope's contributors must be"),
        (CapcStep.NOISE, {"answering": ANSWERING[:2]}, "answering parties must be at least 3"),
        (CapcStep.NOISE, {"answering": (*ANSWERING[:2], "st-nobody")}, "hospitals of the manifest"),
        (CapcStep.ASK, {"answering": (*ANSWERING[:2], QUERYING)}, "each of them once"),
        (CapcStep.EVALUATE, {"querying": ANSWERING[0], "answering": (*ANSWERING[1:], QUERYING)},
         "st-john"),
        (CapcStep.COUNT_BITS, {"session": "ab" * 16}, "the envelope's run must be"),
    ],
)  # fmt: skip
def test_nodes_that_are_told_different_stories_find_out(
    deployed: Deployed, step: CapcStep, change: Any, reason: str
) -> None:
    deployed.grid.change = lambda own, name, request: (
        replace(request, **change) if own is step else request
    )
    with pytest.raises(ProtocolError, match=reason):
        deployed.ask(1)
    deployed.require_no_label()


def test_the_noise_cannot_be_left_out(deployed: Deployed) -> None:
    deployed.grid.change = lambda step, name, request: (
        replace(request, parts={k: v for k, v in request.parts.items() if NOISE.name not in k})
        if step is CapcStep.COLLECT
        else request
    )
    with pytest.raises(
        ProtocolError, match=r"did not get all parts .*; missing: noise, test-noise"
    ):
        deployed.ask(1)
    deployed.require_no_label()


@pytest.mark.parametrize("name", ANSWERING[1:])
def test_nor_can_the_votes_before(deployed: Deployed, name: str) -> None:
    """Otherwise the counts would be those of fewer parties than min_contributors."""
    deployed.grid.change = lambda step, own, request: (
        replace(request, parts={k: v for k, v in request.parts.items() if k != SUM.name})
        if step is CapcStep.COLLECT and own == name
        else request
    )
    with pytest.raises(ProtocolError, match=f"{name} did not get all parts .*; missing: sum"):
        deployed.ask(1)
    deployed.require_no_label()
    assert not answered(deployed.folder / name), "nothing was spent"


def test_a_step_of_an_answering_party_is_taken_by_none_else(deployed: Deployed) -> None:
    key, dgk = KEYS[ANSWERING[0]]
    own = {
        "querying-paillier": key.public_key.to_json(),
        "querying-dgk": dgk.public_key.to_json(),
    }
    deployed.grid.change = lambda step, name, request: (
        replace(
            request,
            querying=ANSWERING[0],
            answering=(QUERYING, *ANSWERING[1:]),
            keys={**request.keys, **own},
        )
        if step is CapcStep.COLLECT and name == ANSWERING[0]
        else request
    )
    with pytest.raises(ProtocolError, match="must be asked of another node, got st-john"):
        deployed.ask(1)


def test_the_guardian_makes_no_noise_for_more_than_any_party_may_answer(tmp_path: Path) -> None:
    """Requests for noise are unsigned, so a few bytes must not cost the guardian hours."""
    deployed = Deployed(tmp_path, sigma_gnmax=0.5, sigma_threshold=0.5, epsilon=38.0)
    deployed.grid.change = lambda step, name, request: replace(
        request, queries=3 if step is CapcStep.NOISE else request.queries
    )
    with pytest.raises(ProtocolError, match="queries must be at most 2, which is what is left"):
        deployed.ask(1)


def test_nor_may_the_sum_of_another_party_pass_for_noisy_counts(deployed: Deployed) -> None:
    sums: list[bytes] = []

    def swap(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        if step is CapcStep.COLLECT and SUM.name in request.parts:
            sums.append(request.part(SUM.name))
        if step is CapcStep.COUNT:
            return replace(request, parts={**request.parts, COUNTS.name: sums[0]})
        return request

    deployed.grid.change = swap
    with pytest.raises(ProtocolError, match="the envelope must be from st-mary"):
        deployed.ask(1)


def test_an_answering_party_refuses_when_its_budget_is_spent(tmp_path: Path) -> None:
    # a test and an answer cost rho = 1 / 0.5**2 + 0.5 / 0.5**2 = 6
    deployed = Deployed(tmp_path, sigma_gnmax=0.5, sigma_threshold=0.5, epsilon=38.0)
    deployed.ask(2)
    deployed.restart()
    protocol = CaPC(CapcRoster(deployed.grid, 4), topology="chain")
    assert protocol.askable(QUERYING) == 0
    with pytest.raises(ProtocolError, match="queries must be at most 0, which is what is left"):
        deployed.ask(1)
    refused_at = deployed.grid.sent[-1].metadata.message_type
    assert refused_at == CapcStep.EVALUATE, "not after all the work"
    assert len(deployed.labels) == 2
    for name in ANSWERING:
        assert answered(tmp_path / name) == [2]


def test_a_party_with_a_smaller_epsilon_answers_less_than_the_others(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, sigma_gnmax=0.5, sigma_threshold=0.5, epsilon=38.0)
    deployed.own(LAST)["capc-epsilon"] = 25.0
    deployed.restart()
    assert CaPC(CapcRoster(deployed.grid, 4), topology="chain").askable(QUERYING) == 1
    with pytest.raises(ProtocolError, match="queries must be at most 1, which is what is left"):
        deployed.ask(2)
    deployed.own(LAST)["capc-epsilon"] = 39.0
    deployed.restart()
    with pytest.raises(ProtocolError, match=r"capc-epsilon .* at most the agreement's epsilon, 38"):
        deployed.ask(1)


@pytest.mark.parametrize("limited", [True, False])
def test_a_run_counts_what_it_has_asked(tmp_path: Path, *, limited: bool) -> None:
    """Nodes report the rest of their budgets once, at the run's start: no request is in vain."""
    budget: dict[str, Any] = (
        {} if limited else {"sigma_gnmax": 0.5, "sigma_threshold": 0.5, "epsilon": 38.0}
    )
    deployed = Deployed(tmp_path, **budget)
    if limited:
        deployed.own(LAST)["capc-queries"] = 2
    protocol = CaPC(CapcRoster(deployed.grid, 4), topology="chain")
    left = [protocol.askable(QUERYING)]
    for _ in range(2):
        protocol.ask(QUERYING, 1)
        left.append(protocol.askable(QUERYING))
    assert left == [2, 1, 0]


def test_a_batch_is_noted_before_the_vote_leaves(deployed: Deployed) -> None:
    seen: dict[CapcStep, int] = {}

    def look(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        seen[step] = len(answered(deployed.folder / LAST))
        return request

    deployed.grid.change = look
    deployed.ask(1)
    assert (seen[CapcStep.VOTE], seen[CapcStep.COUNT]) == (0, 1)


def test_a_querying_partys_limit_holds_before_a_model_is_evaluated_and_over_runs(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.own(LAST)["capc-queries"] = 2
    deployed.ask(1)
    deployed.restart()
    assert CaPC(CapcRoster(deployed.grid, 4), topology="chain").askable(QUERYING) == 1
    evaluated: list[AgreedNode] = []
    model = AgreedNode.model

    def seen(node: AgreedNode) -> IntegerModel:
        evaluated.append(node)
        return model(node)

    def evaluating(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        if (step, name) == (CapcStep.EVALUATE, LAST):
            monkeypatch.setattr(AgreedNode, "model", seen)
        return request

    deployed.grid.change = evaluating
    with pytest.raises(ProtocolError, match=f"{LAST}: queries of {QUERYING} must be at most 1, "):
        deployed.ask(2)
    assert LAST not in {node.enrolment.name for node in evaluated}
    deployed.grid.change = lambda step, name, request: request
    deployed.restart()
    deployed.ask(1)
    assert answered(deployed.folder / LAST) == [1, 1]
    assert CaPC(CapcRoster(deployed.grid, 4), topology="chain").askable(QUERYING) == 0


@pytest.mark.parametrize(
    ("name", "setting", "content", "reason"),
    [
        (LAST, "capc-model", b"\x80\x04N.", "capc-model in the node configuration must name"),
        (LAST, "capc-model", NETWORK, "capc-model in the node configuration must name"),
        (LAST, "capc-ledger", b"{}\n", "capc-ledger in the node configuration must name"),
        (QUERYING, "capc-cases", b"age\n1\n", "capc-cases or capc-labels in the node"),
        (QUERYING, "capc-private-key", b"{}", "capc-private-key in the node configuration must"),
        (HOLDER, "capc-dgk-key", b"{}", "capc-dgk-key in the node configuration must name"),
        (HOLDER, "capc", b"{}", "a CaPC agreement must have exactly the members"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_run_before_it_begins(
    deployed: Deployed, name: str, setting: str, content: bytes, reason: str
) -> None:
    path = deployed.folder / ("wrong.safetensors" if content is NETWORK else "wrong")
    path.touch(0o600)
    path.write_bytes(content)
    deployed.own(name)[setting] = str(path)
    with pytest.raises(ProtocolError) as refused:
        deployed.ask(1)
    assert f"{name}: {reason}" in str(refused.value)
    assert str(deployed.folder) not in str(refused.value)


@pytest.mark.parametrize("setting", ["capc-private-key", "capc-dgk-key"])
def test_another_key_than_the_agreements_is_refused(deployed: Deployed, setting: str) -> None:
    deployed.own(QUERYING)[setting] = deployed.own(HOLDER)[setting]
    with pytest.raises(ProtocolError, match=f"{setting} in .* must name the agreement's key"):
        deployed.ask(1)


SCHEMA = """
columns:
  age: {type: number, bounds: [0, 120], aliases: [Alter]}
  size: {type: number, missing: drop-row}
  seen: {type: date, since: 2020-01-01}
outcome: {column: state}
terms: age + size
"""


@pytest.fixture
def by_schema(tmp_path: Path) -> Deployed:
    """Return nodes of a schema, the cases of which are not written as it says."""
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    deployed = Deployed(tmp_path, schema=read_schema(tmp_path / "schema.yaml").digest)
    for node in deployed.nodes[:-1]:
        node["schema"] = str(tmp_path / "schema.yaml")
    own = tmp_path / QUERYING
    cases = "".join(f"{size};x;{age}\n" for age, size in CASES.tolist()).replace(".", ",")
    (own / "cases.csv").write_text(f"size;remark;Alter\n{cases}")
    (own / "reading.yaml").write_text("{separator: ;, decimal: ','}")
    deployed.own(QUERYING)["reading"] = str(own / "reading.yaml")
    return deployed


def test_cases_are_read_by_a_schema(by_schema: Deployed) -> None:
    by_schema.ask(3)
    assert by_schema.labels == majority(CASES)[:3]
    by_schema.restart()
    by_schema.ask(1)
    assert by_schema.labels == majority(CASES), "the next run asks about what is left"


def test_a_case_that_the_schema_refuses_stands_in_the_nodes_log_alone(
    by_schema: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    (by_schema.folder / QUERYING / "cases.csv").write_text("age;size\n40;\n990;1\n")
    with pytest.raises(ProtocolError, match="capc-cases or capc-labels in the node conf") as caught:
        by_schema.ask(1)
    assert "age" not in str(caught.value).split()
    for words in ("'age': 1 cell outside 0 to 120, in row 3", "'size': 1 missing cell, in row 2"):
        assert words in caplog.text
    assert "990" not in caplog.text
    by_schema.require_no_label()


def test_columns_of_the_schema_are_those_of_the_agreement(
    tmp_path: Path, by_schema: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "other.yaml").write_text(SCHEMA.replace("age + size", "size + age"))
    text = agreement(schema=read_schema(tmp_path / "other.yaml").digest).to_json()
    (tmp_path / "capc.json").write_text(text)
    for node in by_schema.nodes[:-1]:
        node["schema"] = str(tmp_path / "other.yaml")
    with pytest.raises(ProtocolError, match="capc-cases or capc-labels in the node conf"):
        by_schema.ask(1)
    assert "the columns of the schema's terms must be those agreed: " in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            "type: number",
            "type: number, missing: mean",
            "must have no column with missing: mean in CaPC",
        ),
        (
            "outcome: {column: state}",
            "outcome: {column: visits, family: poisson}",
            "CaPC votes for classes, and the schema's outcome is a number of family poisson: use",
        ),
    ],
)
def test_a_schema_that_capc_does_not_take_is_refused(
    tmp_path: Path, by_schema: Deployed, before: str, after: str, words: str
) -> None:
    text = SCHEMA.replace(before, after, 1)
    assert text != SCHEMA
    (tmp_path / "other.yaml").write_text(text)
    agreed = agreement(schema=read_schema(tmp_path / "other.yaml").digest).to_json()
    (tmp_path / "capc.json").write_text(agreed)
    for node in by_schema.nodes[:-1]:
        node["schema"] = str(tmp_path / "other.yaml")
    with pytest.raises(ProtocolError, match=words):
        by_schema.ask(1)


@pytest.mark.parametrize("name", [QUERYING, LAST])
def test_a_schema_is_that_of_the_agreement(by_schema: Deployed, name: str) -> None:
    own = by_schema.own(name)
    (by_schema.folder / "other.yaml").write_text(SCHEMA.replace("2020-01-01", "2021-01-01"))
    shared, own["schema"] = own["schema"], str(by_schema.folder / "other.yaml")
    with pytest.raises(
        ProtocolError, match="must name the shared schema, as in the agreement; it names"
    ):
        by_schema.ask(1)
    del own["schema"]
    own.pop("reading", None)
    with pytest.raises(ProtocolError, match=r"must name the shared schema, .*; it is not set"):
        by_schema.ask(1)
    own["reading"] = str(by_schema.folder / "reading.yaml")
    with pytest.raises(ProtocolError, match="reading in the node configuration must come with sch"):
        by_schema.ask(1)
    (by_schema.folder / "capc.json").write_text(agreement().to_json())
    del own["reading"]
    own["schema"] = shared
    with pytest.raises(
        ProtocolError, match="schema in the node configuration must be left out, as"
    ):
        by_schema.ask(1)


def test_half_of_a_part_is_refused(deployed: Deployed) -> None:
    del deployed.own(LAST)["capc-ledger"]
    with pytest.raises(ProtocolError, match="both capc-model and capc-ledger"):
        deployed.ask(1)


def test_one_without_a_model_does_not_answer(deployed: Deployed) -> None:
    for setting in ("capc-model", "capc-ledger"):
        del deployed.own(LAST)[setting]
    with pytest.raises(ProtocolError, match="answering parties must be at least 3"):
        deployed.ask(1)


def test_a_run_asks_for_everybody_with_open_cases_and_tells_nothing_of_labels(
    tmp_path: Path,
) -> None:
    """st-john answers st-anne, and asks about its own case."""
    deployed = Deployed(tmp_path, min_contributors=2, threshold=1)
    own = tmp_path / ANSWERING[0]
    (own / "cases.csv").write_text("size,age\n4.5,99\n")
    deployed.own(ANSWERING[0]).update(
        {"capc-cases": str(own / "cases.csv"), "capc-labels": str(own / "labels.csv")}
    )
    overrides = ("experiment=capc_breast_cancer", "hospitals=4", "topology=chain", "capc.queries=3")
    metrics = server_app.train(deployed.grid, compose("config", list(overrides)), tmp_path / "run")
    asked = {one["party"]: one["queries"] for one in metrics["querying"]}
    assert asked == {QUERYING: 3, ANSWERING[0]: 1}
    for result in metrics["querying"]:
        told = {key for key, value in result.items() if value is not None}
        assert told == {"party", "queries"}
    assert metrics["privacy"]["queries"] == 4
    assert deployed.labels == majority(CASES)[:3]
    assert (own / "labels.csv").read_text() == "age,size,label\n99.0,4.5,sick\n"
    spent = {name: answered(tmp_path / name) for name in ANSWERING}
    assert spent == {ANSWERING[0]: [3], ANSWERING[1]: [3, 1], ANSWERING[2]: [3, 1]}
    deployed.own(QUERYING).pop("capc-cases")
    deployed.own(QUERYING).pop("capc-labels")
    with pytest.raises(ProtocolError, match="no party has open cases"):
        server_app.train(deployed.grid, compose("config", list(overrides)), tmp_path / "again")


def fork(deployed: Deployed, name: str) -> Callable[[Message], Message]:
    """Have a second Flower run's answer to a party's steps up to its vote take the first one's."""
    twin = LocalGrid(deployed.grid.app, deployed.nodes, run_id=8)
    own = deployed.node(name)

    def answered_twice(reply: Message) -> Message:
        step = CapcStep(reply.metadata.message_type)
        if reply.metadata.src_node_id != own or step not in (CapcStep.EVALUATE, CapcStep.COMPARE):
            return reply
        asked = next(
            message
            for message in reversed(deployed.grid.sent)
            if (message.metadata.dst_node_id, message.metadata.message_type) == (own, step)
        )
        copy = Message(asked.content, own, step.value)
        (other,) = twin.pull_messages(twin.push_messages([copy]))
        if other.has_error():
            raise ProtocolError(str(other.error.reason))
        reply.content = other.content
        return reply

    return answered_twice


def test_a_batch_is_begun_in_one_run(deployed: Deployed) -> None:
    """Otherwise one run's order of classes could undo another's: a random vote."""
    deployed.grid.tamper = fork(deployed, LAST)
    with pytest.raises(ProtocolError, match=r"batch [0-9a-f]{32} has already been begun"):
        deployed.ask(4)
    deployed.require_no_label()
    deployed.restart()
    deployed.ask(4)
    assert deployed.labels == majority(CASES)


def test_sets_that_differ_by_one_party_are_counted_in_full(tmp_path: Path) -> None:
    """Noise must cover a vote for any votes of the others: each batch costs each of its parties."""
    deployed = Deployed(tmp_path, min_contributors=2, threshold=1)

    def keep_from_its_labels(step: CapcStep, name: str, request: CapcRequest) -> CapcRequest:
        if step is CapcStep.LEARN:
            raise KeyboardInterrupt
        return request

    deployed.grid.change = keep_from_its_labels
    with pytest.raises(KeyboardInterrupt):
        deployed.ask(2)
    for setting in ("capc-model", "capc-ledger"):
        deployed.own(LAST).pop(setting)
    deployed.restart()
    deployed.ask(2)
    assert len(deployed.labels) == 2
    assert {name: answered(tmp_path / name) for name in ANSWERING} == {
        ANSWERING[0]: [2, 2],
        ANSWERING[1]: [2, 2],
        LAST: [2],
    }


def test_a_stolen_disk_of_the_guardian_opens_no_recorded_vote(deployed: Deployed) -> None:
    """Its identity opens the parts that were its own: masked numbers, in an order unknown to it."""
    deployed.ask(2)
    stolen = Identity.load(deployed.folder / HOLDER / "identity.json")
    opened, kept = set[CapcStep](), dict[CapcStep, int]()
    for message in deployed.grid.sent:
        step = CapcStep(message.metadata.message_type)
        for envelope in CapcRequest.from_content(message.content).parts.values():
            lengths = struct.unpack(">4sBIQ", envelope[:17])
            context = envelope[17 : 17 + lengths[2]]
            try:
                payload = stolen.open(envelope[17 + lengths[2] : -64], context)
            except CryptoError:
                kept[step] = kept.get(step, 0) + 1
            else:
                assert len(payload) == lengths[3]
                opened.add(step)
    assert opened == {CapcStep.COUNT_BITS, CapcStep.DECIDE, CapcStep.RELEASE}
    # Three positions, two running sums, the noise of counts and test; two noisy counts.
    assert (kept[CapcStep.COLLECT], kept[CapcStep.COUNT]) == (3 + 2 + 2, 2)
