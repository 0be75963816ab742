from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl_he.wire.records import ProtocolError
from fl_he.wire.update import UpdateLayout, flatten


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
            "num-examples",
        )
        for a, b, loss, n in zip(arrays, biases, losses, weights, strict=True)
    ]
    layout = flat[0][2]
    assert all(other == layout for _, _, other in flat)
    total = np.sum([vector for vector, _, _ in flat], axis=0)
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
    vector, plain, layout = flatten(content, "num-examples")
    mean = layout.mean(vector, plain)
    np.testing.assert_array_equal(mean.array_records["first"]["w"].numpy(), np.full(3, 2.0))
    np.testing.assert_array_equal(mean.array_records["second"]["w"].numpy(), np.ones(2))


def test_evaluate_reply_has_no_arrays() -> None:
    content = RecordDict({"metrics": MetricRecord({"num-examples": 2, "loss": 0.5})})
    vector, plain, layout = flatten(content, "num-examples")
    np.testing.assert_array_equal(vector, [1, 2, 1.0])
    assert list(layout.mean(vector, plain).keys()) == ["metrics"]


def test_locate_names_array_and_index() -> None:
    content = reply({"w": np.zeros((2, 3)), "b": np.zeros(())}, {"num-examples": 1, "m": [1, 2]})
    *_, layout = flatten(content, "num-examples")
    assert [layout.locate(i) for i in range(len(layout))] == [
        "the contributor count",
        "the metric 'num-examples'",
        *(f"the array 'w' at [{i}, {j}]" for i in range(2) for j in range(3)),
        "the array 'b' at []",
        "the metric 'm'",
        "the metric 'm'",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (reply({"w": np.arange(3)}, {"num-examples": 1}), "'w' must be of a float type"),
        (reply({"w": np.ones(1)}, {"loss": 1.0}), "must hold 'num-examples'"),
        (reply({"w": np.ones(1)}, {"num-examples": 0}), "must be a positive number"),
        (reply({"w": np.ones(1)}, {"num-examples": float("nan")}), "must be a positive number"),
        (reply({"w": np.ones(1)}, {"num-examples": 10**400}), "must be a positive number"),
        (reply({}, {"num-examples": 1, "loss": 10**400}), "'loss' must fit float64"),
        (reply({}, {"num-examples": 1, "loss": [10**400]}), "'loss' must fit float64"),
        (reply({"w": np.ones(1)}, {"num-examples": [1, 2]}), "must be a single number, got a list"),
        (reply({"w": np.ones((1,) * 33)}, {"num-examples": 1}), "at most 32 dimensions, got 33"),
        (RecordDict({"c": ConfigRecord({"a": "b"})}), "config records"),
        (RecordDict(), "exactly one MetricRecord, got 0"),
        (RecordDict({"a": MetricRecord(), "b": MetricRecord()}), "MetricRecord, got 2"),
    ],
)
def test_replies_that_cannot_be_averaged_are_refused(content: RecordDict, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        flatten(content, "num-examples")


def test_layout_survives_json() -> None:
    *_, layout = flatten(
        reply({"w": np.ones((2, 2))}, {"num-examples": 1, "l": [1]}), "num-examples"
    )
    assert UpdateLayout.from_json(layout.to_json()) == layout
    assert UpdateLayout.from_json(layout.to_json()).to_json() == layout.to_json()


def test_arrays_that_are_not_encrypted_come_back_in_their_place() -> None:
    arrays = {"body": np.array([[1.0, 2.0]]), "head": np.array([3.0]), "tail": np.array([4.0])}
    replies = [reply(arrays, {"num-examples": n, "loss": 0.5}) for n in (1, 3)]
    flat = [flatten(r, "num-examples", lambda name: name == "head") for r in replies]
    layout = flat[0][2]
    np.testing.assert_array_equal(flat[1][0], [1, 3, 9.0, 1.5])
    np.testing.assert_array_equal(flat[1][1], [3.0, 6.0, 12.0])
    assert (len(layout), layout.plain_length) == (4, 3)
    assert layout.locate(2) == "the array 'head' at [0]"
    assert UpdateLayout.from_json(layout.to_json()) == layout
    mean = layout.mean(flat[0][0] + flat[1][0], flat[0][1] + flat[1][1])
    got = mean.array_records["arrays"]
    assert list(got.keys()) == ["body", "head", "tail"]
    assert all((got[name].numpy() == value).all() for name, value in arrays.items())
    with pytest.raises(ProtocolError, match="the plain part must hold 3 values"):
        layout.mean(flat[0][0], NOTHING)


def test_the_order_of_records_and_metrics_does_not_matter() -> None:
    one = {"a": ArrayRecord({"w": Array(np.ones(1))}), "b": ArrayRecord({"w": Array(np.zeros(2))})}
    there = RecordDict({**one, "m": MetricRecord({"loss": 2.0, "hits": 3.0, "num-examples": 4})})
    back = RecordDict(
        {
            **dict(reversed(one.items())),
            "m": MetricRecord({"num-examples": 4, "hits": 3.0, "loss": 2.0}),
        }
    )
    (vector, _, layout), (other, _, other_layout) = (
        flatten(content, "num-examples") for content in (there, back)
    )
    assert layout.to_json() == other_layout.to_json()
    np.testing.assert_array_equal(vector, other)


def test_the_number_of_examples_comes_back_as_an_integer() -> None:
    vector, plain, layout = flatten(reply({"w": np.ones(1)}, {"num-examples": 4}), "num-examples")
    examples = layout.mean(vector, plain).metric_records["metrics"]["num-examples"]
    assert isinstance(examples, int)


def test_arrays_are_weighted_in_float64() -> None:
    content = reply({"w": np.array([100.0], "float16")}, {"num-examples": 1001})
    vector, *_ = flatten(content, "num-examples")
    assert vector[2] == 100_100, "in float16 it would be infinite"


def test_a_restricted_reply_begins_with_minus_one() -> None:
    content = reply({"w": np.ones(2)}, {"num-examples": 4})
    plain, restricted = (
        flatten(content, "num-examples", restricted=flag)[0] for flag in (False, True)
    )
    np.testing.assert_array_equal(plain, [1, 4, 4, 4])
    np.testing.assert_array_equal(restricted, [-1, 4, 4, 4])
