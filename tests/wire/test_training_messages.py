"""Requests and totals of a training as records, and totals that are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_he.learning.optimizers.training import Training
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.learning_terms import (
    LearningTerms,
    MomentsRequest,
    TrainingTerms,
    privacy_members,
    read_privacy,
    task_of,
)
from fl_he.wire.model import (
    model_message_content,
    named_arrays,
    read_arrays,
    read_models,
    read_parameters,
    read_roots,
    update_content,
)
from fl_he.wire.records import CONFIG, ProtocolError
from fl_he.wire.training_messages import (
    final_model,
    question_of,
    take_signed,
    take_total,
)

LIMBS = Limbs(24, 24)
#: Loss, gradient and Hessian of two features and an intercept, of ten examples.
DERIVATIVES = np.array([6.0, 0.5, -0.5, 0.1, 2.0, 0.1, 0.2, 2.0, 0.3, 2.0])


def begun(**changes: Any) -> tuple[Training, Any]:
    usual: dict[str, Any] = {"features": 2, "classes": 2, "optimizer": "newton", "lr": 1.0}
    config = TrainingTerms(**usual | changes).to_config()
    return Training(task_of(config, LIMBS)), config


def total(examples: int = 10, **arrays: NDArray[np.float64]) -> RecordDict:
    metrics: dict[str, int | float] = {"num-examples": examples, "loss": 0.6, "accuracy": 0.5}
    return update_content(named_arrays(**arrays), MetricRecord(dict(metrics)))


def prepare(training: Training) -> None:
    """Have ten examples of mean 3 and -2, and of variance 1 and 4."""
    take_total(training, "prepare", total(sums=LIMBS.split(np.array([30.0, -20.0])) / 10))
    take_total(training, "prepare", total(squares=LIMBS.split(np.array([10.0, 40.0])) / 10))


def digits(*sums: NDArray[np.float64], examples: int = 10) -> NDArray[np.float64]:
    split = LIMBS.split(np.concatenate(sums)) / examples
    return split.reshape(len(split), len(sums), -1)


def test_each_question_is_read_as_it_was_asked() -> None:
    firth = {"firth": True, "profile": (1,), "tolerance": 1e9, "scaling": "none"}
    training, config = begun(**firth)
    prepare(training)
    action, content = question_of(training, "train", config)
    terms = LearningTerms.from_content(content)
    assert (action, terms.hessian, terms.scaling) == ("train", True, "none")
    assert (terms.mean, terms.scale) == ((3.0, -2.0), (1.0, 1.0))
    coefficients, intercept = read_parameters(read_arrays(content))
    assert (coefficients.tolist(), intercept.tolist()) == ([[0.0, 0.0]], [0.0])

    take_total(training, "train", total(derivatives=digits(DERIVATIVES)[:, 0]))
    action, content = question_of(training, "firth", config)
    models = read_models(content, 3)
    assert (action, models.tolist()) == ("train.firth", [[0.0, 0.0, 0.0]])
    information = np.array([[2.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 2.0]])
    roots = read_roots(content, models)
    np.testing.assert_allclose(roots[0] @ roots[0].T @ information, np.eye(3), atol=1e-9)
    assert not LearningTerms.from_content(content).hessian

    take_total(training, "firth", total(adjustments=digits(np.array([0.1, 0.2, 0.3]))))
    assert training.steps == 1
    # Standard errors are known from the second round on.
    take_total(training, "train", total(derivatives=digits(DERIVATIVES)[:, 0]))
    take_total(training, "firth", total(adjustments=digits(np.array([0.1, 0.2, 0.3]))))
    assert training.converged
    action, content = question_of(training, "profile", config)
    assert action == "train.profile"
    lower, upper = read_models(content, 3)
    assert lower[1] < training.theta[1] < upper[1]
    action, content = question_of(training, "figures", config)
    assert action == "evaluate.figures"
    arrays, terms_of_model = final_model(training, private=False)
    said = LearningTerms.from_content(model_message_content(arrays, terms_of_model)).training
    assert said == ("converged" if training.converged else "not converged")
    for found in (read_arrays(content), arrays):
        coefficients, intercept = read_parameters(found)
        assert [*coefficients[0], *intercept] == training.theta.tolist()
    saved = LearningTerms.from_content(model_message_content(arrays, terms_of_model))
    assert (saved.mean, saved.scale) == ((3.0, -2.0), (1.0, 1.0))


def test_terms_of_privacy_go_with_what_is_noised() -> None:
    privacy = GaussianPrivacy(1.0, 1e-5, 1.0, 5, 3, 0.2)
    training, config = begun(
        optimizer="gd", scaling="federated", low=(0.0, 1.0), high=(1.0, 3.0), lr=0.5
    )
    config.update(privacy_members(privacy))
    action, content = question_of(training, "prepare", config)
    asked = MomentsRequest.from_content(content)
    assert (action, asked.low, asked.high) == ("train.moments", (0.0, 1.0), (1.0, 3.0))
    assert read_privacy(content.config_records[CONFIG]) == privacy
    take_total(training, "prepare", total(within=np.array([0.0, 0.0, 0.25, 0.25])))
    _, content = question_of(training, "train", config)
    assert read_privacy(content.config_records[CONFIG]) == privacy
    terms = LearningTerms.from_content(content)
    assert (terms.mean, terms.scale) == ((0.5, 2.0), (0.25, 0.5))


def test_what_is_not_due_is_refused() -> None:
    training, config = begun(optimizer="gd")
    with pytest.raises(ProtocolError, match="a sum for 'firth' cannot come now, train is due"):
        question_of(training, "firth", config)
    with pytest.raises(ProtocolError, match="a total for 'profile' cannot come now"):
        take_total(training, "profile", total(derivatives=digits(DERIVATIVES)))


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (total(gradient=np.zeros(3)), "the hospitals' total: a total must hold 'derivatives'"),
        (total(derivatives=digits(DERIVATIVES[:5])[:, 0]), "upper triangle must have 6 values"),
        (total(examples=0, derivatives=np.zeros((4, 10))), "examples must be at least 1"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 1})}), "one record of arrays"),
        (
            update_content(named_arrays(a=np.zeros(1)), MetricRecord({"num-examples": [1, 2]})),
            "'num-examples', one number",
        ),
        (
            update_content(named_arrays(a=np.zeros(1)), MetricRecord({"loss": 0.5})),
            "examples must be at least 1, got 0",
        ),
    ],
)
def test_a_total_of_another_form_is_refused(mean: RecordDict, words: str) -> None:
    training, _ = begun()
    prepare(training)
    with pytest.raises(ProtocolError, match=words):
        take_total(training, "train", mean)
    assert training.steps == 0


#: A task of counts with bounds.
COUNTS: dict[str, Any] = {
    **{"classes": 0, "family": "poisson", "optimizer": "gd", "outcome_bounds": (0.0, 8.0)}
}


def test_bounds_take_the_place_of_the_moments_of_an_outcome() -> None:
    """No sum precedes the gradients, and each question has the bounds."""
    training, config = begun(**COUNTS, lr=0.5)
    assert training.due == "train"
    np.testing.assert_allclose(training.theta, [0.0, 0.0, math.log(2.0)])
    action, content = question_of(training, "train", config)
    assert action == "train"
    assert LearningTerms.from_content(content).outcome_bounds == (0.0, 8.0)
    mean = total(coefficients=np.array([0.4, -0.2]), intercept=np.array([0.1]))
    take_total(training, "train", mean)
    np.testing.assert_allclose(training.theta, [-0.2, 0.1, math.log(2.0) - 0.05])
    gaussian, _ = begun(**{**COUNTS, "family": "gaussian", "outcome_bounds": (10.0, 70.0)}, lr=0.5)
    take_total(gaussian, "train", mean)
    np.testing.assert_allclose(gaussian.theta, [-6.0, 3.0, 40.0 - 1.5])


@pytest.mark.parametrize("most", [{"max_step": 0.1}, {"max_coefficient": 0.1}])
def test_steps_of_a_number_are_bounded_in_the_unit_of_its_bounds(most: dict[str, float]) -> None:
    mean = total(coefficients=np.array([0.19, 0.0]), intercept=np.array([9.0]))
    far = total(coefficients=np.array([0.21, 0.0]), intercept=np.array([0.0]))
    for family, ends in (("poisson", (0.0, 8.0)), ("gaussian", (10.0, 70.0))):
        asked = {**COUNTS, "family": family, "outcome_bounds": ends, "lr": 0.5, "C": None, **most}
        take_total(begun(**asked)[0], "train", mean)
        with pytest.raises(ProtocolError, match=r"must be at most 0\.1 in size"):
            take_total(begun(**asked)[0], "train", far)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"low": (0.0,), "scaling": "federated"}, "low must be of 2 features"),
        ({"low": (0.0, 1.0), "scaling": "federated"}, "ranges must have both ends"),
        ({"low": (0.0, 1.0), "high": (1.0, 2.0)}, "scaling must be federated"),
        ({"firth": True, "C": 1.0}, "Firth's penalty and profile likelihoods must be of two"),
        ({"firth": True, "classes": 3}, "Firth's penalty and profile likelihoods must be of two"),
        ({"profile": (0,), "optimizer": "gd"}, "Firth's penalty and profile likelihoods must"),
        ({"profile": (0,), "balanced": True}, "Firth's penalty and profile likelihoods must"),
        ({"profile": (2,)}, "profile must be of different features out of 2"),
        ({"profile": (1, 1)}, "profile must be of different features out of 2"),
        ({**COUNTS, "optimizer": "newton"}, "optimizer must be gd or nesterov for family poisson"),
        ({**COUNTS, "outcome_bounds": ()}, "optimizer must be newton for family poisson, got gd"),
        ({**COUNTS, "outcome_bounds": (2.0, 1.0)}, "a task: outcome_bounds must be a lower and a"),
        ({**COUNTS, "family": "gamma"}, "a task: outcome_bounds must be left out with family gam"),
        ({"outcome_bounds": (0.0, 1.0)}, "must be left out with family logistic"),
    ],
)
def test_a_task_that_is_none_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        begun(**changes)


def test_all_go_on_with_the_numbers_that_company_x_has_signed() -> None:
    ours, _ = begun(optimizer="gd", lr=0.5)
    gradient = total(coefficients=np.array([0.4, -0.2]), intercept=np.array([0.1]))
    take_total(ours, "train", gradient)
    theirs = ours.to_members()
    theirs["theta"] = (ours.theta * (1 + 1e-10)).tolist()
    assert theirs["theta"] != ours.theta.tolist()
    point = ours.point
    take_signed(ours, json.dumps(theirs))
    assert ours.theta.tolist() == theirs["theta"]
    assert ours.point is point is not None
    before = ours.to_json()
    for wrong in (
        {**theirs, "theta": (ours.theta * (1 + 1e-8)).tolist()},
        {**theirs, "steps": 2},
        {},
    ):
        with pytest.raises(ProtocolError, match=r"the (training so far|step that company X)"):
            take_signed(ours, json.dumps(wrong))
        assert ours.to_json() == before


@pytest.mark.parametrize("family", ["negative_binomial", "cox"])
def test_hospitals_are_not_compared_by_such_families(family: str) -> None:
    with pytest.raises(ProtocolError, match="must be compared by a model of family logistic or "):
        begun(classes=0, family=family, sites=True)


def test_totals_of_other_derivatives_than_those_by_alpha_are_refused() -> None:
    training, _ = begun(classes=0, family="negative_binomial")
    outcome = LIMBS.split(np.array([30.0, 150.0, -4.0, 4.0, 10.0])) / 10
    sums = LIMBS.split(np.array([30.0, -20.0])) / 10
    take_total(training, "prepare", total(sums=sums, outcome=outcome))
    take_total(training, "prepare", total(squares=LIMBS.split(np.array([10.0, 40.0])) / 10))
    assert len(training.overdispersion) == 3
    for count in (0, 1, 5, 12, 14):
        numbers = np.append(DERIVATIVES, np.ones(count))
        with pytest.raises(ProtocolError, match="derivatives must be of"):
            take_total(training, "train", total(derivatives=digits(numbers)[:, 0]))
