from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import model_selection

from fl_he.learning.errors import DataError
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.partition import partition, train_test_split

SCHEMES = ["even", "uneven", "by_label"]


def numbered(rows: int, ones: int) -> Dataset:
    labels = (np.arange(rows) < ones).astype(np.float64)
    return Dataset(np.arange(rows, dtype=np.float64)[:, None], labels, ("row",))


def split(
    dataset: Dataset, test_size: float, seed: int, *, stratify: bool = True
) -> tuple[Dataset, Dataset]:
    train, test = train_test_split(dataset, test_size, seed, stratify=stratify)
    assert test is not None
    return train, test


def same(first: list[NDArray[np.intp]], second: list[NDArray[np.intp]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize(("test_size", "seed"), [(0.25, 10), (0.1, 0), (0.5, 2**32 - 1)])
def test_the_split_is_that_of_scikit_learn(test_size: float, seed: int, stratify: bool) -> None:
    dataset = load_built_in("breast_cancer")
    train, test = split(dataset, test_size, seed, stratify=stratify)
    expected = model_selection.train_test_split(
        dataset.features,
        dataset.labels,
        test_size=test_size,
        random_state=seed,
        stratify=dataset.labels if stratify else None,
    )
    for got, wanted in zip(
        [train.features, test.features, train.labels, test.labels], expected, strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


@given(
    counts=st.lists(st.integers(2, 9), min_size=2, max_size=6),
    test_size=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_classes_of_any_size_are_divided_as_by_scikit_learn(
    counts: list[int], test_size: float, seed: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    rows, held_out = len(labels), math.ceil(test_size * len(labels))
    assume(len(counts) <= min(held_out, rows - held_out))
    names = tuple(map(str, range(len(counts)))) if len(counts) > 2 else ()
    features = np.arange(rows, dtype=np.float64)[:, None]
    dataset = Dataset(features, labels.astype(np.float64), ("row",), classes=names)
    train, test = split(dataset, test_size, seed)
    expected = model_selection.train_test_split(
        dataset.features, test_size=held_out, random_state=seed, stratify=labels
    )
    np.testing.assert_array_equal(train.features, expected[0])
    np.testing.assert_array_equal(test.features, expected[1])


def test_both_sets_have_the_classes_shares_of_all_rows() -> None:
    train, test = split(numbered(2000, 20), 0.25, seed=3)
    assert (train.labels.sum(), test.labels.sum()) == (15, 5)


@pytest.mark.parametrize(("rows", "ones", "test_size"), [(20, 1, 0.25), (20, 10, 0.01)])
def test_classes_that_cannot_be_divided_are_dealt_by_chance(
    rows: int, ones: int, test_size: float
) -> None:
    dataset = numbered(rows, ones)
    for stratify in (True, False):
        train, test = split(dataset, test_size, 5, stratify=stratify)
        expected = model_selection.train_test_split(
            dataset.features, test_size=test_size, random_state=5
        )
        np.testing.assert_array_equal(train.features, expected[0])
        np.testing.assert_array_equal(test.features, expected[1])


def test_another_seed_is_another_split() -> None:
    dataset = numbered(100, 50)
    first, second = (split(dataset, 0.25, seed)[1] for seed in (1, 2))
    assert not np.array_equal(first.features, second.features)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(2, 60), test_size=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1))
def test_every_row_is_in_one_of_the_two_sets(rows: int, test_size: float, seed: int) -> None:
    dataset = numbered(rows, 1)
    if np.ceil(test_size * rows) >= rows:
        with pytest.raises(DataError, match="test_size must leave rows to train on"):
            train_test_split(dataset, test_size, seed, stratify=True)
        return
    train, test = split(dataset, test_size, seed)
    assert test.examples == np.ceil(test_size * rows)
    together = np.concatenate([train.features, test.features]).ravel()
    assert sorted(together) == list(range(rows))


def test_nothing_may_be_held_out() -> None:
    train, test = train_test_split(numbered(20, 10), 0.0, seed=1, stratify=True)
    assert test is None
    assert sorted(train.features.ravel()) == list(range(20))
    assert train.labels.sum() == 10


@pytest.mark.parametrize("test_size", [1.0, -0.1, float("nan")])
def test_test_size_is_a_fraction(test_size: float) -> None:
    with pytest.raises(DataError, match="test_size must be at least 0 and less than 1, got"):
        train_test_split(numbered(4, 2), test_size, seed=1, stratify=True)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_in_range(seed: int) -> None:
    with pytest.raises(DataError, match="seed must be at least 0 and less than"):
        train_test_split(numbered(4, 2), 0.5, seed, stratify=True)


@pytest.mark.parametrize(("ones", "present"), [(0, "0"), (4, "1")])
def test_a_simulation_needs_both_classes(ones: int, present: str) -> None:
    with pytest.raises(DataError, match=f"both classes, got only {present} in all 4 rows"):
        train_test_split(numbered(4, ones), 0.5, seed=1, stratify=True)


@settings(max_examples=200, deadline=None)
@given(
    labels=st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=80),
    fraction=st.floats(0.0, 1.0),
    scheme=st.sampled_from(SCHEMES),
    alpha=st.floats(0.0, 1e12, exclude_min=True),
    seed=st.integers(0, 2**64),
)
def test_every_row_is_in_one_part_and_no_part_is_empty(
    labels: list[float], fraction: float, scheme: str, alpha: float, seed: int
) -> None:
    hospitals = 1 + round(fraction * (len(labels) - 1))
    parts = partition(np.array(labels), hospitals, scheme, alpha, seed)
    assert len(parts) == hospitals
    assert min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert all(np.all(np.diff(part) > 0) for part in parts)
    assert all(part.dtype == np.intp for part in parts)
    assert same(parts, partition(np.array(labels), hospitals, scheme, alpha, seed))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_seed_is_another_division(scheme: str) -> None:
    labels = np.repeat([0.0, 1.0], 50)
    assert not same(*(partition(labels, 4, scheme, 1.0, seed) for seed in (1, 2)))


@pytest.mark.parametrize("hospitals", [1, 3, 7, 20])
def test_even_parts_differ_by_one_row_at_most(hospitals: int) -> None:
    sizes = [len(part) for part in partition(np.zeros(20), hospitals, "even", 1.0, seed=3)]
    assert max(sizes) - min(sizes) <= 1


def test_even_parts_are_shuffled_and_do_not_use_alpha() -> None:
    labels = np.repeat([0.0, 1.0], 150)
    parts = partition(labels, 3, "even", -1.0, seed=3)
    assert all(0.3 < labels[part].mean() < 0.7 for part in parts)


def test_uneven_parts_follow_dirichlet_and_stay_mixed() -> None:
    # For alpha = 0.5 and 3 hospitals a share has mean 1/3 and variance 4/45.
    labels = np.repeat([0.0, 1.0], 1000)
    divisions = [partition(labels, 3, "uneven", 0.5, seed) for seed in range(300)]
    shares = np.array([[len(part) / 2000 for part in parts] for parts in divisions])
    np.testing.assert_allclose(shares.mean(axis=0), 1 / 3, atol=0.06)
    np.testing.assert_allclose(shares.var(axis=0), 4 / 45, rtol=0.25)
    large = [part for parts in divisions for part in parts if len(part) > 500]
    assert all(0.4 < labels[part].mean() < 0.6 for part in large)


def test_by_label_divides_each_class_by_a_draw_of_its_own() -> None:
    labels = np.repeat([0.0, 1.0], [500, 1500])
    divisions = [partition(labels, 3, "by_label", 0.5, seed) for seed in range(300)]
    shares = np.array(
        [
            [
                [np.mean(np.isin(np.flatnonzero(labels == k), part)) for part in parts]
                for k in (0, 1)
            ]
            for parts in divisions
        ]
    )
    np.testing.assert_allclose(shares.mean(axis=0), 1 / 3, atol=0.06)
    np.testing.assert_allclose(shares.var(axis=0), 4 / 45, rtol=0.25)
    correlation = np.corrcoef(shares[:, 0, 0], shares[:, 1, 0])[0, 1]
    assert abs(correlation) < 0.2


@pytest.mark.parametrize("scheme", ["uneven", "by_label"])
def test_a_large_alpha_is_almost_even_and_a_small_one_is_not(scheme: str) -> None:
    labels = np.repeat([0.0, 1.0], 300)
    even = [len(part) for part in partition(labels, 3, scheme, 1e9, seed=1)]
    skewed = [len(part) for part in partition(labels, 3, scheme, 1e-3, seed=1)]
    assert max(even) - min(even) <= 2
    assert min(skewed) == 1


def test_a_hospital_may_have_one_class() -> None:
    labels = np.repeat([0.0, 1.0], 100)
    parts = partition(labels, 3, "by_label", 0.05, seed=2)
    assert any(len(part) > 1 and len(set(labels[part])) == 1 for part in parts)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("rows", "hospitals", "message"),
    [
        (2, 3, r"rows must be at least as many as hospitals \(3\), got 2"),
        (2, 0, "hospitals must be at least 1, got 0"),
    ],
)
def test_impossible_divisions_are_refused(
    scheme: str, rows: int, hospitals: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        partition(np.zeros(rows), hospitals, scheme, 1.0, seed=1)


@pytest.mark.parametrize("scheme", ["uneven", "by_label"])
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf"), 1e13])
def test_alpha_is_in_range(scheme: str, alpha: float) -> None:
    with pytest.raises(DataError, match="alpha must be greater than 0 and at most 1e"):
        partition(np.zeros(4), 2, scheme, alpha, seed=1)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(DataError, match="one of even, uneven, by_label, got 'random'"):
        partition(np.zeros(4), 2, "random", 1.0, seed=1)
