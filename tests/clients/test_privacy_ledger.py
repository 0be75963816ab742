"""The budget of a hospital's patients: spent once, for any requests and any number of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord
from numpy.typing import NDArray

from fl_he.clients.ledger_file import FileStore
from fl_he.clients.privacy_ledger import LONGEST_LINE, Kind, PrivacyLedger
from fl_he.clients.state_store import StateStore
from fl_he.clients.stores import LedgerError, Store
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice
from fl_he.wire.records import ProtocolError

TERMS = GaussianPrivacy(epsilon=1.0, delta=1e-5, clip=1.0, rounds=2, contributors=3)
LATTICE = Lattice(24, 3)


@pytest.fixture(params=["file", "state"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return FileStore(tmp_path / "privacy.jsonl", LONGEST_LINE)
    return StateStore(ConfigRecord())


class Asker:
    """Asks a ledger and notes the ledger's questions."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.variances: list[int] = []
        self.asked = 0

    def __call__(
        self, question: bytes, terms: GaussianPrivacy = TERMS, kind: Kind = Kind.gradient
    ) -> list[int]:
        def variance() -> int:
            self.asked += 1
            return 10**30  # beyond 64 bits

        def answer(variance: int) -> NDArray[np.int64]:
            self.variances.append(variance)
            return np.array([len(self.variances), -(2**62), 2**62])

        ledger = PrivacyLedger(self.store)  # a new one each time, as in a new process
        made = ledger.release(terms, kind, LATTICE, question, variance=variance, answer=answer)
        return list(map(int, made))


def release(
    store: Store,
    answer: Callable[[int], NDArray[np.int64]],
    *,
    question: bytes = b"a",
    lattice: Lattice = LATTICE,
) -> NDArray[np.int64]:
    return PrivacyLedger(store).release(
        TERMS, Kind.gradient, lattice, question, variance=lambda: 1, answer=answer
    )


def test_the_same_question_has_the_same_answer_for_ever(store: Store) -> None:
    ask = Asker(store)
    first = ask(b"a")
    assert first == [1, -(2**62), 2**62]
    assert ask(b"b") == [2, -(2**62), 2**62]
    assert ask(b"a") == first
    assert len(ask.variances) == 2


def test_the_budget_is_spent_and_old_answers_stay(store: Store) -> None:
    ask = Asker(store)
    answers = [ask(b"a"), ask(b"b")]
    for _ in range(2):
        with pytest.raises(
            ProtocolError, match=r"at most 2 releases of gradient sums .* the budget is spent"
        ):
            ask(b"c")
    assert [ask(b"a"), ask(b"b")] == answers


def test_the_noise_is_calibrated_once(store: Store) -> None:
    ask = Asker(store)
    ask(b"a")
    ask(b"b")
    assert ask.asked == 1
    assert ask.variances == [10**30, 10**30]


@pytest.mark.parametrize(
    "changes",
    [
        *({"epsilon": 0.5}, {"delta": 1e-6}, {"clip": 2.0}, {"rounds": 3}, {"contributors": 2}),
        {"scaling": 0.1},
    ],
)
def test_a_ledger_is_of_one_budget(store: Store, changes: dict[str, float]) -> None:
    ask = Asker(store)
    ask(b"a")
    other = GaussianPrivacy(
        **{**{name: getattr(TERMS, name) for name in TERMS.__slots__}, **changes}
    )
    for question in (b"a", b"b"):
        with pytest.raises(ProtocolError, match="a privacy ledger must be of one budget"):
            ask(question, other)
    assert ask.variances == [10**30]


def test_another_lattice_is_another_budget(store: Store) -> None:
    Asker(store)(b"a")
    with pytest.raises(ProtocolError, match="a privacy ledger must be of one budget"):
        release(store, lambda _: np.zeros(4, dtype=np.int64), lattice=Lattice(24, 4))


def test_an_answer_that_is_refused_costs_nothing(store: Store) -> None:
    def refuse(_: int) -> NDArray[np.int64]:
        raise ProtocolError("no")

    for _ in range(3):
        with pytest.raises(ProtocolError, match="no"):
            release(store, refuse)
    assert Asker(store)(b"a")


def test_sums_for_the_scaling_are_released_once_and_gradients_beside_them(store: Store) -> None:
    ask, terms = Asker(store), replace(TERMS, scaling=0.2)
    scaling = ask(b"a", terms, Kind.scaling)
    assert ask(b"a", terms) != scaling  # the same digest, but not the same question
    ask(b"b", terms)
    assert ask.asked == 2  # noise is calibrated for each kind
    for question, kind in ((b"b", Kind.scaling), (b"c", Kind.gradient)):
        with pytest.raises(ProtocolError, match=f"of {kind} sums .* the budget is spent"):
            ask(question, terms, kind)
    assert ask(b"a", terms, Kind.scaling) == scaling


def test_terms_without_a_share_pay_for_no_scaling(store: Store) -> None:
    with pytest.raises(ProtocolError, match="at most 0 releases of scaling sums"):
        Asker(store)(b"a", TERMS, Kind.scaling)


def test_a_release_that_was_cut_off_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "privacy.jsonl"
    ask = Asker(FileStore(path, LONGEST_LINE))
    ask(b"a")
    with path.open("ab") as file:
        file.write(b'{"terms":"')
    with pytest.raises(ProtocolError, match="the budget is spent"):
        ask(b"b")


def test_a_release_that_was_cut_off_may_have_been_of_either_kind(tmp_path: Path) -> None:
    path, terms = tmp_path / "privacy.jsonl", replace(TERMS, scaling=0.2)
    ask = Asker(FileStore(path, LONGEST_LINE))
    ask(b"a", terms)
    with path.open("ab") as file:
        file.write(b'{"terms":"')
    for kind in Kind:
        with pytest.raises(ProtocolError, match="the budget is spent"):
            ask(b"b", terms, kind)


def _without_answer(line: str) -> str:
    members = json.loads(line)
    del members["answer"]
    return json.dumps(members)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: "nonsense",
        _without_answer,
        lambda line: json.dumps({**json.loads(line), "answer": [1.5]}),
        lambda line: json.dumps({**json.loads(line), "answer": [2**63]}),
        lambda line: json.dumps({**json.loads(line), "answer": 1}),
        lambda line: json.dumps({**json.loads(line), "variance": "-1"}),
        lambda line: json.dumps({**json.loads(line), "variance": 5}),
        lambda line: json.dumps({**json.loads(line), "variance": "9" * 5000}),
        lambda line: json.dumps({**json.loads(line), "terms": 5}),
        lambda line: json.dumps({**json.loads(line), "lattice": None}),
        lambda line: json.dumps({**json.loads(line), "kind": "other"}),
        lambda line: json.dumps({**json.loads(line), "kind": ["gradient"]}),
    ],
)
def test_a_ledger_that_cannot_be_trusted_is_refused(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    path = tmp_path / "privacy.jsonl"
    ask = Asker(FileStore(path, LONGEST_LINE))
    ask(b"a")
    path.write_text(damage(path.read_text().strip()) + "\n")
    with pytest.raises(LedgerError):
        ask(b"a")


def test_a_ledger_is_private_and_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "privacy.jsonl"
    store = FileStore(path, LONGEST_LINE)
    many = np.full(50_000, -(2**47))
    for _ in range(2):
        kept = release(store, lambda _: many)
        np.testing.assert_array_equal(kept, many)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ProtocolError, match="a private release must have fewer numbers"):
        release(store, lambda _: np.full(10**6, 10), question=b"b")
