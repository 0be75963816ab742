"""The whole of CaPC in one process, against the plaintext mechanism."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from capc_parties import KEY_BITS, Parties, constant_model
from flwr.app import Message
from integer_scores import integer_scores
from scipy.stats import chisquare
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from fl_he.capc.messages import CapcReply
from fl_he.capc.protocol import CapcStep
from fl_he.capc.terms import VOTE_BITS, Terms
from fl_he.crypto.comparison.argmax import pair_batch
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.learning.voting.answering import Layer
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.layers import Convolution, network
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

FEATURES, LABELS = load_iris(return_X_y=True)
ORDER = np.random.default_rng(3).permutation(len(LABELS))


def fitted() -> list[Any]:
    """Return models of four kinds, fitted on different thirty flowers each."""
    kinds = [
        LogisticRegression(),
        LinearDiscriminantAnalysis(),
        MLPClassifier((6,), random_state=1, max_iter=2000, solver="lbfgs"),
        LogisticRegression(C=0.001),
    ]
    return [
        kind.fit(FEATURES[rows], LABELS[rows])
        for kind, rows in zip(kinds, ORDER[:120].reshape(4, 30), strict=True)
    ]


def terms(**changes: Any) -> Terms:
    standard = {"fraction_bits": 4, "integer_bits": 4, "value_bits": 28, "key_bits": KEY_BITS}
    return Terms(**{"classes": 3, "features": 4, **standard, **changes})


def test_labels_are_the_majority_of_models_of_different_kinds() -> None:
    models, asked = fitted(), FEATURES[ORDER[120:136]]
    parties = Parties(terms(), asked, [answering_model(model, 3) for model in models])
    labels = parties.ask()
    votes = np.zeros((len(asked), 3), dtype=int)
    for model in models:
        votes[np.arange(len(asked)), model.predict(asked)] += 1
    owners = {"the privacy guardian": parties.guardian, "hospital-1": parties.querying}
    pairs = {name: parties.keys(node).public for name, node in owners.items()}
    assert {one["owner"]: one for one in parties.protocol.fingerprints} == {
        name: {"owner": name, "paillier": pair.paillier.fingerprint, "dgk": pair.dgk.fingerprint}
        for name, pair in pairs.items()
    }
    assert (votes.max(axis=1) < 4).any(), "the models must not always agree"
    for label, row in zip(labels, votes, strict=True):
        assert row[label] == row.max()
    # 12 hops and the roll, the keys, and 4 for the one hidden layer
    assert sum(cost.hops for cost in parties.roster.costs.values()) == 12 + 2 + 4


def test_a_query_is_refused_exactly_where_no_class_reaches_the_threshold() -> None:
    models, asked = fitted()[::3], FEATURES[ORDER[120:136]]
    parties = Parties(terms(threshold=2), asked, [answering_model(model, 3) for model in models])
    labels = parties.ask()
    votes = parties.votes()
    wanted = [int(row.argmax()) if row.max() >= 2 else -1 for row in votes]
    assert labels == wanted
    assert {-1} < set(labels)


@pytest.mark.slow
def test_the_number_of_hops_grows_with_neither_queries_nor_parties() -> None:
    hops = set()
    for queries, voters in ((1, 2), (40, 2), (3, 5)):
        parties = Parties(
            terms(value_bits=16, threshold=1),
            np.zeros((queries, 4)),
            [constant_model(1, 3, 4)] * voters,
        )
        assert parties.ask() == [1] * queries
        hops.add(sum(cost.hops for cost in parties.roster.costs.values()))
    assert hops == {16}


@pytest.mark.parametrize(("segments", "hops"), [(1, 4), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_in_a_chain_each_party_adds_its_vote_to_the_running_sum(segments: int, hops: int) -> None:
    models, asked = fitted(), FEATURES[ORDER[120:136]]
    parties = Parties(
        terms(threshold=3),
        asked,
        [answering_model(model, 3) for model in models],
        topology="chain",
        segments=segments,
    )
    labels, votes = parties.ask(), parties.votes()
    assert labels == [int(row.argmax()) if row.max() >= 3 else -1 for row in votes]
    assert parties.roster.costs[CapcStep.COLLECT].hops == hops
    # The coordinator sees running sums, each with one more vote.
    guardian = parties.keys(parties.guardian)
    layout = SlotLayout(VOTE_BITS, KEY_BITS)
    for index, model in enumerate(parties.models):
        node = parties.answering[index]
        (reply,) = [
            CapcReply.from_content(message.content)
            for message in parties.grid.received
            if message.metadata.message_type == CapcStep.COLLECT
            and message.metadata.src_node_id == node
        ]
        vector = EncryptedVector.from_bytes(reply.part("sum"), guardian.public.paillier)
        counts = guardian.paillier.decrypt_integers(vector).reshape(3, -1)[:, : len(asked)].T
        assert layout.slots * layout.packs(len(asked)) * 3 == len(vector)
        assert (counts.sum(axis=1) == index // segments + 1).all()
        scores = integer_scores(model, parties.queries).astype(np.int64)
        assert (counts[np.arange(len(asked)), scores.argmax(axis=1)] >= 1).all()


def test_a_party_that_fails_in_a_chain_ends_the_batch_by_its_name() -> None:
    parties = Parties(
        terms(value_bits=12), np.zeros((2, 4)), [constant_model(1, 3, 4)] * 3, topology="chain"
    )

    def fail(reply: Message) -> Message:
        second = reply.metadata.src_node_id == parties.answering[1]
        if second and reply.metadata.message_type == CapcStep.COLLECT:
            reply.content.array_records.clear()
        return reply

    parties.grid.tamper = fail
    with pytest.raises(ProtocolError, match="hospital-3"):
        parties.ask()


def pmf(variance: Fraction) -> dict[int, float]:
    """Return the discrete Gaussian's, by its definition."""
    if not variance:
        return {0: 1.0}
    weights = {x: np.exp(-x * x / (2 * float(variance))) for x in range(-30, 31)}
    total = sum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def mechanism(votes: list[int], variance: Fraction, threshold: int, test: Fraction) -> list[float]:
    """Return the chances of labels 0 and 1, and of no answer; ties are even."""
    noise = pmf(variance)
    first = 0.0
    for a, chance_a in noise.items():
        for b, chance_b in noise.items():
            difference = votes[0] + a - votes[1] - b
            first += chance_a * chance_b * (1.0 if difference > 0 else 0.5 if not difference else 0)
    answered = sum(chance for x, chance in pmf(test).items() if max(votes) + x >= threshold)
    return [answered * first, answered * (1 - first), 1 - answered]


@pytest.mark.slow
def test_labels_with_noise_are_distributed_as_the_plaintext_mechanism_says() -> None:
    variance, test, queries = Fraction(1, 2), Fraction(1), 400
    parties = Parties(
        terms(
            classes=2,
            value_bits=12,
            threshold=1,
            variance_gnmax=variance,
            variance_threshold=test,
        ),
        np.zeros((queries, 4)),
        [constant_model(0, 2, 4)] * 2,
    )
    labels = Counter(parties.ask())
    observed = [labels[0], labels[1], labels[-1]]

    def chance(gnmax: Fraction, threshold: Fraction) -> float:
        wanted = np.array(mechanism([2, 0], gnmax, 1, threshold))
        # impossible outcomes must not occur
        return float(chisquare(observed, queries * np.maximum(wanted, 1e-12) / wanted.sum()).pvalue)

    # Fails once in a hundred thousand runs.
    assert chance(variance, test) > 1e-5
    # These answers suffice to detect one or both sigmas halved, doubled or left out: the answers
    # of the mechanism itself fail one of these checks less than once in 10,000 runs.
    for factor in (Fraction(1, 4), Fraction(4), Fraction(0)):
        assert chance(factor * variance, factor * test) < 1e-5
        assert chance(factor * variance, test) < 1e-5
        assert chance(variance, factor * test) < 1e-5


@pytest.mark.slow
def test_what_the_others_see_is_uniform_and_never_twice_the_same() -> None:
    """120 times the same query, on which all parties agree."""
    queries = 120
    parties = Parties(
        terms(value_bits=12), np.full((queries, 4), 2.5), [constant_model(2, 3, 4)] * 2
    )
    assert parties.ask() == [2] * queries
    bits = parties.terms.value_bits
    # The querying party opens numbers that its masks hide, though all of them are one number.
    querying = parties.keys(parties.querying)
    layout = parties.terms.logit_layout
    (opened,) = [
        [querying.open(layout, part, 3, queries) for part in request.parts.values()]
        for request in parties.sent(CapcStep.LOGIT_BITS)
    ]
    assert len({z for numbers in opened for z in numbers}) == 2 * 3 * queries
    low = Counter(z % 4 for numbers in opened for z in numbers)
    assert min(low.values()) > 120, "of 720, a quarter each"
    # It learns an order of classes under another permutation for each query and party.
    (request,) = parties.sent(CapcStep.VOTE)
    for compared in request.parts.values():
        batch = pair_batch(querying.public.dgk, bits, 3, queries)
        found = np.array(querying.results(batch, compared)).reshape(3, queries)
        orders = Counter(map(tuple, found.T.tolist()))
        assert len(orders) == 6
        assert min(orders.values()) > 3, "of 120, a sixth each"
    # The guardian sees a position that is uniform over the classes.
    guardian = parties.keys(parties.guardian)
    (request,) = parties.sent(CapcStep.DECIDE)
    batch = pair_batch(guardian.public.dgk, 22, 3, queries)
    found = np.array(guardian.results(batch, request.part("compared")))
    assert len(Counter(map(tuple, found.reshape(3, queries).T.tolist()))) == 6
    # The coordinator, which passes the winners on, cannot tell the label either.
    (request,) = parties.sent(CapcStep.LEARN)
    positions = Counter(request.part("winners"))
    assert all(positions[position] > 15 for position in range(3)), "of 120, a third each"
    # All votes and all queries are the same; no two ciphertexts are.
    width = querying.public.paillier.ciphertext_bytes
    for step, name in ((CapcStep.EVALUATE, "features"), (CapcStep.COLLECT, "positions")):
        data = b"".join(request.part(name) for request in parties.sent(step)[:1])
        ciphertexts = [data[at : at + width] for at in range(0, len(data), width)]
        assert len(set(ciphertexts)) == len(ciphertexts)


def test_two_runs_share_no_part() -> None:
    parties = Parties(
        terms(value_bits=12, threshold=1), np.ones((2, 4)), [constant_model(0, 3, 4)] * 2
    )
    seen: list[set[bytes]] = []
    for _ in range(2):
        before = len(parties.grid.sent)
        parties.ask()
        requests = parties.grid.sent[before:]
        seen.append(
            {
                array.data
                for message in requests
                for record in message.content.array_records.values()
                for array in record.values()
            }
        )
    assert len(seen[0]) > 10
    assert not seen[0] & seen[1]


@pytest.mark.slow
def test_counts_below_zero_and_a_threshold_out_of_reach() -> None:
    parties = Parties(
        terms(value_bits=12, threshold=10_000, variance_threshold=Fraction(100)),
        np.zeros((3, 4)),
        [constant_model(0, 3, 4)] * 2,
    )
    assert parties.ask() == [-1] * 3
    parties = Parties(
        terms(value_bits=12, variance_gnmax=Fraction(10**6)),
        np.zeros((60, 4)),
        [constant_model(0, 3, 4)] * 2,
    )
    # With this noise all classes are equally likely: one is missing in under one run of a billion.
    assert set(parties.ask()) == {0, 1, 2}


@pytest.mark.slow
def test_a_convolutional_network_answers_as_it_predicts() -> None:
    rng = np.random.default_rng(5)
    made = network(
        [
            Convolution(rng.normal(size=(2, 1, 3, 3)), rng.normal(size=2), stride=(2, 2)),
            Convolution(rng.normal(size=(3, 2, 2, 2)), rng.normal(size=3)),
            Layer(rng.normal(size=(3, 12)), rng.normal(size=3)),
        ],
        (1, 7, 7),
    )
    images = rng.integers(-16, 16, size=(8, 49)) / 16
    parties = Parties(
        terms(features=49, fraction_bits=4, integer_bits=1, value_bits=48), images, [made]
    )
    labels = parties.ask()
    assert labels == made.predict(images).tolist()
    assert len(set(labels)) > 1
