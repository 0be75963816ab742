"""Company X, the coordinator and all hospitals but two collude: they see the sum of these two.

The coalition has company X's key, the transcript, and the states of its hospitals. Without
pairwise masks the same computation finds each update.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from coalition import Files, Left, differences, left_of, values_in
from experiments import experiment
from flwr.app import Message, RecordDict
from local_grid import LocalGrid, simulated_nodes
from masked_transcripts import UNLIKELY, least_likely, neighbours_apart
from quick import release, slow
from sealed_federation import COMPANY, Federation

from fl_he import client_app, server_app
from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.totals.sessions import Sessions
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS, SCHEMES
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import value_key_of
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import EncryptedReply, EncryptionRequest
from fl_he.wire.occasions import purpose_of
from fl_he.wire.update_layout import UpdateLayout

CASES = pytest.mark.parametrize(
    ("hospitals", "scheme", "topology"),
    [
        *product((3,), SCHEMES, ("fold", "chain")),
        *slow(*product((5,), SCHEMES, ("fold", "chain"))),
        *release(*product((10,), SCHEMES, ("fold", "chain"))),
    ],
)
ROUNDS = 20


class Seen:
    """All that a coalition sees of a simulated run."""

    def __init__(self, folder: Path, hospitals: int, *overrides: str) -> None:
        self.config = experiment(
            f"hospitals={hospitals}", f"rounds={ROUNDS}", *overrides, folder=folder
        )
        self.grid = LocalGrid(
            client_app.build(lambda _: self.config), simulated_nodes(self.config.hospitals)
        )
        server_app.train(self.grid, self.config, folder)
        self.names = [f"hospital-{number + 1}" for number in range(hospitals)]
        states = {
            str(self.names[number]) if number < hospitals else COMPANY: context.state
            for number, context in enumerate(self.grid.contexts.values())
        }
        keys = states[COMPANY].config_records["fl-he.keys"]
        self.key = PrivateKey.from_json(str(keys["private-key"]))
        self.files = {name: Files.read(_pairs(states[name])) for name in self.names}

    def updates(self) -> Iterator[tuple[Occasion, list[TicketedSum]]]:
        """Yield each occasion with the single updates, in the order of their names."""
        asked = {one.metadata.message_id: one for one in self.grid.sent}
        found: dict[Occasion, list[TicketedSum]] = {}
        for reply in self.grid.received:
            if not reply.has_content() or "fl-he.sum" not in reply.content:
                continue
            if not reply.metadata.message_type.startswith(("train", "evaluate")):
                continue
            occasion, summed = _read(asked[reply.metadata.reply_to_message_id], reply, self.key)
            found.setdefault(occasion, []).append(summed)
        for occasion, sums in found.items():
            singles = (
                sums if all(len(one.tickets) == 1 for one in sums) else differences(sums, self.key)
            )
            yield occasion, sorted(singles, key=lambda one: one.contributors)


def _pairs(state: RecordDict) -> list[str]:
    records = state.config_records
    return [
        str(line)
        for name in records
        if name.startswith("fl-he.pairs.")
        for line in cast("list[str]", records[name]["ledger"])
    ]


def _read(asked: Message, reply: Message, key: PrivateKey) -> tuple[Occasion, TicketedSum]:
    request = EncryptionRequest.from_content(asked.content)
    answer = EncryptedReply.from_content(reply.content)
    layout = UpdateLayout.from_json(answer.layout)
    occasion = Occasion(
        key.public_key.fingerprint,
        request.session,
        purpose_of(asked.metadata.message_type),
        request.round,
        b"",
        Packing.from_json(request.packing),
        len(layout),
        layout.metric_values,
        request.scheme,
    )
    return occasion, TicketedSum.from_bytes(answer.encrypted_sum, key.public_key)


@CASES
@pytest.mark.parametrize("collusion", ["resistant", "none"])
def test_of_two_honest_hospitals_the_coalition_sees_the_sum(
    tmp_path: Path, hospitals: int, scheme: str, topology: str, collusion: str
) -> None:
    seen = Seen(
        tmp_path,
        hospitals,
        f"crypto.scheme={scheme}",
        f"crypto.collusion={collusion}",
        f"topology={topology}",
        "evaluate=true",
    )
    honest = seen.names[:2]
    members = {name: files for name, files in seen.files.items() if name not in honest}
    singles: list[Left] = []
    purposes: list[str] = []
    for occasion, updates in seen.updates():
        assert [one.contributors for one in updates] == [[name] for name in sorted(seen.names)]
        by_name = {one.contributors[0]: one for one in updates}
        left = {name: left_of(by_name[name], occasion, seen.key, members) for name in honest}
        total = values_in([*left.values()], occasion, seen.key)
        assert total is not None, "the sum of the two is what the others can compute anyway"
        own = [values_in([left[name]], occasion, seen.key) for name in honest]
        if collusion == "none":
            assert all(one is not None for one in own)
            assert (np.sum([one for one in own if one is not None], axis=0) == total).all()
        else:
            assert own == [None, None]
        singles += left.values()
        purposes.append(occasion.purpose)
    assert purposes.count("train") == ROUNDS
    assert {"train", "prepare", "figures"} <= {*purposes}
    if collusion == "resistant":
        words = np.concatenate([one.words for one in singles])
        assert least_likely(words) > UNLIKELY
        # Of one hospital: the rests of both in one sum hide behind the same stream.
        by_hospital = [one.words for one in singles[::2] + singles[1::2]]
        assert least_likely(neighbours_apart(by_hospital)) > UNLIKELY
    else:
        assert least_likely(np.concatenate([one.words for one in singles])) < UNLIKELY


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("collusion", ["resistant", *slow(("none",))])
@pytest.mark.parametrize("hospitals", [3, *slow((5,)), *release((10,))])
def test_sealed_chain(tmp_path: Path, scheme: str, collusion: str, hospitals: int) -> None:
    """The coalition is given all running sums, more than its hospitals open."""
    names = [f"clinic-{number:02}" for number in range(hospitals)]
    rows = {name: 20 + 5 * at for at, name in enumerate(names)}
    federation = Federation(tmp_path, rows, alone=False)
    federation.scheme = scheme
    for name in names if collusion == "resistant" else ():
        federation.context(name).node_config["collusion"] = "resistant"
    honest, singles = names[:2], list[Left]()
    few = hospitals > 3
    rounds = 3 if few else 60 if scheme == MASKS else 36  # for a thousand words

    def look(_: object) -> None:
        key, contributions = federation.key, [federation.state(name).contribution for name in names]
        last = [one for one in contributions if one is not None]
        sums = [TicketedSum.from_bytes(one.running_sum.vector, key.public_key) for one in last]
        sums.sort(key=lambda one: len(one.tickets))
        node = DeployedNode(federation.context(names[0]))
        vector, session = sums[0].vector, Sessions(node).session
        occasion = Occasion(
            *(key.public_key.fingerprint, session, "train"),
            *(last[0].round, b"", vector.packing),
            length=len(vector),
            metric_values=UpdateLayout.from_json(last[0].running_sum.layout).metric_values,
            scheme=scheme,
        )
        members = {name: Files.read(lines_of(tmp_path, name)) for name in names[2:]}
        by_name = {one.contributors[0]: one for one in differences(sums, key)}
        value_key = value_key_of(key)
        left = [left_of(by_name[name], occasion, key, members, value_key) for name in honest]
        assert values_in(left, occasion, key) is not None
        own = [values_in([one], occasion, key) for one in left]
        assert [one is None for one in own] == [collusion == "resistant"] * 2
        singles.extend(left)

    federation.run(rounds, look, on_dropout="wait")
    words = np.concatenate([one.words for one in singles])
    assert len(singles) == 2 * rounds
    if not few:
        assert (least_likely(words) > UNLIKELY) is (collusion == "resistant")


def lines_of(folder: Path, name: str) -> list[str]:
    """Return a hospital's files about its masks."""
    paths = folder.glob(f"{name}*.pairs-*.jsonl")
    return [line for path in paths for line in path.read_text().splitlines()]
