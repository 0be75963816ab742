"""Choice of a sum's scheme by the strategy, the mod and each node, and refusals of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from echo_app import encrypted_app, grid
from flwr.app import Message
from flwr.app.user_config import UserConfig
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from masked_transcripts import schemes_in
from other_apps import W, moved, record, reply_of
from sealed_steps import reason

from fl_he.clients import EncryptionMod
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import TicketError
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.strategies import EncryptedSum, SequentialPaillier
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    DecryptRequest,
    Description,
    EncryptedReply,
    EncryptionRequest,
)
from fl_he.wire.records import ProtocolError

KEY = PrivateKey.generate(1024)
EXAMPLES = [10, 20, 30]
reply = reply_of(lambda client, message: (moved(client, message), {"loss": 0.5}))


def deployed(folder: Path, *schemes: str | None) -> list[UserConfig]:
    """Return nodes, company X last, each with a scheme in its configuration, or none."""
    KEY.save(folder / "key.json")
    pinned = KEY.public_key.fingerprint
    nodes: list[UserConfig] = [
        {
            **{"role": "hospital", "partition-id": k, "key-fingerprint": pinned},
            **{"reply-seconds": 0, "state": str(folder / f"hospital-{k}")},
        }
        for k in range(3)
    ]
    nodes.append({"role": "key-holder", "private-key": str(folder / "key.json")})
    for node, scheme in zip(nodes, schemes, strict=False):
        if scheme is not None:
            node["scheme"] = scheme
    return nodes


def strategy(scheme: str | None = None, **settings: Any) -> EncryptedSum:
    inner = FedAvg(fraction_evaluate=0.0)
    return EncryptedSum(inner, scheme=scheme, node_timeout=0.0, **settings)


def nodes_of(configs: list[UserConfig], **mod: Any) -> LocalGrid:
    return grid(encrypted_app(reply, [EncryptionMod(**mod)]), configs)


def scheme_of(running: EncryptedSum, nodes: LocalGrid) -> str:
    """Run a round; return the one scheme of all sums. The mean must be right."""
    result = running.start(nodes, record(W), num_rounds=1)
    mean = np.average([1, 2, 3], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + mean, atol=1e-6)
    (scheme,) = schemes_in(nodes.sent + nodes.received, running.roster.public_key)
    return scheme


def asked(nodes: LocalGrid) -> set[str]:
    """Return the types of all messages."""
    return {message.metadata.message_type for message in nodes.sent}


@pytest.mark.parametrize(
    ("choice", "expected"), [(None, MASKS), ("auto", MASKS), (MASKS, MASKS), (PAILLIER, PAILLIER)]
)
@pytest.mark.parametrize("simulated", [True, False])
def test_the_strategy_chooses(
    tmp_path: Path, choice: str | None, expected: str, simulated: bool
) -> None:
    configs = simulated_nodes(3) if simulated else deployed(tmp_path)
    assert scheme_of(strategy(choice), nodes_of(configs)) == expected


@pytest.mark.parametrize("place", [0, 2, 3], ids=["first", "last", "company X"])
@pytest.mark.parametrize("accepted", SCHEMES)
def test_auto_takes_what_all_nodes_accept(tmp_path: Path, place: int, accepted: str) -> None:
    schemes = [accepted if at == place else None for at in range(4)]
    assert scheme_of(strategy(), nodes_of(deployed(tmp_path, *schemes))) == accepted


@pytest.mark.parametrize("place", [0, 3], ids=["hospital", "company X"])
@pytest.mark.parametrize(("choice", "accepted"), [SCHEMES, SCHEMES[::-1]])
def test_a_choice_that_a_node_does_not_accept_stops_the_run_before_training(
    tmp_path: Path, place: int, choice: str, accepted: str
) -> None:
    nodes = nodes_of(deployed(tmp_path, *[accepted if at == place else None for at in range(4)]))
    with pytest.raises(ProtocolError) as caught:
        strategy(choice).start(nodes, record(W), num_rounds=1)
    assert str(caught.value) == (
        f"scheme must be one that all nodes accept ({accepted}), got {choice!r}: see scheme in the "
        "node configurations"
    )
    assert asked(nodes) == {DESCRIBE}


@pytest.mark.parametrize("choice", ["auto", *SCHEMES])
@pytest.mark.parametrize("schemes", [(PAILLIER, MASKS), (None, MASKS, None, PAILLIER)])
def test_nodes_that_have_no_scheme_in_common(
    tmp_path: Path, choice: str, schemes: tuple[str | None, ...]
) -> None:
    nodes = nodes_of(deployed(tmp_path, *schemes))
    with pytest.raises(ProtocolError, match=r"all nodes accept \(none\), got "):
        strategy(choice).start(nodes, record(W), num_rounds=1)
    assert asked(nodes) == {DESCRIBE}


@pytest.mark.parametrize(("choice", "accepted"), [SCHEMES, SCHEMES[::-1], ("auto", PAILLIER)])
def test_a_newcomer_that_does_not_accept_the_runs_scheme_is_skipped(
    tmp_path: Path, choice: str, accepted: str
) -> None:
    """The scheme of a run stays the same when nodes join."""
    configs = deployed(tmp_path)
    nodes = nodes_of(configs)

    def tamper(answer: Message) -> Message:
        if answer.metadata.message_type == DECRYPT and 2000 not in nodes.contexts:
            nodes.join(2000, {**configs[0], "partition-id": 3, "scheme": accepted})
        return answer

    nodes.tamper = tamper
    running = strategy(choice)
    running.start(nodes, record(W), num_rounds=3)
    assert [one.contributors for one in running.sums] == [3, 3, 3]
    (skipped,) = running.sums[2].skipped
    assert skipped.name == "node-2000"
    used = MASKS if choice == "auto" else choice
    assert f"one that this node accepts ({accepted}), got {used!r}" in skipped.reason
    assert schemes_in(nodes.sent, running.roster.public_key) == {used}


@pytest.mark.parametrize("place", [1, 3])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "one of masks, paillier, or left out") for name in ("mask", "Masks", "auto")),
        ("", "a text in quotes, got an empty text"),
    ],
)
def test_a_wrong_name_in_the_node_configuration(
    tmp_path: Path, place: int, name: str, words: str
) -> None:
    schemes = [name if at == place else None for at in range(4)]
    with pytest.raises(ProtocolError, match=f"scheme in the node configuration must be {words}"):
        strategy().call_roll(nodes_of(deployed(tmp_path, *schemes)))


@pytest.mark.parametrize("name", ["mask", "Paillier", "", "masks "])
def test_wrong_names_in_code(name: str) -> None:
    words = r"^scheme must be one of \['auto', 'masks', 'paillier'\], got "
    with pytest.raises(ProtocolError, match=words):
        strategy(name)
    with pytest.raises(ProtocolError, match=words):
        EncryptionMod(scheme=name)


@pytest.mark.parametrize("name", [MASKS, "auto", "mask"])
def test_sequential_paillier_has_one_scheme(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        SequentialPaillier(FedAvg(), scheme=name)
    assert str(caught.value) == f"scheme must be one of ['paillier'], got {name!r}"
    assert SequentialPaillier(FedAvg(), scheme=PAILLIER).scheme == PAILLIER


def test_sequential_paillier_where_nodes_accept_all() -> None:
    running = SequentialPaillier(FedAvg(fraction_evaluate=0.0), node_timeout=0.0)
    assert scheme_of(running, nodes_of(simulated_nodes(3))) == PAILLIER


@pytest.mark.parametrize("own", ["auto", PAILLIER])
def test_the_scheme_of_the_app_is_the_mods(own: str) -> None:
    assert scheme_of(strategy(PAILLIER), nodes_of(simulated_nodes(3), scheme=own)) == PAILLIER


@pytest.mark.parametrize(("choice", "own"), [SCHEMES, SCHEMES[::-1]])
def test_a_mod_that_accepts_another_scheme(choice: str, own: str) -> None:
    nodes = nodes_of(simulated_nodes(3), scheme=own)
    with pytest.raises(ProtocolError) as caught:
        strategy(choice).start(nodes, record(W), num_rounds=1)
    words = f": the scheme must be one that this node accepts ({own}), got {choice!r}: give the "
    assert words in str(caught.value)
    assert DECRYPT not in asked(nodes)


@pytest.mark.parametrize("accepted", SCHEMES)
def test_a_coordinator_that_asks_for_a_scheme_that_a_hospital_does_not_accept(
    tmp_path: Path, accepted: str
) -> None:
    """The coordinator trusts its own copy of the description, not the hospital's."""
    nodes = nodes_of(deployed(tmp_path, accepted, accepted, accepted))
    nodes.tamper = changed(DESCRIBE, Description, schemes=SCHEMES)
    (other,) = set(SCHEMES) - {accepted}
    with pytest.raises(ProtocolError, match=rf"this node accepts \({accepted}\), got '{other}'"):
        strategy(other).start(nodes, record(W), num_rounds=1)


def changed(action: str, kind: Any, **changes: Any) -> Callable[[Message], Message]:
    """Return a network that changes the replies to an action."""

    def tamper(answer: Message) -> Message:
        if answer.metadata.message_type == action and answer.has_content():
            found = replace(kind.from_content(answer.content), **changes)
            answer.content = found.to_content()
        return answer

    return tamper


@pytest.mark.parametrize("accepted", SCHEMES)
def test_company_x_opens_no_sum_of_a_scheme_that_it_does_not_accept(
    tmp_path: Path, accepted: str
) -> None:
    nodes = nodes_of(deployed(tmp_path, None, None, None, accepted))
    nodes.tamper = changed(DESCRIBE, Description, schemes=SCHEMES)
    (other,) = set(SCHEMES) - {accepted}
    words = rf"refused to open the sum: the scheme of a sum must be one of \['{accepted}'\]"
    with pytest.raises(ProtocolError, match=words):
        strategy(other).start(nodes, record(W), num_rounds=1)


def other_scheme(answer: Message, request: EncryptionRequest) -> Message:
    """Have a hospital encrypt its numbers by the other scheme."""
    made = EncryptedReply.from_content(answer.content)
    summed = TicketedSum.from_bytes(made.encrypted_sum, KEY.public_key)
    (other,) = set(SCHEMES) - {summed.vector.scheme}
    length = len(summed.vector)
    occasion = Occasion(
        *(KEY.public_key.fingerprint, request.session, "train", 1, summed.tickets[0].asked),
        *(Packing(), length, 1, other),
    )
    integers = Packing().encode(np.ones(length))
    own = TicketedSum.encrypt(KEY.public_key, integers, occasion, summed.contributors[0])
    answer.content = replace(made, encrypted_sum=own.to_bytes()).to_content()
    return answer


@pytest.mark.parametrize("topology", ["fold", "chain"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_hospital_that_answers_in_another_scheme_than_asked(
    tmp_path: Path, scheme: str, topology: str
) -> None:
    nodes = nodes_of(deployed(tmp_path))

    def tamper(answer: Message) -> Message:
        if answer.metadata.message_type != "train" or answer.metadata.src_node_id != 1000:
            return answer
        sent = next(
            m
            for m in nodes.sent
            if m.metadata.dst_node_id == 1000
            and "fl-he" in m.content
            and m.metadata.message_type == "train"
        )
        return other_scheme(answer, EncryptionRequest.from_content(sent.content))

    nodes.tamper = tamper
    words = rf"sent no usable ciphertexts: the scheme of a sum must be one of \['{scheme}'\]"
    with pytest.raises(ProtocolError, match=words):
        strategy(scheme, topology=topology).start(nodes, record(W), num_rounds=1)
    assert DECRYPT not in asked(nodes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_running_sum_of_another_scheme_than_asked(tmp_path: Path, scheme: str) -> None:
    """A coordinator that mixes schemes in a chain: the hospital adds nothing to the sum."""
    nodes = nodes_of(deployed(tmp_path))
    running = strategy(scheme, topology="chain")
    running.start(nodes, record(W), num_rounds=1)
    last = [m for m in nodes.sent if m.metadata.message_type == "train"][-1]
    request = EncryptionRequest.from_content(last.content)
    assert request.running_sum is not None
    (other,) = set(SCHEMES) - {scheme}
    mixed = replace(request, scheme=other).add_to(last.content)
    (answer,) = nodes.send_and_receive([Message(mixed, last.metadata.dst_node_id, "train")])
    assert reason(answer).endswith(f"the scheme of a sum must be one of ['{other}']")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_tickets_must_be_for_the_vectors_scheme(tmp_path: Path, scheme: str) -> None:
    """The refusal is the constant text, and the round has had its sum."""
    nodes = nodes_of(deployed(tmp_path))
    session = strategy().call_roll(nodes).session

    def summed(scheme: str) -> TicketedSum:
        occasion = Occasion(
            *(KEY.public_key.fingerprint, session, "train", 1, bytes(32), Packing(), 4),
            scheme=scheme,
        )
        total, *others = (
            TicketedSum.encrypt(KEY.public_key, Packing().encode(np.ones(4)), occasion, name)
            for name in ("a", "b", "c")
        )
        for other in others:
            total.add_in_place(other, KEY.public_key)
        return total

    def refusal(one: TicketedSum) -> str:
        request = DecryptRequest(session, "train", 1, 3, one.to_bytes())
        (answer,) = nodes.send_and_receive([Message(request.to_content(), 1003, DECRYPT)])
        return reason(answer)

    (other,) = set(SCHEMES) - {scheme}
    honest, tickets = summed(scheme), summed(other).tickets
    assert refusal(TicketedSum(honest.vector, tickets)).endswith(str(TicketError()))
    assert "train 1 is open already" in refusal(honest)
