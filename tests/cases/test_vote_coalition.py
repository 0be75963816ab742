"""Guardian, coordinator, querying party and all answering parties but two collude.

They see the sum of these two parties' votes. The coalition follows the steps, and pools all keys,
messages, states and files. Where parties do not mask pairwise, the same computation finds each
vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from capc_federation import CASES as CASES_ASKED
from capc_federation import Deployed
from capc_nodes import ANSWERING, HOLDER, KEYS, agreement, fitted, majority
from capc_nodes import CLASSES as CLASS_NAMES
from capc_parties import KEY_BITS, Parties, constant_model
from coalition import Files, Left, left_of_vector, less
from masked_transcripts import UNLIKELY, least_likely, neighbours_apart
from numpy.typing import NDArray
from quick import slow

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node.envelopes import Envelopes
from fl_he.capc.node.keys import PublicKeys
from fl_he.capc.node.vote_pairs import vote_occasion
from fl_he.capc.protocol import CapcStep
from fl_he.capc.terms import VOTE_BITS, Terms
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.private_key import PrivateKey

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

CLASSES, QUERIES, BATCHES = 3, 2, 14
TERMS = Terms(CLASSES, 2, fraction_bits=4, integer_bits=4, value_bits=12, key_bits=KEY_BITS)
CASES = pytest.mark.parametrize(
    ("answering", "topology"),
    [*product((3,), ("fold", "chain")), *slow(*product((5, 10), ("fold", "chain")))],
)


def counted(left: Sequence[Left], classes: int, modulus: int) -> NDArray[np.int64] | None:
    """Return the counts in the rest of a sum, shape (classes, slots), or ``None``."""
    sums = [sum(parts) % modulus for parts in zip(*(one.numbers for one in left), strict=True)]
    layout = SlotLayout(VOTE_BITS, KEY_BITS)
    if any(one >> (layout.bits * layout.slots) for one in sums):
        return None
    counts = np.array([[one >> (layout.bits * at) for at in range(layout.slots)] for one in sums])
    counts = counts % 2**layout.bits
    assert len(counts) == classes
    return counts.astype(np.int64) if (counts <= len(left)).all() else None


def members_of(parties: Parties) -> dict[str, Files]:
    """Return the files of all answering parties but the first two."""
    found = {}
    for node in parties.answering[2:]:
        context = parties.grid.contexts[node]
        records = context.state.config_records
        lines = [
            str(line)
            for name in records
            if name.startswith("fl-he.pairs.")
            for line in cast("list[str]", records[name].get("ledger", []))
        ]
        found[f"hospital-{int(context.node_config['partition-id']) + 1}"] = Files.read(lines)
    return found


def singles(parties: Parties, key: PrivateKey, topology: str) -> dict[str, EncryptedVector]:
    """Return the contribution of each answering party to the last batch."""
    collected = [m for m in parties.grid.received if m.metadata.message_type == CapcStep.COLLECT]
    vectors = {}
    for reply in collected[-len(parties.answering) :]:
        data = CapcReply.from_content(reply.content).part("sum")
        at = parties.answering.index(reply.metadata.src_node_id)
        vectors[f"hospital-{at + 2}"] = EncryptedVector.from_bytes(data, key.public_key)
    if topology == "fold":
        return vectors
    names = list(vectors)
    before: list[EncryptedVector | None] = [None, *(vectors[name] for name in names[:-1])]
    return {
        name: vectors[name] if last is None else less(vectors[name], last, key)
        for name, last in zip(names, before, strict=True)
    }


@CASES
@pytest.mark.parametrize("masked", [True, False])
def test_of_two_honest_parties_the_coalition_sees_the_sum_of_votes(
    answering: int, topology: str, masked: bool
) -> None:
    models = [constant_model(at % CLASSES, CLASSES, 2) for at in range(answering)]
    parties = Parties(TERMS, np.zeros((QUERIES, 2)), models, topology=topology, masked=masked)
    pair = parties.keys(parties.guardian)
    key, modulus = pair.paillier, int(pair.public.paillier.n)
    found: list[Left] = []
    for _ in range(BATCHES):
        parties.ask()
        request = parties.sent(CapcStep.COLLECT)[-1]
        features = sha256(parties.sent(CapcStep.EVALUATE)[-1].part("features")).digest()
        added, members = singles(parties, key, topology), members_of(parties)
        length = len(next(iter(added.values())))
        occasion = vote_occasion(request, pair.public, "", features, length)
        honest = [
            left_of_vector(added[name], occasion, name, key, members)
            for name in ("hospital-2", "hospital-3")
        ]
        total = counted(honest, CLASSES, modulus)
        assert total is not None, "the sum of the two is what the others can compute anyway"
        assert total[:, :QUERIES].tolist() == [[1, 1], [1, 1], [0, 0]]
        own = [counted([one], CLASSES, modulus) for one in honest]
        if masked:
            assert own == [None, None]
        else:
            votes = [None if one is None else one[:, :QUERIES].tolist() for one in own]
            assert votes == [[[1, 1], [0, 0], [0, 0]], [[0, 0], [1, 1], [0, 0]]]
        found += honest
    words = np.concatenate([one.words for one in found])
    with np.errstate(invalid="ignore"):  # runs of plain votes have no spread
        assert (least_likely(words) > UNLIKELY) is masked
    if masked:
        # Of one party, asked again and again about the same cases.
        by_party = [one.words for one in found[::2] + found[1::2]]
        assert least_likely(neighbours_apart(by_party)) > UNLIKELY


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_the_counts_are_those_of_all_votes(topology: str) -> None:
    models = [constant_model(at % CLASSES, CLASSES, 2) for at in (0, 1, 1, 1)]
    parties = Parties(TERMS, np.zeros((QUERIES, 2)), models, topology=topology, masked=True)
    key = parties.keys(parties.guardian).paillier
    for _ in range(2):
        assert parties.ask() == [1] * QUERIES
        data = parties.sent(CapcStep.COUNT)[-1].part("noisy-counts")
        vector = EncryptedVector.from_bytes(data, key.public_key)
        counts = key.decrypt_integers(vector).reshape(CLASSES, -1)[:, :QUERIES]
        assert counts.T.tolist() == parties.votes().tolist()


@pytest.mark.parametrize("masked", [True, False])
def test_deployed_parties(tmp_path: Path, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coalition is given all running sums, more than its parties open."""
    parts: dict[tuple[CapcStep, str], list[bytes]] = {}
    seal = Envelopes.seal

    def told(one: Envelopes, step: CapcStep, reply: CapcReply) -> CapcReply:
        for name, data in reply.parts.items():
            parts.setdefault((step, name), []).append(data)
        return seal(one, step, reply)

    monkeypatch.setattr(Envelopes, "seal", told)
    deployed = Deployed(tmp_path, masked=masked)
    deployed.ask(3)
    assert deployed.labels == majority(CASES_ASKED)[:3]
    (paillier, dgk), (first, second) = KEYS[HOLDER], parts[CapcStep.COLLECT, "sum"]
    sums = [EncryptedVector.from_bytes(one, paillier.public_key) for one in (first, second)]
    added = dict(zip(ANSWERING, (sums[0], less(sums[1], sums[0], paillier)), strict=False))
    asked = [m for m in deployed.grid.sent if m.metadata.message_type == CapcStep.COLLECT]
    occasion = vote_occasion(
        CapcRequest.from_content(asked[-1].content),
        PublicKeys(paillier.public_key, dgk.public_key),
        agreement().fingerprint,
        sha256(parts[CapcStep.ASK, ANSWERING[0]][0]).digest(),
        len(sums[0]),
    )
    paths = (tmp_path / ANSWERING[2]).glob("voting.jsonl.pairs-*.jsonl")
    lines = [line for path in paths for line in path.read_text().splitlines()]
    members = {ANSWERING[2]: Files.read(lines)}
    left = [left_of_vector(added[n], occasion, n, paillier, members) for n in added]
    modulus = int(paillier.public_key.n)
    votes = [
        np.array([fitted(name).predict(CASES_ASKED[:3]) == label for label in CLASS_NAMES])
        for name in added
    ]
    total = counted(left, 2, modulus)
    assert total is not None
    assert total[:, :3].tolist() == (votes[0].astype(int) + votes[1]).tolist()
    own = [counted([one], 2, modulus) for one in left]
    if masked:
        assert own == [None, None]
    else:
        assert [None if one is None else one[:, :3].tolist() for one in own] == [
            one.astype(int).tolist() for one in votes
        ]
