"""Targets of the messages: every ``from_content``, and the formats inside their texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from fuzz import documents
from fuzz.choices import Choices
from fuzz.documents import text_of
from fuzz.records import changed
from fuzz.target import Target
from small_keys import SMALL, paillier
from study_plans import PLAN, PRIVATE

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import MASKS, PAILLIER
from fl_he.learning.describing.cells import count_cells
from fl_he.learning.describing.form import TableForm
from fl_he.learning.describing.statistics import Table, table_of
from fl_he.learning.errors import PrivacyError
from fl_he.learning.regression.disclosure import CalibrationBin, ClassFigures, Figures
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts
from fl_he.learning.tables.moments import Limbs
from fl_he.strategies.opened_sum import Cost, UnopenedSum
from fl_he.strategies.sealed.progress import OpenedRound, SealedProgress, SealedSum
from fl_he.strategies.skipping import Skipped
from fl_he.wire import model as model_messages
from fl_he.wire.encrypted_sum import (
    DecryptReply,
    DecryptRequest,
    Description,
    EncryptedReply,
    EncryptionRequest,
    FiguresReply,
    Role,
)
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.pairing import Halves, SeedsRequest
from fl_he.wire.permission import PermitRequest, SealedPermitRequest
from fl_he.wire.planned_messages import Choice, check
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import (
    Hop,
    JoinReply,
    JoinRequest,
    News,
    OpenReply,
    OpenRequest,
    ResealRequest,
    SealedReply,
    SealedTotal,
    SessionReply,
    SessionRequest,
)
from fl_he.wire.study_plan import StudyPlan, plain_words
from fl_he.wire.table import TableReply, TableRequest
from fl_he.wire.update import Form, flatten
from fl_he.wire.update_layout import UpdateLayout

_ERRORS = (ProtocolError,)
_COST = Cost(seconds=1.0, bytes_sent=1000, encrypt_seconds=0.1, add_seconds=0.2)
_PROGRAMS = (
    b"",
    bytes(range(4, 36)),
    bytes(range(36, 4, -1)),
    *(bytes([4, 3, action]) * 9 for action in range(9)),
    *(bytes([action, 1, 2, 3]) * 8 for action in range(12)),
)


def _messages(
    name: str,
    contents: Callable[[], Sequence[tuple[RecordDict, Callable[[RecordDict], object]]]],
    weight: float = 1.0,
    errors: tuple[type[BaseException], ...] = _ERRORS,
) -> Target:
    """Return a target of valid contents, each with its reader; the first byte chooses one."""
    made = cache(contents)

    def read(data: bytes) -> object:
        choices = Choices(data)
        content, reader = made()[choices.below(256) % len(made())]
        return reader(changed(content, choices.rest()))

    def seeds() -> list[bytes]:
        return [bytes([n]) + program for n in range(len(made())) for program in _PROGRAMS]

    return Target(name, read, errors, seeds, weight)


def _open_messages() -> list[tuple[RecordDict, Callable[[RecordDict], object]]]:
    key, packing = paillier(*SMALL).public_key.to_json(), Packing().to_json()
    request = EncryptionRequest(key, packing, "session", 3)
    model = model_messages.model_message_content(_model(3), ConfigRecord({"lr": 0.5}))
    chained = replace(request, running_sum=b"sum", layout="{}").add_to(model)
    numbers = np.array([1.0, 2.0])
    several = model_messages.models_content(np.zeros((2, 3)), ConfigRecord(), np.zeros((2, 3, 3)))
    description = Description(
        *(Role.KEY_HOLDER, "company X", "1", ("a",), key, "session", packing, True),
        *(("x", "y", "z"), {"north": b"envelope"}),
    )
    return [
        (description.to_content(), Description.from_content),
        (replace(description, schemes=(PAILLIER,)).to_content(), Description.from_content),
        (Choice("ab" * 32, "gd", 0.5, 1.0).to_content(), Choice.from_content),
        (
            Choice(PLAN.digest, "gd", 0.5, 1.0).add_to(
                request.add_to(model_messages.model_message_content(_model(2), ConfigRecord()))
            ),
            lambda content: check(PLAN, "train", content),
        ),
        (request.add_to(model), EncryptionRequest.from_content),
        (
            replace(request, value_key=b"envelope").add_to(model),
            EncryptionRequest.from_content,
        ),
        (chained, EncryptionRequest.from_content),
        (
            replace(request, scheme=MASKS, running_sum=b"sum").add_to(model),
            EncryptionRequest.from_content,
        ),
        (
            EncryptedReply(b"sum", "{}", 0.1, 0.2, numbers).to_content(),
            EncryptedReply.from_content,
        ),
        (DecryptRequest("s", "train", 1, 3, b"sum").to_content(), DecryptRequest.from_content),
        (
            PermitRequest("s", "train", 1, {"north": b"ticket"}, 3, 1, MASKS).to_content(),
            PermitRequest.from_content,
        ),
        (
            SealedPermitRequest("s", 1, ("north", "south")).to_content(),
            SealedPermitRequest.from_content,
        ),
        (SeedsRequest("s", ("north", "south"), b"key").to_content(), SeedsRequest.from_content),
        (Halves("s", {"north": b"envelope"}).to_content(), Halves.from_content),
        (DecryptReply(numbers, 0.5).to_content(), DecryptReply.from_content),
        (FiguresReply(_figures(), 0.5).to_content(), FiguresReply.from_content),
        (TableRequest(_form()).to_content(), TableRequest.from_content),
        (TableReply(_table(), 0.5).to_content(), TableReply.from_content),
        (
            model,
            lambda content: model_messages.read_model_arrays(model_messages.read_arrays(content)),
        ),
        (
            model,
            lambda content: model_messages.read_named_array(
                model_messages.read_arrays(content), "coefficients"
            ),
        ),
        (
            model_messages.model_message_content(_model(3, 4)),
            lambda content: model_messages.read_parameters(model_messages.read_arrays(content)),
        ),
        (several, lambda content: model_messages.read_models(content, 3)),
        (
            several,
            lambda content: model_messages.read_roots(content, np.zeros((2, 3))),
        ),
    ]


def _figures() -> Figures:
    bins = tuple(CalibrationBin(n / 2, n / 2 + 0.5, 5, 0.25, 0.4) for n in range(2))
    of_class = ClassFigures(5, None, 0.5, 0.25)
    return Figures(
        *(10, 5, None, None, 0.5, 0.75, 0.25, 0.125),
        *(((5, 0), (0, 5)), (of_class, of_class), bins, {"accuracy": "few"}),
    )


def _form() -> TableForm:
    columns = Facts("age", low=0.0, high=120.0, whole=True), Facts("sex", levels=("F", "M"))
    return TableForm(columns, "outcome", ("no", "yes"), 5, (12.0, 24.0))


def _table() -> Table:
    form, limbs = _form(), Limbs(24, 24)
    dataset = Dataset(
        np.zeros((40, 1)),
        np.tile([12.0, -24.0], 20),
        ("x",),
        family="cox",
        described=Described(form.columns, {"age": np.arange(40.0), "sex": np.tile([0.0, 1.0], 20)}),
    )
    one = replace(form, by="", groups=())
    return table_of(count_cells(dataset, one, limbs), one, 40, limbs, 5)


def _model(features: int, classes: int = 1) -> ArrayRecord:
    return model_messages.model_arrays(np.zeros((classes, features)), np.zeros(classes))


def _sealed_messages() -> list[tuple[RecordDict, Callable[[RecordDict], object]]]:
    total = SealedTotal(1, ("north", "south"), b"envelope")
    return [
        (JoinRequest("s").to_content(), JoinRequest.from_content),
        (JoinReply("north", "0" * 64, "aa", "", 0).to_content(), JoinReply.from_content),
        (SessionRequest("", {"north": "aa"}).to_content(), SessionRequest.from_content),
        (
            SessionReply("x", "s", "0" * 64, 1, {"north": b"e"}, {"north": b"v"}).to_content(),
            SessionReply.from_content,
        ),
        (News("s", b"e", (total, total)).to_content(), News.from_content),
        (Hop(1, ("north",), "south", "{}", b"e", b"v").to_content(), Hop.from_content),
        (
            Hop(1, (), "south", "{}", scheme=MASKS).to_content(),
            lambda c: Hop.from_content(c).digest,
        ),
        (SealedReply(b"e", 568).to_content(), SealedReply.from_content),
        (ResealRequest("s", 1, "north").to_content(), ResealRequest.from_content),
        (OpenRequest("s", 1, ("north",), b"e").to_content(), OpenRequest.from_content),
        (OpenReply({"north": b"e"}).to_content(), OpenReply.from_content),
    ]


def _learning_messages() -> list[tuple[RecordDict, Callable[[RecordDict], object]]]:
    terms = LearningTerms("federated", (0.5, 1.0), (1.0, 2.0), (1.0, 3.0), True)
    moments = MomentsRequest(True, True, (0.5,))
    return [
        (RecordDict({"config": terms.to_config()}), LearningTerms.from_content),
        (moments.to_content(), MomentsRequest.from_content),
    ]


def _capc_messages() -> list[tuple[RecordDict, Callable[[RecordDict], object]]]:
    request = CapcRequest(
        "ab" * 16,
        5,
        querying="hospital-1",
        answering=("hospital-2", "hospital-3"),
        keys={"querying-dgk": "{}"},
        parts={"bits": b"bytes", "x": b""},
        label=3,
    )
    reply = CapcReply(
        parts={"bits": b"bytes"},
        seconds=0.5,
        keys={"dgk": "{}"},
        report="{}",
        name="party",
        role="hospital",
    )
    return [
        (request.to_content(), CapcRequest.from_content),
        (reply.to_content(), CapcReply.from_content),
    ]


def _replies() -> list[tuple[RecordDict, Callable[[RecordDict], object]]]:
    """Return the answer of a hospital's own app; a user's strategy may have any arrays."""
    arrays = ArrayRecord({"w": Array(np.ones((2, 3), np.float32)), "b": Array(np.ones(2))})
    metrics = MetricRecord({"num-examples": 10, "loss": 0.5, "list": [1.0, 2.0]})
    content = model_messages.update_content(arrays, metrics)
    return [(content, lambda found: flatten(found, Form("num-examples")))]


@cache
def _layout() -> UpdateLayout:
    ((content, _),) = _replies()
    return flatten(content, Form("num-examples")).layout


@cache
def _layouts() -> list[Any]:
    return [json.loads(_layout().to_json())]


def _plans() -> list[Any]:
    return [json.loads(plan.to_json()) for plan in (PLAN, PRIVATE)]


def _read_plan(data: bytes) -> object:
    plan = StudyPlan.from_json(text_of(data, _plans()))
    return plan.digest, plain_words(plan)


def _read_layout(data: bytes) -> object:
    layout = UpdateLayout.from_json(text_of(data, _layouts()))
    if len(layout) > 1000 or layout.plain_length > 1000:
        return layout
    for index in range(len(layout)):
        layout.locate(index)
    return layout.mean(np.ones(len(layout)), np.ones(layout.plain_length))


@cache
def _unopened() -> list[Any]:
    request = DecryptRequest("s", "train", 1, 3, b"sum")
    skipped = (Skipped("north", "away"),)
    unopened = UnopenedSum(request, _COST, _layout(), np.empty(0), skipped, 1, 568)
    return [json.loads(json.dumps(unopened.to_members()))]


def _mapping(data: bytes, made: list[Any]) -> dict[str, Any]:
    document = json.loads(text_of(data, made))
    return document if isinstance(document, dict) else {}


def _read_unopened(data: bytes) -> object:
    try:
        members = _mapping(data, _unopened())
    except (ValueError, RecursionError):
        return None
    return UnopenedSum.from_members(members)


@cache
def _progresses() -> list[Any]:
    request = OpenRequest("s", 2, ("a", "b"), b"envelope")
    unopened = SealedSum(request, _COST, (), 568)
    opened = OpenedRound(1, ("a",), {"a": b"envelope"})
    return [json.loads(json.dumps(SealedProgress("s", (opened,), unopened).to_members()))]


def _read_progress(data: bytes) -> object:
    try:
        members = _mapping(data, _progresses())
    except (ValueError, RecursionError):
        return None
    return SealedProgress.from_members(members)


TARGETS = (
    _messages("open-messages", _open_messages, 2.0),
    _messages("sealed-messages", _sealed_messages, 2.0),
    _messages("learning-messages", _learning_messages),
    _messages("capc-messages", _capc_messages),
    _messages("app-replies", _replies),
    Target(
        "study-plan",
        _read_plan,
        (ProtocolError, PrivacyError),
        lambda: documents.seeds(_plans()),
    ),
    Target("layout", _read_layout, _ERRORS, lambda: documents.seeds(_layouts())),
    Target(
        "unopened-sum",
        _read_unopened,
        (ProtocolError, CryptoError),
        lambda: documents.seeds(_unopened()),
    ),
    Target("sealed-progress", _read_progress, _ERRORS, lambda: documents.seeds(_progresses())),
)
