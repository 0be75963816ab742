"""Each role's view of whole CaPC runs: nothing leaks, and planted leaks are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import compress, count
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from capc_leaks import Run, leaks, recorded
from capc_parties import KEY_BITS, Parties

from fl_he.capc.node import answering
from fl_he.capc.node.party import Memory
from fl_he.capc.terms import Terms
from fl_he.crypto.comparison import argmax, blinding, dgk_private_key
from fl_he.crypto.paillier import masking
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.learning.voting.answering import AnsweringModel, Layer

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

CLASSES, FEATURES, QUERIES = 3, 4, 60


def parties(
    queries: int = QUERIES, threshold: int | None = None, kind: KeyKind = KeyKind.short
) -> Parties:
    """Return two answering parties that agree on about half of the queries."""
    rng = np.random.default_rng(4)
    terms = Terms(
        CLASSES,
        FEATURES,
        fraction_bits=5,
        integer_bits=2,
        value_bits=18,
        threshold=threshold,
        key_bits=KEY_BITS,
        key_kind=kind,
    )
    models = [
        AnsweringModel((Layer(rng.normal(size=(CLASSES, FEATURES)), rng.normal(size=CLASSES)),))
        for _ in range(2)
    ]
    return Parties(terms, rng.uniform(-3.9, 3.9, size=(queries, FEATURES)), models)


@pytest.mark.parametrize("kind", KeyKind)
def test_simulated_parties_work_with_keys_of_the_kind_in_the_terms(kind: KeyKind) -> None:
    made = parties(3, kind=kind)
    labels, votes = made.ask(), made.votes()
    assert [count[label] for count, label in zip(votes, labels, strict=True)] == [
        count.max() for count in votes
    ]
    for node in (made.querying, made.guardian):
        assert made.keys(node).paillier.public_key.key_kind is kind


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [None, 2])
def test_nobody_sees_what_is_not_for_it(
    threshold: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, list[Any]] = {}
    keep = Memory.keep

    def spy(memory: Memory, name: str, value: Any) -> None:
        kept.setdefault(name, []).append(value)
        keep(memory, name, value)

    monkeypatch.setattr(Memory, "keep", spy)
    made = parties(threshold=threshold)
    runs = recorded(made, 2)
    votes = made.votes()
    assert 0.2 < (votes.max(axis=1) == 2).mean() < 0.8, "the parties must not always agree"
    assert np.bincount(votes.argmax(axis=1), minlength=CLASSES).min() >= 5
    assert leaks(made, runs) == set()
    # Masks and permutations are drawn anew for each query of each run.
    for name in ("logit-masks", "count-masks"):
        masks = [mask for batch in kept[name] for row in batch for mask in row]
        assert len(set(masks)) == len(masks) >= 2 * 3 * QUERIES
    for batch in kept["orders"]:
        assert len({tuple(order) for order in batch}) == 6
    first, second = (batch for batch in kept["count-orders"][::2])
    assert first != second


def networks(queries: int) -> Parties:
    """Return two answering parties whose models have a hidden layer of six units."""
    rng = np.random.default_rng(7)
    terms = Terms(CLASSES, FEATURES, 5, 2, value_bits=32, key_bits=KEY_BITS)
    shapes = ((6, FEATURES), (CLASSES, 6))
    models = [
        AnsweringModel(
            tuple(Layer(rng.normal(size=shape), rng.normal(size=shape[0])) for shape in shapes)
        )
        for _ in range(2)
    ]
    return Parties(terms, rng.uniform(-3.9, 3.9, size=(queries, FEATURES)), models)


@pytest.mark.slow
def test_nobody_sees_what_is_not_for_it_of_networks() -> None:
    made = networks(24)
    runs = recorded(made, 2)
    assert {model[0].bits for model in made.models} == {7 + (29 - 7) // 2}
    assert leaks(made, runs) == set()


def with_labels(queries: int = QUERIES) -> tuple[Parties, list[Parties]]:
    """Return two answering parties in the votes for two labels, which often go together."""
    rng = np.random.default_rng(9)
    terms = replace(parties(1).terms, classes=2)
    first = rng.normal(size=(2, FEATURES))
    # for about one query in six both parties vote for one class of the first label and for the
    # other class of the second, and ties are rare
    second = first + 0.7 * rng.normal(size=(2, FEATURES))
    by_label = [
        [
            AnsweringModel((Layer(weights + 0.5 * rng.normal(size=(2, FEATURES)), np.zeros(2)),))
            for _ in range(2)
        ]
        for weights in (first, second)
    ]
    made = Parties(terms, rng.uniform(-3.9, 3.9, size=(queries, FEATURES)), by_label[0])
    return made, made.of_labels(by_label)


def assert_plain_majority(made: Parties, run: Run) -> None:
    votes = made.votes()
    assert (votes[np.arange(len(votes)), run.labels] == votes.max(axis=1)).all()


def runs_of_labels(views: list[Parties]) -> list[Run]:
    return [run for view in views for run in recorded(view, 1)]


@pytest.mark.slow
def test_votes_for_several_labels_do_not_show_which_go_together() -> None:
    made, views = with_labels()
    runs = runs_of_labels(views)
    assert [run.parties.label for run in runs] == [1, 2]
    for view, run in zip(views, runs, strict=True):
        assert_plain_majority(view, run)
    equal = np.mean(np.array(runs[0].labels) == np.array(runs[1].labels))
    assert 0.6 < equal < 0.95, "the labels must go together, but not always"
    assert leaks(made, runs) == set()


@pytest.mark.slow
def test_equal_queries_look_different_to_those_who_answer() -> None:
    made = parties(queries=30)
    made.queries = np.tile(made.queries[:1], (30, 1))
    found = leaks(made, recorded(made, 2))
    assert not {leak for leak in found if "ciphertexts" in leak or "randomness" in leak}


_WITHOUT_MASKS = (
    *("plain numbers", "masks used twice", "correlated numbers"),
    *("high bits not uniform", "low bits not uniform"),
)
Plant = Callable[[pytest.MonkeyPatch], None]


def no_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(argmax, "random_masks", lambda layout, count: [0] * count)


def equal_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        argmax, "random_masks", lambda layout, count: list(range(1 << 40, (1 << 40) + count))
    )


def short_masks(patch: pytest.MonkeyPatch) -> None:
    real = blinding.random_masks
    patch.setattr(
        argmax, "random_masks", lambda layout, count: [m >> 30 for m in real(layout, count)]
    )


def fixed_orders(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(argmax, "_random_orders", lambda count, queries: [list(range(count))] * queries)


def one_order_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(argmax, "_random_orders", lambda count, queries: [[2, 0, 1]] * queries)


def no_paillier_randomness(patch: pytest.MonkeyPatch) -> None:
    def encrypt(
        masker: masking.Masker, plaintexts: list[int], cores: int | None = None
    ) -> list[int]:
        return [(1 + masker.n * (p % masker.n)) % masker.n**2 for p in plaintexts]

    patch.setattr(masking.Masker, "encrypt", encrypt)


def no_dgk_randomness(patch: pytest.MonkeyPatch) -> None:
    def encrypt_slots(key: dgk_private_key.DgkPrivateKey, rows: list[list[int]]) -> list[int]:
        public = key.public_key
        chosen = [compress(public.slot_bases, row) for row in rows]
        return [int(prod(bases) % public.n) for bases in chosen]

    patch.setattr(dgk_private_key.DgkPrivateKey, "encrypt_slots", encrypt_slots)


def no_unit_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(blinding, "random_masks", lambda layout, count: [0] * count)


def no_coins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(answering, "secrets", SimpleNamespace(randbits=lambda count: 0))


def votes_as_they_came(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PublicKey, "rerandomise", lambda key, ciphertexts: list(ciphertexts))


def plain_comparisons(patch: pytest.MonkeyPatch) -> None:
    from fl_he.crypto.comparison import comparison  # noqa: PLC0415

    patch.setattr(comparison, "_nonzero", lambda prime: 1)


def _slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("plant", "queries", "found"),
    [
        _slow(
            no_masks,
            40,
            {f"{role}: {what}" for role in ("querying", "guardian") for what in _WITHOUT_MASKS},
        ),
        _slow(equal_masks, 40, {"querying: masks used twice", "guardian: masks used twice"}),
        _slow(short_masks, 40, {"querying: high bits not uniform"}),
        _slow(fixed_orders, 40, {"querying: votes show"}),
        _slow(one_order_for_all, 40, {"guardian: labels show", "coordinator: labels show"}),
        (no_paillier_randomness, 5, {"coordinator: query.capc_ask without randomness"}),
        (no_dgk_randomness, 5, {"coordinator: query.capc_logit_bits without randomness"}),
        (votes_as_they_came, 1, {"coordinator: query.capc_collect repeats ciphertexts"}),
        _slow(plain_comparisons, 40, {"querying: plaintexts of comparisons not uniform"}),
    ],
)
def test_a_planted_leak_is_found(
    plant: Plant, queries: int, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    made = parties(queries)
    runs: list[Run] = recorded(made, 1)
    assert found <= leaks(made, runs)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        # the low bits of units are as uniform as those of masks
        (no_unit_masks, {f"querying: units: {what}" for what in _WITHOUT_MASKS[:-1]}),
        (no_coins, {"querying: signs of units show"}),
        (plain_comparisons, {"querying: units: plaintexts of comparisons not uniform"}),
    ],
)
@pytest.mark.slow
def test_a_planted_leak_of_a_network_is_found(
    plant: Plant, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    made = networks(24)
    assert found <= leaks(made, recorded(made, 1))


def orders_of_the_first_label(patch: pytest.MonkeyPatch) -> None:
    """Use each party's orders of the first label for the second label as well."""
    drawn: dict[int, list[list[list[int]]]] = {}
    real, calls = argmax._random_orders, count()

    def repeated(classes: int, queries: int) -> list[list[int]]:
        # two answering parties and the querying party draw in each batch
        return drawn.setdefault(next(calls) % 3, [real(classes, queries)])[0]

    patch.setattr(argmax, "_random_orders", repeated)


def masks_of_the_first_label(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(argmax, "random_masks", cache(blinding.random_masks))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (
            orders_of_the_first_label,
            {"querying: two labels show", "guardian: two labels show"},
        ),
        (masks_of_the_first_label, {"querying: masks used twice", "guardian: masks used twice"}),
    ],
)
def test_a_leak_that_is_planted_between_labels_is_found(
    plant: Plant, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    made, views = with_labels()
    assert found <= leaks(made, runs_of_labels(views))
