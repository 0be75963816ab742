from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from study_plans import PLAN, PRIVATE, RANGED

from fl_he.errors import FlHeError
from fl_he.learning.regression.calibration import fine_bins
from fl_he.learning.regression.evaluation import BINS
from fl_he.learning.regression.registry import FAMILIES
from fl_he.wire.study_plan import Outcome, StudyPlan, plain_words

CLASSES = Outcome("state", None, None, ("a", "b", "c"))


@pytest.mark.parametrize("plan", [PLAN, RANGED, PRIVATE])
def test_json_round_trip(plan: StudyPlan) -> None:
    assert StudyPlan.from_json(plan.to_json()) == plan


def test_the_digest_is_of_the_values_and_not_of_the_layout() -> None:
    members = json.loads(PLAN.to_json())
    text = json.dumps({key: members[key] for key in sorted(members)}).replace("10.0", "10")
    assert StudyPlan.from_json(text).digest == PLAN.digest
    del members["format"]
    fields = (b"fl-he study plan 1", json.dumps(members, sort_keys=True).encode())
    encoded = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    assert PLAN.digest == hashlib.sha256(encoded).hexdigest()


def test_every_member_changes_the_digest() -> None:
    softmax: dict[str, Any] = {"outcome": CLASSES}
    changes: dict[str, Any] = {
        "family": "softmax",
        "features": ("age", "weight"),
        "outcome": Outcome("state", "well", None, ()),
        "scaling": "federated",
        "class_weights": "balanced",
        "C": (1.0,),
        "optimizers": ("gd",),
        "lr": (0.5,),
        "tolerance": 1e-5,
        "bins": BINS,
        "most_rounds": 5,
        "most_sessions": 3,
        "max_step": 9.0,
        "max_coefficient": 9.0,
        "min_contributors": 2,
    }
    plans = [
        replace(PLAN, **({name: value} | (softmax if name == "family" else {})))
        for name, value in changes.items()
    ]
    firth = replace(PLAN, penalty="firth", C=(None,), optimizers=("newton",), lr=())
    others = [RANGED, PRIVATE, firth, replace(firth, profile=True)]
    digests = {plan.digest for plan in (PLAN, *plans, *others)}
    assert len(digests) == 1 + len(plans) + len(others)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ()}, "features of a study plan must hold at least 1 different values"),
        ({"features": ("age", "age")}, "none twice, got 2 of which 1 differ"),
        ({"optimizers": ("sgd",)}, r"optimizers\[0\] must be one of gd, nesterov, newton, lbfgs"),
        ({"optimizers": ("newton",)}, "lr of a study plan must be empty unless an optimizer is gd"),
        ({"lr": ()}, "lr of a study plan must hold at least 1"),
        ({"C": (0.0,)}, r"C\[0\] must be above 0"),
        ({"family": "softmax"}, "softmax with 3 outcome.classes or more, or logistic with none"),
        ({"outcome": CLASSES}, "got logistic with 3"),
        ({"outcome": Outcome("y", "a", 1.0, ())}, "at most one of positive, threshold and classes"),
        ({"ranges": RANGED.ranges}, "scaling none and no privacy must be 0 pairs, got 2"),
        ({"scaling": "ranges"}, "scaling ranges and no privacy must be 2 pairs, got 0"),
        ({"scaling": "ranges", "ranges": ((1, 1), (0, 1))}, "low must be below high"),
        ({"bins": 7}, f"bins of a study plan must be 0 for no evaluation or {BINS}, got 7"),
        ({"penalty": "firth"}, r"with penalty firth must have family logistic, C \[null\]"),
        ({"profile": True}, r"with profile must have family logistic, C \[null\]"),
        ({"privacy": PRIVATE.privacy}, "must have class_weights none, bins 0, profile false"),
        ({"most_rounds": 0}, "most_rounds must be at least 1, got 0"),
        ({"max_coefficient": float("inf")}, "max_coefficient must be a number below 1e300"),
    ],
)
def test_values_that_are_no_plan_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FlHeError, match=message):
        replace(PLAN, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"most_rounds": 5}, "rounds as most_rounds and contributors as min_contributors, 5 and 3"),
        ({"min_contributors": 2}, "4 and 2, got 4 and 3"),
        ({"scaling": "federated"}, "privacy.scaling of a study plan must be above 0"),
        ({"lr": (5.1,)}, "lr of a study plan must be at most 5, got 5.1: a clipped gradient may"),
    ],
)
def test_terms_of_privacy_fit_the_plan(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FlHeError, match=message):
        replace(PRIVATE, **changes)


#: A plan of counts within bounds.
COUNTS = replace(
    PRIVATE,
    family="poisson",
    outcome=Outcome("visits", None, None, (), "poisson"),
    outcome_bounds=(0.0, 30.0),
)


def test_a_private_plan_of_numbers_names_the_bounds_of_the_outcome() -> None:
    assert StudyPlan.from_json(COUNTS.to_json()) == COUNTS
    assert replace(COUNTS, outcome_bounds=(0.0, 31.0)).digest != COUNTS.digest
    assert "outcome_bounds" not in json.loads(PRIVATE.to_json())
    words = "differential privacy: epsilon 1, delta 1e-05, clip 2, 0 of the budget for scaling"
    assert f"{words}; outcome 0 to 30" in plain_words(COUNTS)
    assert [COUNTS.most(one) for one in ("train", "prepare", "figures", "sites")] == [4, 0, 0, 0]
    assert COUNTS.largest_rate == COUNTS.max_step / 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome_bounds": ()}, "outcome_bounds must be declared for family poisson with diff"),
        ({"outcome_bounds": (0.0,)}, "outcome_bounds must be two numbers, got 1"),
        ({"outcome_bounds": (-1.0, 9.0)}, "outcome_bounds must be at least 0 with family poisson"),
        ({"optimizers": ("newton",), "lr": ()}, "and no optimizers but gd and nesterov"),
        (
            {"bins": fine_bins(FAMILIES["poisson"])},
            "a study plan with privacy must have class_weights none, bins 0",
        ),
        (
            {"privacy": None, "optimizers": ("newton",), "lr": ()},
            "outcome_bounds of a study plan must be empty without privacy",
        ),
        (
            {"family": "gamma", "outcome": Outcome("visits", None, None, (), "gamma")},
            "outcome_bounds must be left out with family gamma",
        ),
        (
            {
                **{"family": "cox", "outcome_bounds": ()},
                "outcome": Outcome("time", None, None, (), "cox", "event"),
            },
            "a study plan: privacy must be none with family cox",
        ),
    ],
)
def test_bounds_of_the_outcome_fit_the_plan(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FlHeError, match=message):
        replace(COUNTS, **changes)


def test_classes_have_no_bounds() -> None:
    with pytest.raises(FlHeError, match="outcome_bounds must be left out with family logistic"):
        replace(PRIVATE, outcome_bounds=(0.0, 1.0))


def test_a_learning_rate_is_bounded_by_the_smoothness() -> None:
    """Gradient descent at the bound does not diverge on the most curved of all tables."""
    bound = PLAN.largest_rate
    assert bound == pytest.approx(8 / 3)
    softmax = replace(PLAN, family="softmax", outcome=CLASSES)
    assert softmax.largest_rate == pytest.approx(bound / 2)
    message = "lr of a study plan must be at most 2.667, got 2.67: the loss of 2 scaled features"
    with pytest.raises(FlHeError, match=re.escape(message)):
        replace(PLAN, lr=(0.5, 2.67))
    # Of rows that are all (1, 1, 1), the largest eigenvalue of X'X / n is its trace.
    design = np.array([[1.0, 1.0, 1.0]])
    for rate, grows in ((0.99 * bound, False), (1.1 * bound, True)):
        hessian = 0.25 * design.T @ design
        largest = np.abs(np.linalg.eigvalsh(np.eye(3) - rate * hessian)).max()
        assert bool(largest > 1.0 + 1e-12) is grows


def test_sums_of_a_session_are_counted() -> None:
    assert [PLAN.most(one) for one in ("train", "prepare", "figures", "evaluate")] == [4, 2, 0, 0]
    assert [PLAN.most(one) for one in ("firth", "profile", "separation")] == [0, 0, 1]
    federated = replace(PLAN, scaling="federated", bins=BINS, C=(1.0,))
    assert [federated.most(one) for one in ("prepare", "figures", "separation")] == [2, 1, 0]
    firth = replace(PLAN, penalty="firth", C=(None,), optimizers=("newton",), lr=(), profile=True)
    assert [firth.most(one) for one in ("prepare", "firth", "profile", "sealed")] == [2, 8, 4, 10]
    assert RANGED.most("prepare") == 2, "Newton's method computes about the mean"
    assert replace(RANGED, optimizers=("gd",)).most("prepare") == 0
    assert [PRIVATE.most(one) for one in ("train", "prepare", "separation")] == [4, 0, 0]


def test_plain_words_name_all_that_is_allowed() -> None:
    words = "\n".join(plain_words(PRIVATE))
    for part in (
        "model: logistic, 'state' ('sick' counts as 1) by 2 features",
        "scaling: ranges, by age -1 to 3, size -2 to 2",
        "penalty: l2, C=1, none",
        "optimizer: gd, lr 5\n",
        "differential privacy: epsilon 1, delta 1e-05, clip 2, 0 of the budget for scaling",
        "at most 4 rounds in a session, 2 sessions",
    ):
        assert part in words
    assert "penalty: none" in plain_words(replace(PRIVATE, C=(None,)))
    assert any(line.endswith("; stops at 1e-06") for line in plain_words(PLAN))
    classes = replace(PLAN, family="softmax", outcome=CLASSES)
    assert plain_words(classes)[0] == "model: softmax, 'state' ('a', 'b', 'c') by 2 features"


def test_a_wrong_member_of_the_file_is_named() -> None:
    members = json.loads(PLAN.to_json())
    for name in members:
        with pytest.raises(FlHeError, match=f"^{name} must"):
            StudyPlan.from_json(json.dumps(members | {name: {"x": 1}}))
    with pytest.raises(FlHeError, match="study plan must have exactly the members"):
        StudyPlan.from_json(json.dumps(members | {"formula": "state ~ age"}))
