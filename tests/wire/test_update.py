from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl_he.crypto.errors import RangeError
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.records import PrivateReasonError, ProtocolError
from fl_he.wire.selection import Selection
from fl_he.wire.update import Form, Update, flatten
from fl_he.wire.update_layout import NoMeanError, UpdateLayout


def reply(
    arrays: dict[str, np.ndarray[Any, Any]], metrics: dict[str, Any], record: str = "arrays"
) -> RecordDict:
    return RecordDict(
        {
            record: ArrayRecord({name: Array(value) for name, value in arrays.items()}),
            "metrics": MetricRecord(metrics),
        }
    )


NOTHING = np.empty(0)
FORM = Form("num-examples")


def mean_of(update: Update) -> RecordDict:
    return update.layout.mean(update.values, update.plain)


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(
    shape=shapes,
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_sum_of_vectors_is_the_weighted_mean(
    shape: tuple[int, ...], dtype: str, weights: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=shape)).astype(dtype) for _ in weights]
    biases = [rng.normal(size=2) for _ in weights]
    losses = rng.normal(size=len(weights))
    flat = [
        flatten(
            reply(
                {"w": a, "b": b}, {"loss": float(loss), "num-examples": n, "hits": [1.0, float(n)]}
            ),
            FORM,
        )
        for a, b, loss, n in zip(arrays, biases, losses, weights, strict=True)
    ]
    layout = flat[0].layout
    assert all(other.layout == layout for other in flat)
    total = np.sum([other.values for other in flat], axis=0)
    assert total[0] == len(weights)
    assert len(layout) == len(total)

    mean = layout.mean(total, NOTHING)
    expected = np.average([a.astype(np.float64) for a in arrays], axis=0, weights=weights)
    got = mean.array_records["arrays"]["w"].numpy()
    assert got.shape == shape
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_allclose(
        got, expected.astype(dtype), rtol=1e-3 if dtype == "float16" else 1e-6
    )
    np.testing.assert_allclose(
        mean.array_records["arrays"]["b"].numpy(), np.average(biases, axis=0, weights=weights)
    )
    metrics = mean.metric_records["metrics"]
    assert metrics["num-examples"] == sum(weights)
    assert metrics["loss"] == pytest.approx(np.average(losses, weights=weights))
    assert metrics["hits"] == pytest.approx(
        [1.0, np.average(np.array(weights, dtype=float), weights=weights)]
    )


def test_several_array_records_come_back_under_their_names() -> None:
    content = reply({"w": np.ones(2)}, {"num-examples": 4}, record="second")
    content["first"] = ArrayRecord({"w": Array(np.full(3, 2.0))})
    mean = mean_of(flatten(content, FORM))
    np.testing.assert_array_equal(mean.array_records["first"]["w"].numpy(), np.full(3, 2.0))
    np.testing.assert_array_equal(mean.array_records["second"]["w"].numpy(), np.ones(2))


def test_evaluate_reply_has_no_arrays() -> None:
    content = RecordDict({"metrics": MetricRecord({"num-examples": 2, "loss": 0.5})})
    update = flatten(content, FORM)
    np.testing.assert_array_equal(update.values, [1, 2, 1, 2, 1.0])
    assert list(mean_of(update).keys()) == ["metrics"]


def test_locate_names_array_and_index() -> None:
    content = reply({"w": np.zeros((2, 3)), "b": np.zeros(())}, {"num-examples": 1, "m": [1, 2]})
    layout = flatten(content, FORM).layout
    assert [layout.locate(i) for i in range(len(layout))] == [
        "the contributor count",
        "the metric 'num-examples'",
        *(f"the array 'w' at [{i}, {j}]" for i in range(2) for j in range(3)),
        "the array 'b' at []",
        *["the metric 'm'"] * 6,
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (reply({"w": np.ones(3, complex)}, {"num-examples": 1}), "'w' must be of a float type"),
        (reply({"w": np.ones(1)}, {"loss": 1.0}), "must hold 'num-examples'"),
        (reply({"w": np.ones(1)}, {"num-examples": -1}), "must be 0 or a positive number"),
        (
            reply({"w": np.ones(1)}, {"num-examples": float("nan")}),
            "must be 0 or a positive number",
        ),
        (reply({"w": np.ones(1)}, {"num-examples": 10**400}), r"below 2\*\*24: for larger ones"),
        (reply({"w": np.ones(1)}, {"num-examples": 2**24}), r"below 2\*\*24: for larger ones"),
        (
            reply({"w": np.zeros(2, "M8[s]")}, {"num-examples": 1}),
            "'w' must .*got datetime64.s.: convert",
        ),
        (reply({"w": np.zeros(2, "i4,f4")}, {"num-examples": 1}), "'w' must .*: convert it, or"),
        (reply({"w": np.ones(1)}, {"num-examples": [1, 2]}), "must be a single number, not a list"),
        (reply({"w": np.ones((1,) * 33)}, {"num-examples": 1}), "at most 32 dimensions, got 33"),
        (RecordDict({"c": ConfigRecord({"a": "b"})}), "config records"),
        (RecordDict(), "exactly one MetricRecord, got 0"),
        (RecordDict({"a": MetricRecord(), "b": MetricRecord()}), "MetricRecord, got 2"),
    ],
)
def test_replies_that_cannot_be_averaged_are_refused(content: RecordDict, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        flatten(content, replace(FORM, required=True))


@pytest.mark.parametrize("loss", [10**400, [10**400]])
def test_a_required_metric_of_any_size_is_infinite(loss: Any) -> None:
    update = flatten(reply({}, {"num-examples": 1, "loss": loss}), replace(FORM, required=True))
    np.testing.assert_array_equal(update.values, [1, 1, np.inf])


def test_layout_survives_json() -> None:
    layout = flatten(reply({"w": np.ones((2, 2))}, {"num-examples": 1, "l": [1]}), FORM).layout
    assert UpdateLayout.from_json(layout.to_json()) == layout
    assert UpdateLayout.from_json(layout.to_json()).to_json() == layout.to_json()


def test_arrays_that_are_not_encrypted_come_back_in_their_place() -> None:
    arrays = {"body": np.array([[1.0, 2.0]]), "head": np.array([3.0]), "tail": np.array([4.0])}
    replies = [reply(arrays, {"num-examples": n, "loss": 0.5}) for n in (1, 3)]
    form = Form("num-examples", Selection(("head",)), required=True)
    one, three = (flatten(r, form) for r in replies)
    layout = one.layout
    np.testing.assert_array_equal(three.values, [1, 3, 9.0, 1.5])
    np.testing.assert_array_equal(three.plain, [3.0, 6.0, 12.0])
    assert (len(layout), layout.plain_length) == (4, 3)
    assert layout.locate(2) == "the array 'head' at [0]"
    assert UpdateLayout.from_json(layout.to_json()) == layout
    mean = layout.mean(one.values + three.values, one.plain + three.plain)
    got = mean.array_records["arrays"]
    assert list(got.keys()) == ["body", "head", "tail"]
    assert all((got[name].numpy() == value).all() for name, value in arrays.items())
    with pytest.raises(ProtocolError, match="the plain part must hold 3 values"):
        layout.mean(one.values, NOTHING)


def test_the_order_of_records_and_metrics_does_not_matter() -> None:
    one = {"a": ArrayRecord({"w": Array(np.ones(1))}), "b": ArrayRecord({"w": Array(np.zeros(2))})}
    there = RecordDict({**one, "m": MetricRecord({"loss": 2.0, "hits": 3.0, "num-examples": 4})})
    back = RecordDict(
        {
            **dict(reversed(one.items())),
            "m": MetricRecord({"num-examples": 4, "hits": 3.0, "loss": 2.0}),
        }
    )
    forth, again = (flatten(content, FORM) for content in (there, back))
    assert forth.layout.to_json() == again.layout.to_json()
    np.testing.assert_array_equal(forth.values, again.values)


def test_the_number_of_examples_comes_back_as_an_integer() -> None:
    update = flatten(reply({"w": np.ones(1)}, {"num-examples": 4}), FORM)
    examples = mean_of(update).metric_records["metrics"]["num-examples"]
    assert isinstance(examples, int)


def test_arrays_are_weighted_in_float64() -> None:
    content = reply({"w": np.array([100.0], "float16")}, {"num-examples": 1001})
    assert flatten(content, FORM).values[2] == 100_100, "in float16 it would be infinite"


def test_a_restricted_reply_begins_with_minus_one() -> None:
    content = reply({"w": np.ones(2)}, {"num-examples": 4})
    plain, restricted = (
        flatten(content, replace(FORM, restricted=flag)).values for flag in (False, True)
    )
    np.testing.assert_array_equal(plain, [1, 4, 4, 4])
    np.testing.assert_array_equal(restricted, [-1, 4, 4, 4])


DTYPES = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]


@given(
    dtype=st.sampled_from(DTYPES),
    weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=5),
    data=st.data(),
)
def test_the_mean_of_integers_is_exact_before_it_is_rounded(
    dtype: str, weights: list[int], data: st.DataObject
) -> None:
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    numbers = st.integers(max(low, -(10**8)), min(high, 10**8))
    values = [data.draw(st.lists(numbers, min_size=3, max_size=3)) for _ in weights]
    packing = Packing()
    updates = [
        flatten(reply({"w": np.array(v, dtype)}, {"num-examples": n}), FORM)
        for v, n in zip(values, weights, strict=True)
    ]
    total = packing.decode(sum(packing.encode(u.values) for u in updates))  # type: ignore[arg-type]
    layout = updates[0].layout
    got = layout.mean(total, NOTHING).array_records["arrays"]["w"].numpy()
    exact = [
        Fraction(sum(v[at] * n for v, n in zip(values, weights, strict=True)), sum(weights))
        for at in range(3)
    ]
    assert got.dtype == dtype
    assert [int(x) for x in got.tolist()] == [round(x) for x in exact]
    told = [f"the mean of the array 'w' is rounded to its type, {dtype}"]
    assert list(layout.remarks(total, NOTHING)) == told * any(x.denominator > 1 for x in exact)


def test_integers_that_do_not_fit_are_refused_by_their_place() -> None:
    update = flatten(reply({"w": np.array([0, 2**50])}, {"num-examples": 1}), FORM)
    with pytest.raises(RangeError, match="value 3"):
        Packing().encode(update.values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**24, 10**400, [1.0], None], ids=str)
def test_a_metric_that_is_no_number_has_no_weight(bad: Any) -> None:
    expected = flatten(reply({}, {"num-examples": 4, "auc": 0.5}), FORM).layout
    metrics = {"num-examples": 4} | ({} if bad is None else {"auc": bad})
    update = flatten(reply({}, metrics), replace(FORM, expected=expected))
    np.testing.assert_array_equal(update.values, [1, 4, 0, 0, 0])
    assert update.layout == expected
    assert update.no_number == ("auc",)


def test_each_number_of_a_list_has_its_own_weight() -> None:
    update = flatten(reply({}, {"num-examples": 4, "auc": [0.5, np.nan, 1.0]}), FORM)
    np.testing.assert_array_equal(update.values, [1, 4, 1, 0, 1, 4, 0, 4, 2.0, 0, 4.0])
    means = mean_of(update).metric_records["metrics"]["auc"]
    assert means == pytest.approx([0.5, np.nan, 1.0], nan_ok=True)


def test_no_examples_are_zeros_whatever_the_values_are() -> None:
    arrays = {"w": np.array([np.nan, np.inf]), "count": np.array([2**62])}
    update = flatten(reply(arrays, {"num-examples": 0, "loss": np.nan}), FORM)
    np.testing.assert_array_equal(update.values, [1, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(NoMeanError, match="at least one hospital must have examples"):
        mean_of(update)


@pytest.mark.parametrize("exact", [False, True])
def test_the_metrics_that_are_expected_come_first(exact: bool) -> None:
    expected = flatten(reply({}, {"num-examples": 4, "auc": 0.5, "loss": 1.0}), FORM).layout
    form = replace(FORM, expected=expected, exact=exact)
    update = flatten(reply({}, {"num-examples": 2, "loss": 0.5, "brier": 0.25}, "m"), form)
    names = [slot.name for slot in update.layout.metrics]
    assert names == (["auc", "loss"] if exact else ["auc", "brier", "loss"])
    assert [slot.name for slot in update.left_out] == (["brier"] if exact else [])
    assert (update.layout == expected) is exact


def test_another_nodes_word_makes_no_metric_required() -> None:
    expected = flatten(reply({}, {"num-examples": 4, "auc": 0.5}), replace(FORM, required=True))
    form = replace(FORM, expected=expected.layout, exact=True)
    update = flatten(reply({}, {"num-examples": 4}), form)
    np.testing.assert_array_equal(update.values, [1, 4, 0, 0, 0])
    assert update.layout != expected.layout, "so the mod refuses, without a private reason"


def test_arrays_that_stay_take_no_slot() -> None:
    form = replace(FORM, selection=Selection(integers="local"))
    arrays = {"first": np.array([1]), "w": np.ones(2), "last": np.array([2])}
    update = flatten(reply(arrays, {"num-examples": 4}), form)
    np.testing.assert_array_equal(update.values, [1, 4, 4, 4])
    assert {k: list(arrays) for k, arrays in update.local.items()} == {"arrays": ["first", "last"]}
    sent = {"model": ArrayRecord({"last": Array(np.array([9]))})}
    mean = update.layout.mean(update.values, update.plain, sent)
    assert list(mean.array_records["arrays"]) == ["w", "last"]
    assert mean.array_records["arrays"]["last"].numpy().tolist() == [9]


@pytest.mark.parametrize(("examples", "told"), [(1.0, 0), (0.25, 0), (1e-2, 1), (1e-5, 1)])
def test_a_mean_of_tiny_weights_is_told_to_be_coarse(examples: float, told: int) -> None:
    update = flatten(reply({"w": np.ones(1)}, {"num-examples": examples}), FORM)
    remarks = list(update.layout.remarks(update.values, NOTHING))
    assert len(remarks) == told
    assert all("exact to" in r and "weight by larger numbers" in r for r in remarks)


def test_a_reply_of_another_form_than_the_earlier_ones_is_told_from_other_hospitals() -> None:
    declared = flatten(reply({"w": np.ones(1)}, {"num-examples": 2}), FORM).layout
    words = "the form of the session: it has the array 'v', and its other replies do not"
    with pytest.raises(PrivateReasonError, match=words):
        flatten(reply({"v": np.ones(1)}, {"num-examples": 2}), FORM, declared)
