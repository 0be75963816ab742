"""Requests by which a coordinator might read one hospital: no error of a node tells of its data."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import KEY
from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_he import client_app
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.regression.registry import load_model
from fl_he.wire.encrypted_sum import (
    FIGURES,
    FINISH,
    FIRTH,
    MOMENTS,
    PROFILE,
    SEPARATION,
    EncryptionRequest,
)
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.model import model_arrays, model_message_content, models_content

LARGEST = float(np.finfo(np.float64).max)
EXTREMES = [0.0, 1.0, 5e-324, 1e-308, 1e-160, 1e150, 1e154, 1e300, 1e308, LARGEST]
ANY = st.sampled_from([*EXTREMES, *(-x for x in EXTREMES)]) | st.floats(
    allow_nan=False, allow_infinity=False
)
POSITIVE = st.sampled_from(EXTREMES[1:]) | st.floats(min_value=5e-324, allow_infinity=False)
TERMS = LearningTerms("none").to_config()
#: Three patients of each class, by the number of classes.
TABLES = {
    2: "age,code,y\n57,0,0\n41,1,0\n-3,1,1\n60,0,1\n57,1,0\n12,0,1\n",
    3: "age,code,y\n57,0,a\n41,1,a\n-3,1,b\n60,0,b\n57,1,c\n12,0,c\n",
}


def hospital(folder: Path, classes: int = 2, **more: Any) -> Context:
    table = folder / f"{classes}.csv"
    table.write_text(TABLES[classes])
    config: UserConfig = {
        "role": "hospital",
        "name": "clinic",
        "key-fingerprint": KEY.public_key.fingerprint,
        "data": str(table),
        "test-data": str(table),
        "target": "y",
        **({"classes": "a,b,c"} if classes > 2 else {}),
        **more,
    }
    return Context(1, 1, config, RecordDict(), {})


def ask(context: Context, action: str, content: RecordDict) -> str:
    """Return the words of a refusal, empty for an answer."""
    if action != FINISH:
        request = EncryptionRequest(KEY.public_key.to_json(), Packing().to_json(), "s", 1)
        content = request.add_to(content)
    reply = client_app.app(Message(content, 1, action), context)
    return str(reply.error.reason) if reply.has_error() else ""


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect what the node logs of refusals."""
    found: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("fl_he.clients.node.outgoing")
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


@st.composite
def requests(draw: st.DrawFn, classes: int) -> tuple[str, RecordDict]:
    """Return any question about a model of two features, with numbers of any size."""
    actions = ["train", "evaluate", FIGURES, PROFILE, SEPARATION, MOMENTS, FINISH]
    action = draw(st.sampled_from([*actions, *([FIRTH] if classes == 2 else [])]))
    if action == MOMENTS:
        mean = draw(st.tuples(ANY, ANY) | st.just(()))
        sums = draw(st.booleans())
        return action, MomentsRequest(sums=sums, counts=True, mean=mean).add_to(RecordDict())
    scaling = draw(st.sampled_from(["none", "local", "federated"]))
    ours = scaling == "federated"
    terms = LearningTerms(
        scaling=scaling,
        mean=draw(st.tuples(ANY, ANY)) if ours else (),
        scale=draw(st.tuples(POSITIVE, POSITIVE)) if ours else (),
        class_weights=draw(st.just(()) | st.tuples(*[POSITIVE] * classes)),
        hessian=draw(st.booleans()),
    ).to_config()
    rows = classes if classes > 2 else 1
    numbers = draw(st.lists(ANY, min_size=3 * rows, max_size=3 * rows))
    if action in (PROFILE, FIRTH):
        inverses = None
        if action == FIRTH:
            inverses = np.reshape(draw(st.lists(ANY, min_size=9, max_size=9)), (1, 3, 3))
        return action, models_content(np.array([numbers]), terms, inverses)
    model = np.reshape(numbers, (rows, 3))
    return action, model_message_content(model_arrays(model[:, :2], model[:, 2]), terms)


@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.slow)])
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
@given(data=st.data())
def test_every_request_is_answered_or_ends_the_nodes_part_in_one_and_the_same_words(
    tmp_path: Path, classes: int, data: st.DataObject
) -> None:
    """An exception of another kind could be provoked again and again, a bit of the data each."""
    node = hospital(tmp_path, classes)
    action, content = data.draw(requests(classes))
    with logged() as words:
        refusal = ask(node, action, content)
    assert refusal in ("", PRIVATE_REFUSAL), refusal
    assert all(" refused: " in one for one in words), "an exception that is no refusal"
    zeros = np.zeros((classes if classes > 2 else 1, 2))
    nothing = model_message_content(model_arrays(zeros, np.zeros(len(zeros))), TERMS)
    again = ask(node, "evaluate" if action.startswith("evaluate") else "train", nothing)
    assert ("it refused before" in again, again == "") == (bool(refusal), not refusal)


def test_losses_whose_sum_is_no_float64_are_no_question_about_the_patients(tmp_path: Path) -> None:
    """Their sum by bisection was that of a column over the patients of one class."""
    node = hospital(tmp_path)
    longest = models_content(np.array([[2.0**1014, 0.0, 0.0]]), TERMS)
    longer = models_content(np.array([[2.0**1018, 0.0, 0.0]]), TERMS)
    assert [ask(node, PROFILE, content) for content in (longest, longer)] == ["", ""]


def test_an_inverse_of_any_size_is_asked_once(tmp_path: Path) -> None:
    """Its product overflows if and only if a patient has the margin that the model leaves alone."""
    node = hospital(tmp_path)
    inverse = np.diag([LARGEST, 0.0, 0.0])[None]
    theta = np.array([[1e4, 0.0, -57e4]])
    replies = [ask(node, FIRTH, models_content(theta, TERMS, inverse)) for _ in range(2)]
    assert replies[0] == PRIVATE_REFUSAL
    assert "takes no part in the run any more" in replies[1]


@pytest.mark.parametrize("radius", [10.0, 1000.0])
def test_the_final_model_is_saved_without_a_look_at_the_patients(
    tmp_path: Path, radius: float
) -> None:
    """A refusal to scale told whether a patient was further than the radius from a mean."""
    node = hospital(tmp_path, 2, **{"model-path": str(tmp_path / "model.json")})
    scale = (radius / LARGEST, 1.0)
    terms = LearningTerms("federated", mean=(50.0, 0.0), scale=scale).to_config()
    content = model_message_content(model_arrays(np.zeros(2), 0.0), terms)
    assert ask(node, FINISH, content) == ""
    assert load_model(tmp_path / "model.json").scale.tolist() == list(scale)
