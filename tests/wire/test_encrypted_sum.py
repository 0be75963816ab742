from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from fl_he.learning.regression.disclosure import CalibrationBin, ClassFigures, Figures
from fl_he.wire.arrays import read_array
from fl_he.wire.encrypted_sum import (
    DecryptReply,
    DecryptRequest,
    Description,
    EncryptedReply,
    EncryptionRequest,
    FiguresReply,
    Role,
    content_bytes,
    printable,
)
from fl_he.wire.records import ProtocolError

DESCRIPTION = Description(
    Role.KEY_HOLDER, "company X", "1.0", ("a", "b"), '{"n": 1}', "session", "packing", True
)
REQUEST = EncryptionRequest("key", "packing", "session", 3, "num-examples", b"\x01\x02", "layout")
REPLY = EncryptedReply(b"\x00\x01", "layout", 0.5, 0.25)
FIGURES = Figures(
    *(10, 5, None, None, 0.5, 0.75, 0.25, 0.125),
    *(((5, 0), (0, 5)), (ClassFigures(5, None, 0.5, 0.25),) * 2),
    *((CalibrationBin(0.0, 1.0, 10, 0.25, 0.5),), {"accuracy": "few"}),
)
DECRYPT_REQUEST = DecryptRequest("session", "train", 4, 3, b"\x09")
ALL = [
    (Description, DESCRIPTION.to_content()),
    (EncryptionRequest, REQUEST.add_to(RecordDict())),
    (EncryptedReply, REPLY.to_content()),
    (DecryptRequest, DECRYPT_REQUEST.to_content()),
    (DecryptReply, DecryptReply(np.array([1.0, 2.0]), 0.1).to_content()),
    (FiguresReply, FiguresReply(FIGURES, 0.1).to_content()),
]


@pytest.mark.parametrize("family", ["", "gaussian", "cox"])
def test_a_description_of_an_exposure_without_meaning_is_refused(family: str) -> None:
    with_exposure = Description(Role.HOSPITAL, "x", "1", ("a",), family="poisson", exposure="years")
    content = with_exposure.to_content()
    assert Description.from_content(content) == with_exposure
    config = content["fl-he"]
    assert isinstance(config, ConfigRecord)
    config["family"] = family
    with pytest.raises(ProtocolError, match="exposure must come with family poisson or"):
        Description.from_content(content)


def test_every_message_survives_the_way_there() -> None:
    assert Description.from_content(DESCRIPTION.to_content()) == DESCRIPTION
    assert EncryptionRequest.from_content(REQUEST.add_to(RecordDict())) == REQUEST
    answer = EncryptedReply.from_content(REPLY.to_content())
    assert (answer.encrypted_sum, answer.layout) == (REPLY.encrypted_sum, REPLY.layout)
    assert (answer.encrypt_seconds, answer.add_seconds) == (0.5, 0.25)
    assert "fl-he.plain" not in REPLY.to_content()
    plain = replace(REPLY, plain=np.array([0.1, -2.0]))
    np.testing.assert_array_equal(
        EncryptedReply.from_content(plain.to_content()).plain, [0.1, -2.0]
    )
    assert DecryptRequest.from_content(DECRYPT_REQUEST.to_content()) == DECRYPT_REQUEST
    total = np.array([3.0, 1e-300, -2.5])
    reply = DecryptReply.from_content(DecryptReply(total, 0.1).to_content())
    np.testing.assert_array_equal(reply.total, total)
    assert reply.decrypt_seconds == 0.1


def test_request_is_added_to_a_copy_and_removed_again() -> None:
    app_content = RecordDict({"config": ConfigRecord({"lr": 0.1})})
    with_request = REQUEST.add_to(app_content)
    assert list(app_content.keys()) == ["config"]
    assert EncryptionRequest.remove_from(with_request) == app_content


def test_figures_survive_and_other_texts_are_refused() -> None:
    content = FiguresReply(FIGURES, 0.1).to_content()
    assert FiguresReply.from_content(content) == FiguresReply(FIGURES, 0.1)
    for text in ("", "{}", "[]", str(content["fl-he"]["figures"]).replace("10", "1.5", 1)):
        content.config_records["fl-he"]["figures"] = text
        with pytest.raises(ProtocolError, match=r"the figures|examples"):
            FiguresReply.from_content(content)


def test_request_without_running_sum() -> None:
    request = EncryptionRequest("key", "packing", "session", 1)
    read = EncryptionRequest.from_content(request.add_to(RecordDict()))
    assert read.running_sum is None
    assert replace(read, running_sum=b"sum", layout="layout").running_sum == b"sum"


@pytest.mark.parametrize(("kind", "content"), ALL, ids=lambda v: getattr(v, "__name__", ""))
@given(data=st.data())
def test_hostile_records_raise_only_protocol_errors(
    kind: type[Description], content: RecordDict, data: st.DataObject
) -> None:
    records = RecordDict(dict(content.items()))
    record_key = data.draw(st.sampled_from(sorted(records.keys())))
    record = records[record_key]
    change = data.draw(st.sampled_from(["drop record", "drop key", "value", "array"]))
    if change == "drop record":
        del records[record_key]
    elif isinstance(record, ConfigRecord):
        fields = dict(record.items())
        key = data.draw(st.sampled_from(sorted(fields)))
        del fields[key]
        if change == "value":
            fields[key] = data.draw(
                st.one_of(st.integers(-5, 0), st.just(float("nan")), st.booleans(), st.just([1]))
            )
        records[record_key] = ConfigRecord(fields)
    else:
        stype = data.draw(st.sampled_from(["numpy.ndarray", "fl-he.total", "other"]))
        array = Array(dtype="x", shape=(1,), stype=stype, data=data.draw(st.binary(max_size=20)))
        records[record_key] = ArrayRecord({data.draw(st.sampled_from(["sum", "x"])): array})
    with contextlib.suppress(ProtocolError):
        kind.from_content(records)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("round", 0, "round must be at least 1, got 0"),
        ("round", True, "round must be an integer, got true or false"),
        ("round", "1", "round must be an integer, got text"),
        ("purpose", "peek", "purpose must be one of"),
        ("contributors", -1, "contributors must be at least 1, got -1"),
    ],
)
def test_wrong_fields_are_named(key: str, value: int | str, words: str) -> None:
    content = DECRYPT_REQUEST.to_content()
    content["fl-he"] = ConfigRecord({**content.config_records["fl-he"], key: value})
    with pytest.raises(ProtocolError, match=words):
        DecryptRequest.from_content(content)


def test_a_reply_with_a_plain_record_is_refused() -> None:
    content = REPLY.to_content()
    content["metrics"] = MetricRecord({"loss": 0.5})
    with pytest.raises(ProtocolError, match=r"must be encrypted, got plain records \['metrics'\]"):
        EncryptedReply.from_content(content)


def test_ciphertexts_are_not_averaged_by_a_strategy_that_does_not_know_them() -> None:
    content = REPLY.to_content()
    del content["fl-he"]
    content["metrics"] = MetricRecord({"num-examples": 3})
    question = Message(RecordDict(), 1, "train")
    replies = [Message(content, reply_to=question)]
    with pytest.raises(TypeError, match="Unsupported serialization type"):
        FedAvg().aggregate_train(1, replies)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_totals_are_finite(value: float) -> None:
    with pytest.raises(ProtocolError, match="finite"):
        DecryptReply.from_content(DecryptReply(np.array([value]), 0.1).to_content())


def test_content_bytes_counts_all_records() -> None:
    message = Message(REPLY.to_content(), 1, "train")
    assert content_bytes(message) > len(REPLY.encrypted_sum)


def test_a_description_is_one_record() -> None:
    content = DESCRIPTION.to_content()
    content["metrics"] = MetricRecord({"loss": 0.5})
    with pytest.raises(ProtocolError, match="no other records"):
        Description.from_content(content)


def test_unknown_roles_are_refused() -> None:
    content = DESCRIPTION.to_content()
    content["fl-he"] = ConfigRecord({**content.config_records["fl-he"], "role": "boss"})
    with pytest.raises(ProtocolError, match=r"role must be one of .*, got 'boss'"):
        Description.from_content(content)


def test_text_of_others_is_shown_on_one_short_line() -> None:
    assert printable("St.\x1b[2J Mary\n\tand  more") == "St. [2J Mary and more"
    assert len(printable("x" * 10_000)) == 500


@pytest.mark.parametrize(
    "record",
    [
        MetricRecord({"loss": 0.5}),
        ArrayRecord({"w": Array(np.ones(2))}),
        ConfigRecord({"examples": 7}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_reply_with_a_plain_record_of_any_kind_is_refused(
    record: MetricRecord | ArrayRecord | ConfigRecord,
) -> None:
    content = REPLY.to_content()
    content["extra"] = record
    with pytest.raises(ProtocolError, match=r"must be encrypted, got plain records \['extra'\]"):
        EncryptedReply.from_content(content)


def test_the_record_of_the_sum_holds_one_array_of_its_type() -> None:
    content = REPLY.to_content()
    content.array_records["fl-he.sum"]["w"] = Array(np.ones(2))
    with pytest.raises(ProtocolError, match=r"must hold one array in the record 'fl-he\.sum'"):
        EncryptedReply.from_content(content)
    content["fl-he.sum"] = ArrayRecord({"sum": Array(np.ones(2))})
    with pytest.raises(ProtocolError, match=r"must be of type 'fl-he\.encrypted-vector', got"):
        EncryptedReply.from_content(content)
    with pytest.raises(ProtocolError, match=r"must be of type 'fl-he\.total', got"):
        DecryptReply.from_content(DECRYPT_REQUEST.to_content())


def test_a_running_sum_of_another_kind_is_not_overlooked() -> None:
    content = REQUEST.add_to(RecordDict())
    content["fl-he.sum"] = ConfigRecord({"sum": b"\x01"})
    with pytest.raises(ProtocolError, match=r"one array in the record 'fl-he\.sum'"):
        EncryptionRequest.from_content(content)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1.0, "a time in seconds, got -1.0"),
        (float("nan"), "a finite number"),
        (float("inf"), "a finite number"),
    ],
)
def test_times_are_finite(seconds: float, words: str) -> None:
    with pytest.raises(ProtocolError, match=f"add-seconds must be {words}"):
        EncryptedReply.from_content(replace(REPLY, add_seconds=seconds).to_content())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("features", [1, 2], r"features\[0\] must be text, got an integer"),
        ("features", "ab", "features must be a list, got text"),
        ("simulated", 1, "simulated must be true or false, got an integer"),
    ],
)
def test_wrong_fields_of_a_description_are_named(key: str, value: object, words: str) -> None:
    content = DESCRIPTION.to_content()
    fields = {**content.config_records["fl-he"], key: value}
    content["fl-he"] = ConfigRecord(fields)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=words):
        Description.from_content(content)


def test_broken_numpy_bytes_are_refused() -> None:
    array = Array(dtype="float64", shape=(1,), stype="numpy.ndarray", data=b"not numpy")
    with pytest.raises(ProtocolError, match="must be a numpy array"):
        read_array(array)
    array = Array(dtype="float64", shape=(1,), stype="other", data=Array(np.zeros(1)).data)
    with pytest.raises(ProtocolError, match="must be a numpy array, got 'other'"):
        read_array(array)


def test_pickled_arrays_are_refused() -> None:
    array = Array(np.zeros(1))
    array.data = array.data.replace(b"'<f8'", b"'|O' ")
    with pytest.raises(ProtocolError, match="must be a numpy array"):
        read_array(array)
