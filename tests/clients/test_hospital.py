from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from sklearn.metrics import log_loss

from fl_he.clients.hospital import HospitalData, add_hospital
from fl_he.clients.row_sums import columns_behind
from fl_he.learning.regression.negative_binomial import NegativeBinomialModel
from fl_he.learning.regression.registry import load_model
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.table_file import RowNumbers
from fl_he.wire.encrypted_sum import FIRTH, PROFILE, SEPARATION
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.model import model_arrays, model_message_content, models_content
from fl_he.wire.records import PrivateReasonError, ProtocolError

DATA = Dataset(np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0]]), np.array([1, 0, 1]), ("a", "b"))
W, B = np.array([0.25, -0.5]), 0.125


def ask(
    action: str,
    coefficients: np.ndarray[tuple[int], np.dtype[np.float64]] = W,
    hospital: HospitalData = HospitalData(DATA, None),  # noqa: B008 - a frozen dataclass
) -> RecordDict:
    app = add_hospital(ClientApp(), lambda _: hospital)
    content = model_message_content(model_arrays(coefficients, B))
    context = Context(1, 5, {"partition-id": 0, "num-partitions": 4}, RecordDict(), {})
    return app(Message(content, 5, action), context).content


@pytest.mark.parametrize("action", ["evaluate.figures", "query.finish"])
def test_no_result_is_put_in_the_place_of_another(tmp_path: Path, action: str) -> None:
    five = Dataset(np.resize(DATA.features, (15, 2)), np.resize(DATA.labels, 15), ("a", "b"))
    hospital = HospitalData(DATA, tmp_path / "model.json", held_out=lambda: five)
    ask(action, W, hospital)
    (saved,) = tmp_path.iterdir()
    kept = saved.read_bytes()
    ask(action, W, hospital)
    with pytest.raises(ProtocolError, match="no model is replaced"):
        ask(action, -W, hospital)
    assert saved.read_bytes() == kept


def test_evaluation_is_of_the_model_that_was_sent_and_holds_no_arrays() -> None:
    content = ask("evaluate")
    assert list(content.keys()) == ["metrics"]
    probabilities = 1 / (1 + np.exp(-(DATA.features @ W + B)))
    assert dict(content.metric_records["metrics"]) == {
        "loss": pytest.approx(log_loss(DATA.labels, probabilities)),
        "accuracy": pytest.approx(np.mean((probabilities > 0.5) == DATA.labels)),
        "num-examples": 3,
    }


@pytest.mark.parametrize("action", ["train", "evaluate", "query.finish"])
@pytest.mark.parametrize("features", [1, 3])
def test_a_model_of_other_features_is_refused(action: str, features: int) -> None:
    with pytest.raises(ProtocolError, match=f"this hospital's 2 features, got {features}"):
        ask(action, np.zeros(features))


BIG = Dataset(
    np.array([[1.0, 1e308, 1e20], [0.0, -1e308, 2e20]]), np.array([1, 0]), ("a", "b", "c")
)


def test_columns_whose_sums_are_too_large_are_named() -> None:
    in_file = replace(BIG, rows=RowNumbers(np.array([7, 5]), header=1))
    for request in (MomentsRequest(sums=True), MomentsRequest(mean=(0.5, 0.0, 1.5e20))):
        for dataset, first, end in ((BIG, 1, ""), (in_file, 5, " (the header is row 1)")):
            with pytest.raises(PrivateReasonError) as caught:
                answer("train.moments", request.add_to(RecordDict()), dataset)
            cells = f"(2 cells above 1e+14, the first in row {first})"
            assert str(caught.value) == (
                "sums over a hospital's numbers, and over their squares, must be below 2e+28; they "
                f"are larger in column 'b' {cells}, column 'c' {cells}: correct such cells, save "
                f"the column in a larger unit, or leave it out{end}"
            )


def test_an_outcome_whose_sums_are_too_large_is_named_with_its_row() -> None:
    dataset = Dataset(
        np.array([[1.0], [2.0]]),
        np.array([3.0, 2.0]),
        ("a",),
        positive="visits",
        family="poisson",
        rows=RowNumbers(np.array([7, 5]), header=1),
        exposure=np.array([1.0, 1e-30]),
        exposure_name="years",
    )
    with pytest.raises(PrivateReasonError) as caught:
        answer("train.moments", MomentsRequest(outcome=True).add_to(RecordDict()), dataset)
    assert str(caught.value) == (
        "sums of the outcome 'visits', and of its squares, divided by the exposure 'years', must "
        "be below 2e+28, got larger ones, most by row 5: correct such cells, or leave "
        "their rows out (the header is row 1)"
    )


def test_a_hospital_is_not_blamed_for_numbers_of_another() -> None:
    usual = replace(BIG, features=np.array([[1.0, 5.0, 2.0], [0.0, 7.0, 3.0]]))
    sums = MomentsRequest(sums=True).add_to(RecordDict())
    assert answer("train.moments", sums, usual).array_records
    request = MomentsRequest(mean=(0.5, 1e15, 2.5)).add_to(RecordDict())
    with pytest.raises(PrivateReasonError, match=r"'b' \(by numbers of another hospital\):"):
        answer("train.moments", request, usual)


def test_the_largest_number_is_told_where_none_is_too_large_alone() -> None:
    many = Dataset(np.array([[-1e13], [2e13], [1e13]] * 200), np.zeros(600), ("a",))
    with pytest.raises(PrivateReasonError, match=r"'a' \(the largest is in row 2\):"):
        answer("train.moments", MomentsRequest(sums=True).add_to(RecordDict()), many)


def test_columns_that_overflow_once_they_are_scaled_are_named() -> None:
    terms = LearningTerms("federated", (0.0, 0.0, 0.0), (1.0, 1e-9, 1.0))
    with pytest.raises(PrivateReasonError) as caught:
        answer("train", with_terms(terms, model_arrays(np.zeros(3), 0.0)), BIG)
    assert str(caught.value) == (
        "once they are scaled, column 'b' must be of numbers that can be computed with, got 2 "
        "cells too large, the first in row 1"
    )


@pytest.mark.parametrize("scaling", ["none", "federated"])
def test_columns_whose_derivatives_are_too_large_are_named(scaling: str) -> None:
    dataset = replace(BIG, features=BIG.features.clip(-1e30, 1e30))
    terms = LearningTerms("none", hessian=True)
    if scaling == "federated":
        terms = LearningTerms("federated", (0.0,) * 3, (1.0,) * 3, hessian=True)
    with pytest.raises(PrivateReasonError) as caught:
        answer("train", with_terms(terms, model_arrays(np.zeros(3), 0.0)), dataset)
    limit = "4e+09" if scaling == "federated" else "2e+28"
    assert f"below {limit}; they are larger in column 'b' (2 cells above" in str(caught.value)


COUNTS = replace(DATA, labels=np.array([0.0, 4.0, 1.0]), family="negative_binomial")


@pytest.mark.parametrize("action", ["train", SEPARATION, "evaluate", "query.finish"])
@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        *(
            (COUNTS, told)
            for told in [(), (0.1,), (0.0,) * 4, (51.0, 0.0, 0.0), (0.0, -1e300, 0.0)]
        ),
        (replace(COUNTS, family="poisson"), (0.0, 0.0, 0.0)),
        (DATA, (0.0, 0.0, 0.0)),
    ],
)
def test_another_alpha_than_the_familys_is_refused(
    action: str, dataset: Dataset, told: tuple[float, ...]
) -> None:
    terms = LearningTerms(hessian=True, overdispersion=told)
    with pytest.raises(ProtocolError, match=r"overdispersion of family .* of at most 50 in size"):
        answer(action, with_terms(terms, model_arrays(np.zeros(2), 0.0)), dataset)


def test_an_own_intercept_is_the_best_at_the_alpha_of_the_message(tmp_path: Path) -> None:
    hospital = HospitalData(COUNTS, tmp_path / "model.json")
    app = add_hospital(ClientApp(), lambda _: hospital)
    context = Context(1, 5, {"partition-id": 0, "num-partitions": 4}, RecordDict(), {})
    terms = LearningTerms(site_intercepts=True, overdispersion=(0.7, 0.0, 0.0))
    app(Message(with_terms(terms), 5, "query.finish"), context)
    model = load_model(tmp_path / "model.json")
    assert isinstance(model, NegativeBinomialModel)
    assert model.alpha == pytest.approx(np.exp(0.7))
    means = model.expected(COUNTS.features)
    assert np.sum((means - COUNTS.labels) / (1.0 + model.alpha * means)) == pytest.approx(0.0)


@pytest.mark.parametrize("number", [50.0, -50.0])
def test_the_largest_numbers_of_an_alpha_have_finite_sums(number: float) -> None:
    for place in range(3):
        told = tuple(number if place == one else 0.0 for one in range(3))
        terms = LearningTerms(hessian=True, overdispersion=told)
        reply = answer("train", with_terms(terms, model_arrays(np.zeros(2), 0.0)), COUNTS)
        assert np.isfinite(reply.array_records["arrays"]["derivatives"].numpy()).all()


def test_a_value_of_a_reply_is_of_a_column() -> None:
    assert columns_behind(DATA, "coefficients", [1]) == ["b"]
    assert columns_behind(THREE, "coefficients", [2, 0]) == ["a"]
    assert columns_behind(DATA, "intercept", [0]) == []


THREE = Dataset(
    np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0]]),
    np.array([2.0, 0.0, 2.0]),
    ("a", "b"),
    classes=("x", "y", "z"),
)


def answer(
    action: str, content: RecordDict, dataset: Dataset = DATA, test: Dataset | None = None
) -> RecordDict:
    app = add_hospital(ClientApp(), lambda _: HospitalData(dataset, None, held_out=lambda: test))
    context = Context(1, 5, {"partition-id": 0, "num-partitions": 4}, RecordDict(), {})
    return app(Message(content, 5, action), context).content


def with_terms(terms: LearningTerms, arrays: ArrayRecord | None = None) -> RecordDict:
    model = model_arrays(W, B) if arrays is None else arrays
    return model_message_content(model, terms.to_config())


def test_a_gradient_is_of_the_features_as_the_terms_scale_them() -> None:
    terms = LearningTerms("federated", (1.0, -1.0), (2.0, 0.5), (0.5, 3.0), hessian=True)
    content = answer("train", with_terms(terms))
    X = (DATA.features - [1.0, -1.0]) / [2.0, 0.5]
    p = 1 / (1 + np.exp(-(X @ W + B)))
    weights = np.where(DATA.labels == 1.0, 3.0, 0.5)
    design = np.column_stack([X, np.ones(3)])
    gradient = (weights * (p - DATA.labels)) @ design / 3
    hessian = (design * (weights * p * (1 - p))[:, None]).T @ design / 3
    loss = np.sum(weights * -np.log(np.where(DATA.labels == 1.0, p, 1 - p)))
    arrays = content.array_records["arrays"]
    assert list(arrays.keys()) == ["derivatives"]
    digits = np.asarray(arrays["derivatives"].numpy()) * 3
    assert len(digits) == 2, "scaled features need few digits"
    sums = Limbs(24, 24).of_derivatives(scaled=True).join(digits)
    np.testing.assert_allclose(sums, [loss, *3 * gradient, *3 * hessian[np.triu_indices(3)]])
    content = answer("train", with_terms(replace(terms, hessian=False)))
    arrays = content.array_records["arrays"]
    np.testing.assert_allclose(arrays["coefficients"].numpy(), gradient[:2])
    np.testing.assert_allclose(arrays["intercept"].numpy(), gradient[2:])


def test_derivatives_in_the_units_of_the_table_have_all_digits() -> None:
    content = answer("train", with_terms(LearningTerms(hessian=True)))
    assert content.array_records["arrays"]["derivatives"].shape == (4, 1 + 3 + 6)


def test_a_loss_beyond_all_digits_is_only_large() -> None:
    model = model_arrays(np.array([1e12, 0.0]), 0.0)
    far = LearningTerms("federated", (0.0, 0.0), (1.0, 1.0), hessian=True)
    contrary = Dataset(DATA.features, 1 - DATA.labels, ("a", "b"))
    arrays = answer("train", with_terms(far, model), contrary).array_records["arrays"]
    digits = np.asarray(arrays["derivatives"].numpy()) * 3
    assert Limbs(24, 24).of_derivatives(scaled=True).join(digits)[0] == 2.0**31


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"scaling": "global"}, "scaling must be one of none, local, federated, got 'global'"),
        ({"scaling": 1}, "scaling must be one of none, local, federated, got an integer"),
        ({"scaling": "federated"}, "mean and scale must be of this hospital's 2 features"),
        ({"scaling": "federated", "mean": [0.0], "scale": [1.0]}, "got 1 and 1"),
        ({"scaling": "federated", "mean": [0.0, 0.0], "scale": [1.0, 0.0]}, "scale above 0"),
        (
            {"scaling": "federated", "mean": [0.0, np.nan], "scale": [1.0, 1.0]},
            "must be a finite number",
        ),
        ({"mean": [1, 2]}, r"mean\[0\] must be a decimal number, got an integer"),
        ({"class-weights": [1.0]}, "class weights must be 2 numbers greater than 0, got 1"),
        ({"class-weights": [1.0, -1.0]}, "got 2 of which 1 are"),
        ({"hessian": 1}, "hessian must be true or false, got an integer"),
    ],
)
@pytest.mark.parametrize("action", ["train", "evaluate.figures"])
def test_terms_that_cannot_be_met_are_refused(
    action: str, config: dict[str, Any], words: str
) -> None:
    if action != "train" and "class-weights" in config:
        pytest.skip("an evaluation weighs nothing")
    content = model_message_content(model_arrays(W, B), ConfigRecord(config))
    with pytest.raises(ProtocolError, match=words):
        answer(action, content, test=DATA)


def test_a_scale_that_makes_features_infinite_is_a_private_reason() -> None:
    terms = LearningTerms("federated", (0.0, 0.0), (1e-308, 1.0))
    with pytest.raises(PrivateReasonError):
        answer("train", with_terms(terms, model_arrays(np.zeros(2), 0.0)), DATA_LARGE)


DATA_LARGE = Dataset(np.array([[1e3, 2.0]]), np.array([1.0]), ("a", "b"))


def test_a_model_of_other_classes_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"this hospital's 3 classes, got coefficients for 1"):
        answer("train", with_terms(LearningTerms()), THREE)
    four = model_arrays(np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ProtocolError, match=r"this hospital's 3 classes, got coefficients for 4"):
        answer("train", with_terms(LearningTerms(), four), THREE)
    three = model_arrays(np.zeros((3, 2)), np.zeros(3))
    assert answer("train", with_terms(LearningTerms(), three), THREE)


def test_sums_are_of_what_was_asked_for() -> None:
    limbs = Limbs(24, 24)
    content = answer("train.moments", MomentsRequest(sums=True, counts=True).to_content(), THREE)
    arrays = content.array_records["arrays"]
    found = limbs.join(np.asarray(arrays["sums"].numpy()) * 3)
    np.testing.assert_array_equal(found, THREE.features.sum(axis=0))
    np.testing.assert_allclose(np.asarray(arrays["counts"].numpy()) * 3, [1, 0, 2])
    assert content.metric_records["metrics"]["num-examples"] == 3
    content = answer("train.moments", MomentsRequest(mean=(1.0, 0.5)).to_content(), THREE)
    arrays = content.array_records["arrays"]
    assert list(arrays.keys()) == ["squares"]
    squares = np.square(THREE.features - [1.0, 0.5]).sum(axis=0)
    found = limbs.join(np.asarray(arrays["squares"].numpy()) * 3)
    np.testing.assert_allclose(found, squares, rtol=1e-15)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"sums": True}, "counts must be true or false, got nothing"),
        ({"sums": True, "counts": True, "mean": [1.0]}, "this hospital's 2 features, got 1"),
        (
            {"sums": True, "counts": True, "mean": [1.0, np.inf]},
            r"mean\[1\] must be a finite number",
        ),
    ],
)
def test_requests_for_sums_that_are_wrong_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        answer("train.moments", RecordDict({"config": ConfigRecord(config)}))


def asked(models: np.ndarray, roots: np.ndarray | None = None) -> RecordDict:
    terms = LearningTerms("federated", (1.0, -1.0), (2.0, 0.5))
    return models_content(models, terms.to_config(), roots)


def test_derivatives_at_several_models_are_those_at_each() -> None:
    models = np.array([[0.25, -0.5, 0.125], [1.0, 0.0, -1.0]])
    arrays = answer(PROFILE, asked(models)).array_records["arrays"]
    digits = np.asarray(arrays["derivatives"].numpy())
    assert digits.shape == (2, 2, 1 + 3 + 6)
    terms = LearningTerms("federated", (1.0, -1.0), (2.0, 0.5), hessian=True)
    for number, theta in enumerate(models):
        content = with_terms(terms, model_arrays(theta[:2], theta[2]))
        alone = answer("train", content).array_records["arrays"]["derivatives"]
        np.testing.assert_array_equal(digits[:, number], alone.numpy())


def test_the_penalty_is_of_the_leverages_in_the_total() -> None:
    """With this hospital's own information in place of the total's, written out."""
    theta = np.array([0.25, -0.5, 0.125])
    design = np.column_stack([(DATA.features - [1.0, -1.0]) / [2.0, 0.5], np.ones(3)])
    p = 1 / (1 + np.exp(-design @ theta))
    half = np.sqrt(p * (1 - p))[:, None] * design
    inverse = np.linalg.inv(half.T @ half)
    leverages = np.diag(half @ inverse @ half.T)
    content = answer(FIRTH, asked(theta[None], np.linalg.cholesky(inverse)[None]))
    digits = np.asarray(content.array_records["arrays"]["adjustments"].numpy()) * 3
    assert digits.shape == (2, 1, 3)
    sums = Limbs(24, 24).of_derivatives(scaled=True).join(digits[:, 0])
    np.testing.assert_allclose(sums, (leverages * (0.5 - p)) @ design, rtol=1e-12)


@pytest.mark.parametrize(
    ("action", "models", "roots", "words"),
    [
        (PROFILE, np.zeros((1, 4)), None, "models must be from 1 to 2000, of 3 parameters each"),
        (PROFILE, np.zeros((2001, 3)), None, "parameters each, got shape .2001, 3."),
        (PROFILE, np.zeros((0, 3)), None, "parameters each, got shape .0, 3."),
        (PROFILE, np.zeros(3), None, "parameters each, got shape .3,."),
        (PROFILE, np.full((1, 3), np.nan), None, "'models' must hold finite numbers only"),
        (FIRTH, np.zeros((1, 3)), None, "arrays must hold 'roots'"),
        (FIRTH, np.zeros((1, 3)), np.zeros((1, 3, 2)), r"roots must have shape \(1, 3, 3\)"),
        (FIRTH, np.zeros((1, 3)), np.full((1, 3, 3), np.inf), "'roots' must hold finite"),
    ],
)
def test_models_that_do_not_fit_are_refused(
    action: str, models: np.ndarray, roots: np.ndarray | None, words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        answer(action, asked(models, roots))


def test_firths_penalty_is_of_two_classes() -> None:
    with pytest.raises(ProtocolError, match="must be of two classes, got 3"):
        answer(FIRTH, asked(np.zeros((1, 9)), np.zeros((1, 9, 9))), THREE)


def test_sides_of_a_model_are_counted_in_the_units_of_the_terms() -> None:
    """Margins of (1, 2), (0, -1) and (3, 1) less 1 for x - 1: 0 of a 1, -1 of a 0, 2 of a 1."""
    terms = LearningTerms("federated", (1.0, 0.0), (1.0, 1.0), (3.0, 1.0))
    for weights, counts in [
        ((1.0, 0.0, 0.0), [0, 1]),
        ((-1.0, 0.0, 0.0), [2, 1]),
        ((1.0, 0.0, 1e-9), [0, 0]),
        ((1.0, 0.0, -1e-9), [1, 0]),
        ((1.0, 0.0, 1e-12), [0, 1]),
        ((1e300, 1e300, 1e300), None),
    ]:
        model = model_arrays(np.array(weights[:2]), weights[2])
        content = answer("train.separation", with_terms(terms, model))
        assert dict(content.metric_records["metrics"]) == {"num-examples": 3}
        found = 3 * content.array_records["arrays"]["sides"].numpy()
        assert counts is None or found.tolist() == counts
