from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_he.capc.agreement import Agreement, KeyPins
from fl_he.capc.node.deployed import VotingLedger, spend
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.stores import LedgerError
from fl_he.crypto.errors import CryptoError
from fl_he.learning.voting.gnmax import ConfidentGNMax
from fl_he.wire.records import ProtocolError


def promise(
    epsilon: float, delta: float, sigma_gnmax: float, sigma_threshold: float | None
) -> Agreement:
    """Return an agreement with this promise."""
    return Agreement(
        classes=("well", "sick"),
        features={"age": (0.0, 100.0)},
        fraction_bits=8,
        integer_bits=2,
        value_bits=24,
        key_bits=2048,
        min_contributors=3,
        sigma_gnmax=sigma_gnmax,
        threshold=None if sigma_threshold is None else 2,
        sigma_threshold=sigma_threshold,
        epsilon=epsilon,
        delta=delta,
        keys={name: KeyPins("1" * 64, "2" * 64) for name in ("company-x", "st-anne")},
    )


PROMISE = promise(epsilon=4.0, delta=1e-5, sigma_gnmax=10.0, sigma_threshold=20.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Callable[[Agreement], VotingLedger]:
    """Return the ledger in one file, as a new process opens it."""
    return lambda agreed: VotingLedger(FileStore(tmp_path / "voting.jsonl"), agreed)


def test_what_was_spent_is_spent_for_later_processes_and_the_budget_is_used_up(
    ledger: Callable[[Agreement], VotingLedger],
) -> None:
    noise, asked = ConfidentGNMax(10.0, 20.0), 0
    while (left := ledger(PROMISE).budget().affordable()) > 0:
        assert asked < 1000, "a budget has an end"
        queries = min(7, left)
        ledger(PROMISE).spend(f"{asked:032x}", queries)
        asked += queries
    assert noise.epsilon(asked, 1e-5) <= 4.0 < noise.epsilon(asked + 1, 1e-5)
    with pytest.raises(ProtocolError, match="at most 0, which is what is left"):
        ledger(PROMISE).spend("f" * 32, 1)
    with pytest.raises(ProtocolError, match="at most 0, which is what is left"):
        spend(ledger(PROMISE).budget(), 1)


def test_a_party_may_promise_its_patients_less(tmp_path: Path) -> None:
    def of_party(own: float | None) -> VotingLedger:
        return VotingLedger(FileStore(tmp_path / "voting.jsonl"), PROMISE, own=own)

    agreed, less = (of_party(own).budget().affordable() for own in (4.0, 2.0))
    assert of_party(None).budget().affordable() == agreed > less > 0
    assert ConfidentGNMax(10.0, 20.0).epsilon(less, 1e-5) <= 2.0
    with pytest.raises(ProtocolError, match=f"at most {less},"):
        of_party(2.0).begin("a" * 32, "st-anne", less + 1)
    # another own epsilon forgets nothing
    of_party(2.0).spend("a" * 32, less)
    assert of_party(None).budget().affordable() == agreed - less
    for ask in (of_party(1.0).budget, lambda: of_party(1.0).begin("b" * 32, "st-anne", 1)):
        with pytest.raises(
            ProtocolError, match="capc-epsilon in the node configuration back to its earlier"
        ):
            ask()
    for wrong in (4.1, 0.0, float("nan")):
        with pytest.raises(CryptoError, match="capc-epsilon in the node configuration must be"):
            of_party(wrong).budget()


def test_too_large_a_batch_spends_nothing(ledger: Callable[[Agreement], VotingLedger]) -> None:
    left = ledger(PROMISE).budget().affordable()
    with pytest.raises(ProtocolError, match=f"at most {left},"):
        ledger(PROMISE).spend("a" * 32, left + 1)
    assert ledger(PROMISE).budget().affordable() == left
    spend(ledger(PROMISE).budget(), left)
    assert ledger(PROMISE).budget().affordable() == left


def test_a_batch_is_answered_once(ledger: Callable[[Agreement], VotingLedger]) -> None:
    ledger(PROMISE).spend("a" * 32, 1)
    ledger(PROMISE).spend("b" * 32, 1)
    with pytest.raises(ProtocolError, match=f"batch {'a' * 32} has already been answered"):
        ledger(PROMISE).spend("a" * 32, 1)


def test_a_batch_is_begun_once_and_spends_nothing(
    ledger: Callable[[Agreement], VotingLedger],
) -> None:
    left = ledger(PROMISE).budget().affordable()
    ledger(PROMISE).begin("a" * 32, "st-anne", left)
    ledger(PROMISE).begin("b" * 32, "st-anne", 1)
    assert ledger(PROMISE).budget().affordable() == left
    with pytest.raises(ProtocolError, match=f"batch {'a' * 32} has already been begun"):
        ledger(PROMISE).begin("a" * 32, "st-anne", 1)
    with pytest.raises(ProtocolError, match=f"at most {left},"):
        ledger(PROMISE).begin("c" * 32, "st-anne", left + 1)
    ledger(PROMISE).spend("a" * 32, 1)
    ledger(PROMISE).spend("c" * 32, 1)
    with pytest.raises(ProtocolError, match=f"batch {'c' * 32} has already been answered"):
        ledger(PROMISE).begin("c" * 32, "st-anne", 1)
    assert ledger(PROMISE).budget().affordable() == left - 2


def test_queries_of_each_party_are_limited_over_runs_from_their_begin_on(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "voting.jsonl")

    def ledger() -> VotingLedger:
        return VotingLedger(store, PROMISE, most=5)

    ledger().begin("a" * 32, "st-anne", 3)  # and then nothing: learnt facts stay learnt
    with pytest.raises(
        ProtocolError, match=r"queries of st-anne must be at most 2, .* of 5 \(capc-queries in"
    ):
        ledger().begin("b" * 32, "st-anne", 3)
    ledger().begin("b" * 32, "st-luke", 5)
    ledger().begin("c" * 32, "st-anne", 2)
    with pytest.raises(ProtocolError, match="queries of st-anne must be at most 0,"):
        ledger().begin("d" * 32, "st-anne", 1)
    assert ledger().asked(store.read()) == {"st-anne": 5, "st-luke": 5}
    assert ledger().may_ask(["st-anne", "st-john"]) == {"st-anne": 0, "st-john": 5}
    with pytest.raises(ProtocolError, match="queries of st-luke must be at most 0,"):
        VotingLedger(store, PROMISE, most=3).begin("e" * 32, "st-luke", 1)


def test_begins_that_earlier_releases_noted_are_of_no_party(tmp_path: Path) -> None:
    path = tmp_path / "voting.jsonl"
    path.touch(0o600)
    path.write_text(json.dumps({"begun": "a" * 32}, separators=(",", ":")) + "\n")
    ledger = VotingLedger(FileStore(path), PROMISE)
    with pytest.raises(ProtocolError, match=f"batch {'a' * 32} has already been begun"):
        ledger.begin("a" * 32, "st-anne", 1)
    ledger.begin("b" * 32, "st-anne", 1)
    assert ledger.asked(FileStore(path).read()) == {"st-anne": 1}


@pytest.mark.parametrize(
    "other",
    [
        promise(8.0, 1e-5, 10.0, 20.0),
        promise(4.0, 1e-6, 10.0, 20.0),
        promise(4.0, 1e-5, 11.0, 20.0),
        promise(4.0, 1e-5, 10.0, None),
    ],
)
def test_a_ledger_is_of_one_promise(
    ledger: Callable[[Agreement], VotingLedger], other: Agreement
) -> None:
    ledger(PROMISE).spend("a" * 32, 1)
    for use in (
        lambda: ledger(other).budget().affordable(),
        lambda: ledger(other).spend("b" * 32, 1),
    ):
        with pytest.raises(ProtocolError, match="must be of one promise"):
            use()


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        '{"promise":1,"session":"a","queries":1}',
        '{"promise":"a","session":"a","queries":0}',
        '{"promise":"a","session":"a","queries":true}',
        '{"promise":"a","session":"a","queries":1.5}',
        "nonsense",
    ],
)
def test_a_ledger_that_is_none_is_not_trusted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "voting.jsonl"
    path.touch(0o600)
    path.write_text(line + "\n")
    with pytest.raises(LedgerError):
        VotingLedger(FileStore(path), PROMISE).budget().affordable()
