"""Public feature maps against scikit-learn's transformers, and models on them against predict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from integer_scores import integer_scores
from sklearn.datasets import load_iris
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from fl_he.learning.errors import DataError
from fl_he.learning.voting.answering import AnsweringModel
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.feature_map import MAPS, FeatureMap, Fourier, union
from fl_he.learning.voting.integer_model import fixed_point, in_integers

FEATURES, LABELS = load_iris(return_X_y=True)
# quarters, whose squares fixed point holds exactly, too
FEATURES = np.rint(FEATURES * 4) / 4
FOURIER = Fourier(components=40, gamma=0.3, seed=5)
EVERYTHING = union(4, MAPS, FOURIER)
FRACTION_BITS, INTEGER_BITS = 12, 4

MODELS: dict[str, Any] = {
    "logistic": LogisticRegression(max_iter=1000),
    "bayes": GaussianNB(),
    "polynomial": make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=200)),
    "interactions": make_pipeline(
        PolynomialFeatures(2, interaction_only=True, include_bias=False), RidgeClassifier()
    ),
    "fourier": make_pipeline(
        RBFSampler(gamma=0.3, n_components=40, random_state=5), LogisticRegression(max_iter=1000)
    ),
    "network": MLPClassifier((5,), random_state=0, max_iter=200, solver="lbfgs"),
    "fourier network": make_pipeline(
        RBFSampler(gamma=0.3, n_components=40, random_state=5),
        MLPClassifier((5,), random_state=0, max_iter=200, solver="lbfgs"),
    ),
}


def labels(model: AnsweringModel, mapping: FeatureMap) -> list[int]:
    """Return the model's predictions in integers, as under encryption."""
    bits = mapping.integer_bits(INTEGER_BITS)
    integers = in_integers(
        model,
        fraction_bits=FRACTION_BITS,
        integer_bits=bits,
        compared_bits=16,
        largest_difference=(1 << 80) - 2,
    )
    scores = integer_scores(integers, fixed_point(mapping.apply(FEATURES), FRACTION_BITS, bits))
    return [int(max(range(len(row)), key=row.__getitem__)) for row in scores.tolist()]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_on_the_union_of_all_maps_predicts_what_its_classifier_does(
    name: str, classes: int
) -> None:
    rows = classes > LABELS
    fitted = MODELS[name].fit(FEATURES[rows], LABELS[rows])
    model = answering_model(fitted, classes, EVERYTHING)
    wanted = fitted.predict(FEATURES).tolist()
    assert model.predict(EVERYTHING.apply(FEATURES)).tolist() == wanted
    assert labels(model, EVERYTHING) == wanted
    assert len(set(wanted)) == classes


def test_the_columns_are_scikit_learns() -> None:
    polynomial = PolynomialFeatures(2, include_bias=False)
    both = union(4, ["identity", "products"])
    np.testing.assert_array_equal(both.apply(FEATURES), polynomial.fit_transform(FEATURES))
    sampler = RBFSampler(gamma=0.3, n_components=40, random_state=5).fit(FEATURES)
    cosines = union(4, ["fourier"], FOURIER).apply(FEATURES)
    np.testing.assert_allclose(cosines * np.sqrt(2 / 40), sampler.transform(FEATURES), atol=1e-12)
    squares = union(4, ["squares"])
    np.testing.assert_array_equal(squares.apply(FEATURES), FEATURES**2)


def test_a_union_holds_each_column_once() -> None:
    assert EVERYTHING.size == 4 + 10 + 40
    assert union(4, ["squares", "products"]) == union(4, ["products"])
    assert union(4, ["squares", "identity"]) == union(4, ["identity", "squares", "squares"])


def test_columns_have_the_bits_that_their_values_need() -> None:
    largest = np.full((1, 4), 2.0**INTEGER_BITS - 2.0**-FRACTION_BITS)
    bits = np.array(EVERYTHING.integer_bits(INTEGER_BITS))
    assert (np.abs(EVERYTHING.apply(largest)) < 2.0**bits).all()
    assert bits.tolist() == [4] * 4 + [8] * 10 + [1] * 40
    fixed_point(EVERYTHING.apply(largest), FRACTION_BITS, bits.tolist())
    too_large = EVERYTHING.apply(largest)
    too_large[0, 4] = 256.0
    with pytest.raises(DataError, match=r"feature 4 of query 0 must be below 2\*\*8 in size"):
        fixed_point(too_large, FRACTION_BITS, bits.tolist())


def test_no_number_outgrows_its_bits_at_any_query_on_a_map() -> None:
    fitted = MODELS["bayes"].fit(FEATURES, LABELS)
    bits = EVERYTHING.integer_bits(INTEGER_BITS)
    model = in_integers(
        answering_model(fitted, 3, EVERYTHING),
        fraction_bits=4,
        integer_bits=bits,
        compared_bits=16,
        largest_difference=2**30,
    )
    rng = np.random.default_rng(1)
    limits = np.array([2 ** (4 + b) - 1 for b in bits])
    scores = integer_scores(model, rng.choice([-1, 1], size=(300, EVERYTHING.size)) * limits)
    assert int((scores.max(axis=1) - scores.min(axis=1)).max()) <= 2**30


@pytest.mark.parametrize(
    ("estimator", "mapping"),
    [
        (MODELS["bayes"], None),
        (MODELS["bayes"], union(4, ["identity", "fourier"], FOURIER)),
        (MODELS["polynomial"], union(4, ["identity", "squares"])),
        (MODELS["logistic"], union(4, ["squares"])),
        (make_pipeline(PolynomialFeatures(3), RidgeClassifier()), EVERYTHING),
    ],
)
def test_a_model_on_columns_that_nobody_encrypts_is_refused(
    estimator: Any, mapping: FeatureMap | None
) -> None:
    with pytest.raises(DataError, match="public feature map must hold the product of features"):
        answering_model(estimator.fit(FEATURES, LABELS), 3, mapping)


@pytest.mark.parametrize("mapping", [None, union(4, ["identity"])])
def test_random_features_without_the_public_ones_are_refused(mapping: FeatureMap | None) -> None:
    with pytest.raises(DataError, match=r"RBFSampler (is not that|must be given)"):
        answering_model(MODELS["fourier"].fit(FEATURES, LABELS), 3, mapping)


@pytest.mark.parametrize("changes", [{"gamma": 0.2}, {"random_state": 6}, {"n_components": 41}])
def test_other_random_features_than_the_public_ones_are_refused(changes: dict[str, Any]) -> None:
    sampler = RBFSampler(gamma=0.3, n_components=40, random_state=5).set_params(**changes)
    fitted = make_pipeline(sampler, LogisticRegression(max_iter=1000)).fit(FEATURES, LABELS)
    with pytest.raises(DataError, match="RBFSampler is not that of the public feature map"):
        answering_model(fitted, 3, EVERYTHING)


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), "Pipeline"),
        (make_pipeline(PolynomialFeatures(2), DecisionTreeClassifier()), "DecisionTreeClassifier"),
        (make_pipeline(PolynomialFeatures(2), GaussianNB()), "GaussianNB"),
        (make_pipeline(PolynomialFeatures(1), *[PolynomialFeatures(2)] * 1, GaussianNB()), "Pipe"),
    ],
)
def test_another_pipeline_is_refused_with_what_can_be_evaluated(estimator: Any, kind: str) -> None:
    with pytest.raises(DataError, match=rf"GaussianNB.*PolynomialFeatures.*RBF.*, got {kind}"):
        answering_model(estimator.fit(FEATURES, LABELS), 3, EVERYTHING)


@pytest.mark.parametrize(
    ("maps", "reason"),
    [((), "must be some of"), (("cubes",), "cubes"), (("fourier",), "needs Fourier features")],
)
def test_maps_that_are_none_are_refused(maps: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        union(4, maps)


@pytest.mark.parametrize("changes", [{"components": 0}, {"gamma": 0.0}, {"gamma": float("nan")}])
def test_random_features_of_no_kernel_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="above 0"):
        Fourier(**{"components": 3, "gamma": 1.0, "seed": 0, **changes})
