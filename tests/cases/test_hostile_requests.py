"""Requests by which a coordinator might read one hospital: no reply's form tells of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import KEY
from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reply_forms import form_of
from ticketed_sums import unchecked

from fl_he import client_app
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.regression.registry import load_model
from fl_he.wire.encrypted_sum import (
    FIGURES,
    FINISH,
    FIRTH,
    MOMENTS,
    PROFILE,
    SEPARATION,
    EncryptedReply,
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


def hospital(folder: Path, classes: int = 2, row: str = "57,0", **more: Any) -> Context:
    """Return a deployed hospital; ``row`` is its first patient, of the first class."""
    folder.mkdir(exist_ok=True)
    table = folder / f"{classes}.csv"
    table.write_text(TABLES[classes].replace("57,0,", f"{row},", 1))
    config: UserConfig = {
        "role": "hospital",
        "name": "clinic",
        "key-fingerprint": KEY.public_key.fingerprint,
        "data": str(table),
        "test-data": str(table),
        "target": "y",
        "reply-seconds": 0,
        **({"classes": "a,b,c"} if classes > 2 else {}),
        **more,
    }
    return Context(1, 1, config, RecordDict(), {})


def ask(context: Context, action: str, content: RecordDict) -> Message:
    if action != FINISH:
        request = EncryptionRequest(KEY.public_key.to_json(), Packing().to_json(), "s", 1)
        content = request.add_to(content)
    return client_app.app(Message(content, 1, action), context)


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
        roots = None
        if action == FIRTH:
            roots = np.reshape(draw(st.lists(ANY, min_size=9, max_size=9)), (1, 3, 3))
        return action, models_content(np.array([numbers]), terms, roots)
    model = np.reshape(numbers, (rows, 3))
    return action, model_message_content(model_arrays(model[:, :2], model[:, 2]), terms)


@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.slow)])
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(data=st.data())
def test_the_form_of_every_reply_is_that_of_another_table(
    tmp_path: Path, classes: int, data: st.DataObject
) -> None:
    """An exception of another kind could be provoked again and again, a bit of the data each."""
    nodes = [hospital(tmp_path / name, classes, row) for name, row in OTHERS.items()]
    action, content = data.draw(requests(classes))
    first, *others = (form_of(ask(node, action, content)) for node in nodes)
    assert all(other == first for other in others)


#: Tables that differ in one patient.
OTHERS = {"usual": "57,0", "large": "1e300,0", "tiny": "5e-324,-3"}


def half_space(feature: int, border: float) -> RecordDict:
    """Ask whether there is a patient of class 0 whose feature is larger: its gradient overflows."""
    direction = np.eye(2)[feature] * 1e200
    terms = LearningTerms("none", class_weights=(1.0, 1e-300)).to_config()
    return model_message_content(model_arrays(direction, -1e200 * border), terms)


def test_half_spaces_show_no_patient(tmp_path: Path) -> None:
    """The first refusal of a bisection gave the patient's age, and more gave all of the record."""
    node = hospital(tmp_path)
    low, high = 0.0, 100.0
    seen = []
    for _ in range(8):
        border = (low + high) / 2
        seen.append(form_of(ask(node, "train", half_space(0, border))))
        low, high = (border, high) if seen[-1] != seen[0] else (low, border)
    assert all(one == seen[0] for one in seen)
    assert high <= 1.0, "the answer to a bisection is the border that it began with, 57 or not"
    inside, outside = (opened(ask(node, "train", half_space(0, age))) for age in (50.0, 60.0))
    assert (inside[0] != 1.0, outside[0] != 1.0) == (True, False), "the question is one of data"


def opened(reply: Message) -> Any:
    answer = EncryptedReply.from_content(reply.content)
    return unchecked(answer.encrypted_sum, KEY)


def test_a_linear_scan_has_no_refusal_at_its_end(tmp_path: Path) -> None:
    """Squares about a growing mean told how many patients there are, by the first that overflow."""
    node = hospital(tmp_path)
    means = [(10.0 ** (exponent / 8), 0.0) for exponent in range(108, 120)]
    requests = [MomentsRequest(mean=mean).add_to(RecordDict()) for mean in means]
    replies = [ask(node, MOMENTS, request) for request in requests]
    assert len({str(form_of(reply)) for reply in replies}) == 1
    marks = [opened(reply)[0] != 1.0 for reply in replies]
    assert (marks[0], marks[-1]) == (False, True), "a mean of the scan is the first that overflows"


def test_losses_whose_sum_is_no_float64_are_no_question_about_the_patients(tmp_path: Path) -> None:
    """Their sum by bisection was that of a column over the patients of one class."""
    node = hospital(tmp_path)
    longest = models_content(np.array([[2.0**1014, 0.0, 0.0]]), TERMS)
    longer = models_content(np.array([[2.0**1018, 0.0, 0.0]]), TERMS)
    replies = [ask(node, PROFILE, content) for content in (longest, longer)]
    assert [opened(reply)[0] for reply in replies] == [1.0, 1.0]


def test_a_root_of_any_size_shows_no_patient(tmp_path: Path) -> None:
    """Its product would overflow only for a patient's margin; a leverage is at most 1."""
    node = hospital(tmp_path)
    root = np.diag([LARGEST / 1e4, 0.0, 0.0])[None]
    thetas = [np.array([[1e4, 0.0, -age * 1e4]]) for age in (56.9999, 50.0)]
    replies = [ask(node, FIRTH, models_content(theta, TERMS, root)) for theta in thetas]
    assert form_of(replies[0]) == form_of(replies[1])
    assert [opened(reply)[0] != 1.0 for reply in replies] == [False, False]


@pytest.mark.parametrize("radius", [10.0, 1000.0])
def test_the_final_model_is_saved_without_a_look_at_the_patients(
    tmp_path: Path, radius: float
) -> None:
    """A refusal to scale told whether a patient was further than the radius from a mean."""
    node = hospital(tmp_path, 2, **{"model-path": str(tmp_path / "model.json")})
    scale = (radius / LARGEST, 1.0)
    terms = LearningTerms("federated", mean=(50.0, 0.0), scale=scale).to_config()
    content = model_message_content(model_arrays(np.zeros(2), 0.0), terms)
    assert not ask(node, FINISH, content).has_error()
    assert load_model(tmp_path / "model.json").scale.tolist() == list(scale)
