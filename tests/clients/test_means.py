"""Means of missing cells, from hospitals' sums of cells."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.clients.blank_replies import blank_hospital, blank_reply
from fl_he.clients.hospital import HospitalData, add_hospital
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.optimizers.task import Moments
from fl_he.learning.optimizers.training import Training
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.incomplete import Columns, Incomplete
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import FIGURES, FINISH, FIRTH, MOMENTS, PROFILE, SEPARATION
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest, TrainingTerms
from fl_he.wire.model import model_arrays, model_message_content, read_named_array
from fl_he.wire.records import CONFIG, PrivateReasonError, ProtocolError, config_of

NAN = math.nan
CELLS = st.one_of(
    st.just(NAN),
    st.floats(-1e9, 1e9),
    st.floats(-1e-9, 1e-9),
    st.integers(-3, 3).map(float),
)
COLUMN = st.lists(CELLS, min_size=1, max_size=12)


def hospital_of(cells: list[float]) -> HospitalData:
    column = np.array(cells)
    waiting = Incomplete(("crp",), {"crp": column})
    features = np.nan_to_num(column)[:, None]
    return HospitalData(Dataset(features, np.zeros(len(cells)), ("crp",), incomplete=waiting), None)


def terms() -> TrainingTerms:
    return TrainingTerms(features=1, classes=2, optimizer="gd", lr=0.5, imputed=("crp",))


def ask(hospital: HospitalData, action: str, content: RecordDict) -> RecordDict:
    app = add_hospital(ClientApp(), lambda _: hospital)
    return app(Message(content, 5, action), Context(1, 5, {}, RecordDict(), {})).content


@settings(max_examples=200, deadline=None)
@given(st.lists(COLUMN, min_size=1, max_size=5))
def test_the_federated_mean_is_numpys(tables: list[list[float]]) -> None:
    training = Training(terms().task(Limbs(24, 24)))
    asked = training.question("prepare")
    assert asked == Moments(cells=True)
    total = dict.fromkeys(("sums", "cells"), np.zeros(1))
    examples = sum(map(len, tables))
    for table in tables:
        content = MomentsRequest(cells=True).to_content()
        reply = ask(hospital_of(table), MOMENTS, content)
        (arrays,) = reply.array_records.values()
        for name in total:
            total[name] = total[name] + read_named_array(arrays, name) * len(table)
    pooled = np.concatenate(tables)
    if np.isnan(pooled).all():
        return
    training.take("prepare", {n: one / examples for n, one in total.items()}, examples)
    size = np.nanmax(np.abs(pooled))
    # Sums are cut off below 2**-94.
    least = max(1e-14 * size, 5 * 2.0**-94)
    np.testing.assert_allclose(training.imputed, [np.nanmean(pooled)], rtol=1e-12, atol=least)
    assert training.due == "train"
    again = Training.restored(training.task, training.to_json())
    assert again.imputed == training.imputed


def content_of(action: str, means: tuple[float, ...]) -> RecordDict:
    if action == MOMENTS:
        return MomentsRequest(sums=True, imputed=means).to_content()
    model = model_arrays(np.array([0.5]), 0.25)
    return model_message_content(model, LearningTerms(imputed=means).to_config())


@pytest.mark.parametrize(
    "action", [MOMENTS, "train", "evaluate", FIGURES, FINISH, SEPARATION, PROFILE, FIRTH]
)
@pytest.mark.parametrize("means", [(), (1.0, 2.0)])
def test_nothing_is_computed_without_the_means(
    tmp_path: Path, action: str, means: tuple[float, ...]
) -> None:
    hospital = replace(hospital_of([1.0, NAN]), model_path=tmp_path / "model.json")
    with pytest.raises(ProtocolError, match=r"must hold the means of this hospital's 1 columns"):
        ask(hospital, action, content_of(action, means))
    with pytest.raises(ProtocolError, match=r"hospital's 1 columns with missing: mean, got"):
        blank_reply(action, content_of(action, means), hospital)
    assert not list(tmp_path.iterdir())


def test_a_model_is_not_trained_by_the_flag_of_another_message() -> None:
    content = content_of("train", ())
    config_of(content, CONFIG)["cells"] = True
    with pytest.raises(ProtocolError, match="must hold the means"):
        ask(hospital_of([1.0, NAN]), "train", content)


def test_means_are_refused_where_no_column_waits() -> None:
    data = HospitalData(Dataset(np.ones((2, 1)), np.zeros(2), ("a",)), None)
    with pytest.raises(ProtocolError, match="hospital's 0 columns with missing: mean, got 1"):
        ask(data, "train", content_of("train", (1.0,)))
    with pytest.raises(ProtocolError, match="must be of columns with missing: mean, and none is"):
        ask(data, MOMENTS, MomentsRequest(cells=True).to_content())


def test_sums_are_of_the_cells_that_are_filled_in() -> None:
    reply = ask(hospital_of([1.0, NAN, NAN]), MOMENTS, content_of(MOMENTS, (4.0,)))
    (arrays,) = reply.array_records.values()
    sums = Limbs(24, 24).join(read_named_array(arrays, "sums") * 3)
    assert sums.tolist() == [9.0]


def test_a_saved_model_and_an_evaluation_have_the_means(tmp_path: Path) -> None:
    held_out = hospital_of([NAN] * 3).dataset
    hospital = replace(
        hospital_of([1.0, NAN]), model_path=tmp_path / "model.json", held_out=lambda: held_out
    )
    ask(hospital, FINISH, content_of(FINISH, (4.0,)))
    assert json.loads((tmp_path / "model.json").read_text())["imputed"] == {"crp": 4.0}
    (filled,) = ask(hospital, FIGURES, content_of(FIGURES, (4.0,))).array_records.values()
    cells = hospital_of([4.0] * 3).dataset
    same = replace(hospital, held_out=lambda: cells, model_path=None)
    (expected,) = ask(same, FIGURES, content_of(FIGURES, (4.0,))).array_records.values()
    (other,) = ask(same, FIGURES, content_of(FIGURES, (4.5,))).array_records.values()
    assert filled["counts"].data == expected["counts"].data == other["counts"].data
    zeros = replace(same, held_out=lambda: hospital_of([0.0] * 3).dataset)
    (unlike,) = ask(zeros, FIGURES, content_of(FIGURES, (4.0,))).array_records.values()
    assert filled["counts"].data != unlike["counts"].data


def logarithm(columns: Columns) -> Array:
    return np.log(columns["crp"])[:, None]


def test_a_mean_for_which_a_term_has_no_value_is_refused() -> None:
    hospital = hospital_of([1.0, NAN])
    waiting = Incomplete(("crp",), {"crp": np.array([1.0, NAN])}, logarithm)
    hospital = replace(hospital, dataset=replace(hospital.dataset, incomplete=waiting))
    with pytest.raises(PrivateReasonError, match="features must be finite"):
        ask(hospital, "train", content_of("train", (0.0,)))


@pytest.mark.parametrize(
    "content", [content_of(MOMENTS, (4.0,)), MomentsRequest(cells=True).to_content()]
)
def test_company_x_knows_the_form_of_the_sums(content: RecordDict) -> None:
    hospital = hospital_of([1.0, NAN, 2.0])
    blank = blank_hospital(terms().to_config(), Packing(fraction_bits=24, integer_bits=24))
    forms = []
    for reply in (
        ask(hospital, MOMENTS, content),
        blank_reply(MOMENTS, content, blank),
        blank_reply(MOMENTS, content, hospital),
    ):
        assert reply is not None
        (arrays,) = reply.array_records.values()
        forms.append({name: (one.dtype, tuple(one.shape)) for name, one in arrays.items()})
    assert forms[0] == forms[1] == forms[2]


def test_a_cell_too_large_is_named() -> None:
    with pytest.raises(PrivateReasonError, match=r"'crp' \(1 cell above 1e\+14 in row 2\)"):
        ask(hospital_of([1.0, 1e300, NAN]), MOMENTS, MomentsRequest(cells=True).to_content())


def test_imputed_columns_differ() -> None:
    with pytest.raises(ProtocolError, match="imputed must be of different columns"):
        replace(terms(), imputed=("crp", "crp")).task(Limbs(24, 24))
