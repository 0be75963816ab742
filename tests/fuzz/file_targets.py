"""Targets of the files that somebody else may have written, or damaged."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord
from fuzz import documents
from fuzz.choices import Choices
from fuzz.documents import text_of
from fuzz.target import Target
from rich.console import Console

from fl_he.capc.agreement import Agreement, KeyPins
from fl_he.capc.node.deployed import VotingLedger
from fl_he.clients.ledger import Ledger, Place
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node.row_memory import Columns, parse, unparse
from fl_he.clients.opened_sets import OpenedSets
from fl_he.clients.privacy_ledger import LONGEST_LINE, Kind, PrivacyLedger
from fl_he.clients.row_rule import RowHistory
from fl_he.clients.set_rule import LONGEST_SET_LINE
from fl_he.clients.state_store import StateStore
from fl_he.clients.stores import LedgerError
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.task import Task
from fl_he.learning.optimizers.training import Training
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.regression.registry import load_model
from fl_he.learning.regression.softmax import SoftmaxModel
from fl_he.learning.tables.data import load_table
from fl_he.learning.tables.feature_ranges import read_ranges
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.schema.application import check_table, load_by_schema
from fl_he.learning.tables.schema.description import read_schema
from fl_he.learning.tables.schema.draft import draft_schema
from fl_he.report.tables.capc import answers_table, labels_table, steps_table
from fl_he.report.tables.coefficients import coefficient_table
from fl_he.report.tables.comparison import comparison_table
from fl_he.report.tables.cost import cost_table
from fl_he.run_files.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointFile,
    load_checkpoint,
)
from fl_he.run_files.metrics import read_metrics
from fl_he.run_files.metrics_contract import COEFFICIENT, FIGURES, FIT, MetricsError
from fl_he.wire.encrypted_sum import DecryptRequest
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import Outcome

_CSV = (
    b"age,size,state\n1,2,sick\n3,-1,well\n",
    b'"age","si,ze",state\n1,"2",sick\n\n3,1e5,well\n',
    b"\xef\xbb\xbfage,state\r\n1,sick\r\n2,well\r\n",
    b"a;b;state\n1;2;sick\n",
    b"a,a,state\n1,2,sick\n",
    b"age,state\n" + b"1,sick\n" * 40 + b"nan,well\ninf,well\n",
    b'age,state\n"1\n2",sick\n',
    b"1,2,3\n4,5,6\n",
)
_NAMES = ("age", "size")


def _file(name: str, data: bytes) -> Path:
    path = Path(name)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def _csv(data: bytes) -> object:
    return load_table(_file("data.csv", data), "state", positive="sick")


def _classes(data: bytes) -> object:
    return load_table(_file("data.csv", data), "state", classes=("sick", "well", "dead"))


@cache
def _ranges() -> list[Any]:
    return [[{"feature": name, "low": -1.5, "high": 2} for name in _NAMES]]


def _ranges_json(data: bytes) -> object:
    text = text_of(data, _ranges())
    return read_ranges(_file("ranges.json", text.encode("utf-8", "surrogatepass")), _NAMES)


def _ranges_csv(data: bytes) -> object:
    return read_ranges(_file("ranges.csv", data), _NAMES)


@cache
def _models() -> list[Any]:
    two = LogisticModel(_NAMES, np.zeros(2), np.ones(2), np.array([0.5, -1]), 0.25, "sick")
    three = SoftmaxModel(
        _NAMES, np.zeros(2), np.ones(2), np.ones((3, 2)), np.zeros(3), ("a", "b", "c")
    )
    return [json.loads(model.to_json()) for model in (two, three)]


def _model(data: bytes) -> object:
    text = text_of(data, _models())
    model = load_model(_file("model.json", text.encode("utf-8", "surrogatepass")))
    return model.to_json()


@cache
def _training() -> Training:
    """Return a training with each of its members."""
    limbs = Limbs(24, 24)
    task = Task(
        *(2, 2, "newton", 1.0, None, "none", (), (), False, 1e9, None, None, limbs),
        firth=True,
        profile=(0,),
    )
    training = Training(task)
    for name, sums in (("sums", [1.0, -2.0]), ("squares", [20.0, 30.0])):
        training.take("prepare", {name: limbs.split(np.array(sums)) / 10}, 10)
    iteration = (
        ("train", "derivatives", [6.0, 0.5, -0.5, 0.1, 2.0, 0.1, 0.2, 2.0, 0.3, 2.0]),
        ("firth", "adjustments", [0.1, 0.1, 0.1]),
    )
    for purpose, name, sums in (  # standard errors are known from the second iteration on
        *iteration,
        *iteration,
        ("profile", "derivatives", [6.0, 0.5, -0.5, 0.1, 2.0, 0.1, 0.2, 2.0, 0.3, 2.0] * 2),
    ):
        models = 2 if purpose == "profile" else 1
        digits = limbs.split(np.array(sums)).reshape(limbs.count, models, -1) / 10
        training.take(purpose, {name: digits[:, 0] if purpose == "train" else digits}, 10)
    return training


@cache
def _checkpoints() -> list[Any]:
    checkpoint = Checkpoint(
        config={"hospitals": 3, "crypto": {"key_bits": 2048}},
        features=list(_NAMES),
        session="s",
        key_fingerprint="0" * 64,
        training=_training().to_members(),
        rounds=[{"round": 1, "loss": 0.5}],
    )
    CheckpointFile(Path()).write(checkpoint)
    return [
        json.loads(Path("checkpoint.json").read_text()),
        *map(json.loads, Path("checkpoint.rounds.jsonl").read_text().splitlines()),
    ]


def _checkpoint(data: bytes) -> object:
    text = text_of(data, _checkpoints())
    _file("checkpoint.json", text.encode("utf-8", "surrogatepass"))
    checkpoint = load_checkpoint(Path())
    return Training.from_members(_training().task, checkpoint.training).to_members()


_KEY = "0" * 64
_SESSION = "ab" * 16
_REQUEST = DecryptRequest(_SESSION, "train", 2, 3, b"sum")


@cache
def _ledger_lines() -> list[Any]:
    return [
        {"run": "7", "session": _SESSION, "key": _KEY},
        {
            "session": _SESSION,
            "purpose": "train",
            "round": 1,
            "contributors": 3,
            "metric_values": 0,
            "sum": "1" * 64,
        },
    ]


def _lines(data: bytes, made: list[Any], valid: int) -> bytes:
    """Return a ledger: its first lines valid, then one that is changed, or any bytes."""
    first = [json.dumps(line, separators=(",", ":")) for line in made[:valid]]
    line = text_of(data[:-1], made[-1:])
    return "\n".join([*first, line]).encode("utf-8", "surrogatepass") + data[-1:]


def _ledger(data: bytes) -> object:
    path = Path("ledger.jsonl")
    choices = Choices(data)
    content = choices.rest() if data[:1] == b"R" else _lines(data, _ledger_lines(), 1)
    _file(path.name, content)
    ledger = Ledger(FileStore(path), _KEY)
    ledger.session(7)
    ledger.latest(_SESSION)
    ledger.note(_REQUEST)
    return ledger


def _ledger_state(data: bytes) -> object:
    lines = _lines(data, _ledger_lines(), 1).decode("utf-8", "replace").splitlines()
    ledger = Ledger(StateStore(ConfigRecord({"ledger": lines})), _KEY)
    return ledger.session(7)


@cache
def _sets() -> list[Any]:
    return [
        {"opened": ["a", "b", "c", "d"], "alone": ["d"], "least": 3},
        {"trained": ["a", "b", "c", "d"], "session": 1},
        {"enrolled": {"a": "ab" * 32}},
        {"alone": ["d"]},
        {"not_alone": ["d"], "sessions": 2},
        {"epoch": ["a", "b"], "exposes": ["c", "d"]},
    ]


_PLACE = Place(0, 3, 3, noted=False)


def _opened_sets(data: bytes) -> object:
    """Read a ledger whose second line is changed, or any bytes."""
    first, second = json.dumps(_sets()[0], separators=(",", ":")), text_of(data[:-1], _sets())
    changed = f"{first}\n{second}".encode("utf-8", "replace") + data[-1:]
    content = data[1:] if data[:1] == b"R" else changed
    sets = OpenedSets(FileStore(_file("sets.jsonl", content), LONGEST_SET_LINE))
    sets.require([Ticket(name, bytes(32), b"") for name in "abcd"], 3, _PLACE, "train", {"a": _KEY})
    return sets.read(0)


@cache
def _rows() -> tuple[list[Any], bytes]:
    """Return the first line of noted rows, and the bytes behind it."""
    hashes = np.sort(np.arange(64, dtype=np.uint8).view("S16"))
    history = RowHistory().after(hashes[:2]).after(hashes[1:])
    outcome = Outcome("state", "sick", None, ())
    line, _, rest = unparse({Columns("data", _NAMES, outcome): history}).partition(b"\n")
    return [json.loads(line)], rest


def _noted_rows(data: bytes) -> object:
    """Read noted rows whose first line is changed, or any bytes."""
    made, rest = _rows()
    changed = text_of(data, made).encode("utf-8", "surrogatepass") + b"\n" + rest
    histories = parse(data[1:] if data[:1] == b"R" else changed)
    table = np.sort(np.arange(32, 96, dtype=np.uint8).view("S16"))
    for history in histories.values():
        after = history.after(table)
        after.exposed(5)
        after.nearest()
    return unparse(histories)


_TERMS = GaussianPrivacy(epsilon=1.0, delta=1e-5, clip=1.0, rounds=4, contributors=3)
_LATTICE = Lattice(24, 3)


@cache
def _releases() -> list[Any]:
    record = ConfigRecord()
    _release(StateStore(record))
    with StateStore(record).exclusively() as (line,):
        pass
    return [json.loads(line)]


def _release(store: Any) -> object:
    return PrivacyLedger(store).release(
        _TERMS,
        Kind.gradient,
        _LATTICE,
        b"q",
        variance=lambda: 10**9,
        answer=lambda _: np.array([1, 2, 3]),
    )


def _privacy_ledger(data: bytes) -> object:
    _file("privacy.jsonl", _lines(data, _releases(), 0))
    return _release(FileStore(Path("privacy.jsonl"), LONGEST_LINE))


_TABLES = (comparison_table, cost_table, coefficient_table)
_CAPC_TABLES = (answers_table, labels_table, steps_table)


@cache
def _metrics() -> list[Any]:
    figures = dict.fromkeys(FIGURES, 0.875)
    model = {"examples": 80, **figures, "coefficients": [0.5, -1.25], "intercept": 0.125}
    plain = {
        "version": 1,
        "fl_he": "0.1.0",
        "config": {
            **{"data": {"name": "breast_cancer"}, "hospitals": 3, "topology": "fold"},
            "C": None,
        },
        "local": [{"hospital": "hospital-1", "examples": 10, **figures}],
        "federated": model,
        "pooled": {**model, "C": 1.0},
        "rounds": [
            {
                "round": 1,
                **dict.fromkeys(("loss", "accuracy", "test_loss", "test_accuracy"), 0.5),
                **dict.fromkeys(("contributors", "seconds", "bytes_sent"), 3),
                **dict.fromkeys(("encrypt_seconds", "add_seconds", "decrypt_seconds"), 0.1),
            }
        ],
        "crypto": {
            **dict.fromkeys(("key_bits", "slots_per_ciphertext"), 10),
            **dict.fromkeys(("ciphertexts_per_update", "bytes_per_update"), 1),
            "key_fingerprint": "0" * 64,
        },
        "inference": {
            "level": 0.95,
            "penalised": False,
            **{"withheld": None, "outcome": "sick", "reference": None},
            "coefficients": [
                {"name": "age", "class": None, "left_out": None, **dict.fromkeys(COEFFICIENT, 0.5)}
            ],
            "fit": {
                **dict.fromkeys(FIT, -0.5),
                "likelihood_ratio": {"chi2": 2.5, "df": 2, "p_value": 0.25},
            },
            "groups": [{"columns": ["age"], "chi2": 2.5, "df": 1, "p_value": 0.25}],
        },
        "seconds": 12.5,
        "start_seconds": 3.25,
    }
    capc = {
        "version": 1,
        "fl_he": "0.1.0",
        "protocol": "capc",
        "encrypted": True,
        "config": {"data": {"name": "digits"}},
        "querying": [
            {
                "party": "hospital-1",
                **dict.fromkeys(("queries", "answered", "refused", "examples"), 5),
                **dict.fromkeys(("label_accuracy", "equal_to_plain_majority"), 0.5),
                **{
                    when: {
                        **{"accuracy": 0.5, "balanced_accuracy": 0.5, "per_class_accuracy": [0.5]},
                        "labels": [
                            {
                                **{"label": "a", "accuracy": 0.5, "balanced_accuracy": 0.5},
                                "roc_auc": 0.5,
                            }
                        ],
                    }
                    for when in ("before", "after")
                },
            }
        ],
        "privacy": {"epsilon": 1.0, "delta": 1e-5, "queries": 5},
        "steps": [
            {"step": "ask", "hops": 1, "seconds": 0.1, "node_seconds": 0.1, "bytes_sent": 10}
        ],
        "seconds": 1.0,
    }
    return [plain, capc]


def _read_metrics(data: bytes) -> object:
    text = text_of(data, _metrics())
    _file("metrics.json", text.encode("utf-8", "surrogatepass"))
    metrics = read_metrics(Path())
    console = Console(file=io.StringIO(), width=80)
    capc = metrics.get("protocol") == "capc"
    for make in _CAPC_TABLES if capc else _TABLES:
        if (table := make(metrics)) is not None:
            console.print(table)
    return metrics


_DATA = (DataError,)


@cache
def _agreed() -> Agreement:
    pins = KeyPins("0" * 64, "1" * 64)
    return Agreement(
        classes=("a", "b", "c"),
        features={"age": (0.0, 100.0), "size": (1.5, 2.5)},
        fraction_bits=8,
        integer_bits=4,
        value_bits=30,
        key_bits=2048,
        min_contributors=3,
        sigma_gnmax=2.5,
        threshold=2,
        sigma_threshold=3.5,
        epsilon=1.0,
        delta=1e-5,
        keys={"company-x": pins, "north": pins},
    )


@cache
def _agreements() -> list[Any]:
    of_schema = replace(_agreed(), schema="2" * 64)
    return [json.loads(one.to_json()) for one in (_agreed(), of_schema)]


def _agreement(data: bytes) -> object:
    return Agreement.from_json(text_of(data, _agreements())).fingerprint


@cache
def _promise() -> Agreement:
    return replace(_agreed(), epsilon=8.0, sigma_gnmax=20.0, sigma_threshold=30.0)


@cache
def _batches() -> list[Any]:
    record = ConfigRecord()
    VotingLedger(StateStore(record), _promise()).spend("ab", 3)
    with StateStore(record).exclusively() as (line,):
        pass
    return [json.loads(line)]


def _voting_ledger(data: bytes) -> object:
    lines = _lines(data, _batches(), 0).decode("utf-8", "replace").splitlines()
    ledger = VotingLedger(StateStore(ConfigRecord({"ledger": lines})), _promise())
    ledger.spend("cd", 2)
    return ledger


_SCHEMA = b"""columns:
  age: {type: integer, unit: years, bounds: [0, 120], missing: indicator, aliases: [Alter]}
  size: {type: number, missing: drop-row}
  sex: {type: category, levels: [F, M], reference: M, missing: level}
  seen: {type: date, since: 2020-01-01, format: DD.MM.YYYY}
outcome: {column: state, positive: sick}
terms: age * sex + log(size) + spline(age, knots=[1, 2.5, 30]) + (seen + age)^2
reading: {separator: ",", decimal: ".", na_values: [x]}
"""
_DESCRIBED = (
    b"age,size,sex,seen,state\n1,2,F,01.02.2020,sick\n3,,M,2.3.2021,well\n",
    b"Alter,size,sex,seen,state\nx,1.5,NA,1.1.2020,sick\n",
    *_CSV,
)


def _schema(data: bytes) -> object:
    return read_schema(_file("schema.yaml", data))


def _described(data: bytes) -> object:
    table = _file("data.csv", data)
    schema = read_schema(_file("schema.yaml", _SCHEMA))
    draft_schema(table, "state", 2)
    check_table(table, schema)
    return load_by_schema(table, schema)


TARGETS = (
    Target("schema", _schema, _DATA, lambda: [_SCHEMA, b"columns: {a: {type: drop}}\n"], 0.7),
    Target("csv-schema", _described, _DATA, lambda: _DESCRIBED, 0.3, 2048),
    Target("csv", _csv, _DATA, lambda: _CSV, 0.7, 2048),
    Target("csv-classes", _classes, _DATA, lambda: _CSV, 0.3, 2048),
    Target("ranges-json", _ranges_json, _DATA, lambda: documents.seeds(_ranges()), 0.7),
    Target(
        "ranges-csv",
        _ranges_csv,
        _DATA,
        lambda: [b"feature,low,high\nage,0,1\nsize,-1,1e3\n", b"low,high,feature\n1,2,age\n"],
        0.7,
    ),
    Target("model", _model, _DATA, lambda: documents.seeds(_models()), 0.7),
    Target(
        "checkpoint",
        _checkpoint,
        (CheckpointError, DataError),
        lambda: documents.seeds(_checkpoints()),
        0.7,
    ),
    Target(
        "ledger",
        _ledger,
        (LedgerError, ProtocolError),
        lambda: [*(one + b"\n" for one in documents.seeds(_ledger_lines())), b"R{}\n"],
        0.5,
    ),
    Target(
        "ledger-state",
        _ledger_state,
        (LedgerError, ProtocolError),
        lambda: [one + b"\n" for one in documents.seeds(_ledger_lines())],
        0.7,
    ),
    Target(
        "opened-sets",
        _opened_sets,
        (LedgerError, ProtocolError),
        lambda: [*(one + b"\n" for one in documents.seeds(_sets())), b"R{}\n"],
        0.5,
    ),
    Target(
        "noted-rows",
        _noted_rows,
        (LedgerError,),
        lambda: [
            *documents.seeds(_rows()[0]),
            b"R" + json.dumps(_rows()[0][0]).encode() + b"\n" + _rows()[1],
        ],
        0.5,
    ),
    Target(
        "privacy-ledger",
        _privacy_ledger,
        (LedgerError, ProtocolError),
        lambda: [one + b"\n" for one in documents.seeds(_releases())],
        0.5,
    ),
    Target(
        "capc-agreement", _agreement, (CryptoError,), lambda: documents.seeds(_agreements()), 0.7
    ),
    Target(
        "voting-ledger",
        _voting_ledger,
        (LedgerError, ProtocolError),
        lambda: [one + b"\n" for one in documents.seeds(_batches())],
        0.02,
    ),
    Target(
        "metrics", _read_metrics, (MetricsError,), lambda: documents.seeds(_metrics()), 0.2, 8192
    ),
)
