"""Targets of the files that deployed nodes keep, which somebody may have damaged or replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from fuzz import documents
from fuzz.documents import text_of
from fuzz.target import Target

from fl_he.clients import run_keys
from fl_he.clients.ledger import KeyDeleted, KeyMade, Opening, Session, line_of
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node import form_memory, table_memory
from fl_he.clients.node.counters import Counters
from fl_he.clients.node.form_memory import FormMemory
from fl_he.clients.node.node import Node
from fl_he.clients.node.table_memory import TableMemory
from fl_he.clients.overviews import session_overviews
from fl_he.clients.pair_memory import LONGEST_PAIR_LINE, PairMemory
from fl_he.clients.plan_ledger import PlanLedger, sessions_by_plan
from fl_he.clients.run_keys import RunKeys
from fl_he.clients.state_store import StateStore
from fl_he.clients.stores import LONGEST_LINE, LedgerError, Store
from fl_he.clients.totals.learner import Learnt
from fl_he.clients.totals.payload import RunningSum
from fl_he.clients.totals.sessions import Sessions
from fl_he.clients.totals.state import ChainState, Contribution
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.learning.tables.data import Dataset
from fl_he.wire.planned_messages import Asked
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey
from fl_he.wire.totals import Total
from fl_he.wire.update_layout import ArraySlot, UpdateLayout

_KEY, _SESSION, _PLAN = "ab" * 32, "s", "cd" * 32
_LAYOUT = UpdateLayout((ArraySlot("arrays", "w", "float64", (3,)),), "metrics", (), "n", 24)
_ERRORS = (LedgerError, ProtocolError)


def _store(data: bytes, made: list[Any], longest: int = LONGEST_LINE) -> FileStore:
    """Return a ledger: its lines, then one that is changed; or any bytes."""
    lines = [json.dumps(line, separators=(",", ":")) for line in made]
    changed = "\n".join([*lines, text_of(data[:-1], made)]).encode("utf-8", "surrogatepass")
    path = Path("ledger.jsonl")
    path.write_bytes(data[1:] if data[:1] == b"R" else changed + data[-1:])
    path.chmod(0o600)
    return FileStore(path, longest)


def _seeds(made: list[Any]) -> list[bytes]:
    return [*(one + b"\n" for one in documents.seeds(made)), b"R{}\n", b"R"]


def _noted(note: Callable[[FileStore], object], longest: int = LONGEST_LINE) -> list[Any]:
    """Return the lines that a node notes."""
    store = FileStore(Path("noted.jsonl"), longest)
    note(store)
    lines = [json.loads(line or "") for line in store.read()]
    Path("noted.jsonl").unlink()
    return lines


def _hear(store: FileStore) -> object:
    counters = Counters(store, _KEY)
    counters.hear_key(RunKey(_SESSION, _KEY, 1, 2, bytes(32)))
    with counters.hearing_total(
        _SESSION, Total(0, "", np.zeros(0), bytes(32), 3, b"\1" * 32), bytes(32)
    ):
        return counters


@cache
def _heard() -> list[Any]:
    return _noted(_hear)


def _counters(data: bytes) -> object:
    return _hear(_store(data, _heard()))


@cache
def _keys() -> list[Any]:
    until = run_keys.now()
    entries = (
        KeyMade(_SESSION, until, 30),
        Session("7", _SESSION, _KEY),
        KeyDeleted(_SESSION, "end"),
        Opening(_SESSION, "train", 1, 3, 0, "1" * 64),
        KeyMade("other", until, 1),
    )
    return [json.loads(line_of(entry)) for entry in entries]


def _run_keys(data: bytes) -> object:
    """Begin, describe, find and end sessions by a ledger with keys."""
    store = _store(data, _keys())
    keys = RunKeys(store, Path("key"), 30, 3)

    def make(path: Path) -> str:
        path.touch(0o600)
        return _KEY

    keys.delete_old()
    session = keys.begin(8, make)
    for one in session_overviews(store.read()):
        keys.described(one)
    found = keys.find(session)
    keys.end(session)
    return found


def _ask(store: FileStore) -> object:
    plan = cast("Any", SimpleNamespace(most_sessions=2, most=lambda _: 3))
    ledger = PlanLedger(store)
    ledger.note(plan, Asked(_PLAN, _SESSION, "train", 1, "ef" * 32))
    ledger.require_begun(_PLAN, _SESSION)
    return sessions_by_plan(store.read())


@cache
def _asked() -> list[Any]:
    return _noted(_ask)


def _plan_ledger(data: bytes) -> object:
    return _ask(_store(data, _asked()))


def _meet(store: FileStore) -> object:
    table = Dataset(np.zeros((2, 1)), np.array([0.0, 1.0]), ("age",))
    return TableMemory(store).change(7, _SESSION, "data", table)


@cache
def _tables() -> list[Any]:
    return _noted(_meet, table_memory.LONGEST_LINE)


def _table_memory(data: bytes) -> object:
    return _meet(_store(data, _tables(), table_memory.LONGEST_LINE))


def _fix(store: FileStore) -> object:
    memory = FormMemory(store, 7, _SESSION)
    if memory.form("train") is None:
        memory.fix("train", _LAYOUT)
    return memory.has_failed("evaluate")


@cache
def _forms() -> list[Any]:
    return _noted(_fix, form_memory.LONGEST_LINE)


def _form_memory(data: bytes) -> object:
    return _fix(_store(data, _forms(), form_memory.LONGEST_LINE))


def _join(store: FileStore) -> object:
    node = SimpleNamespace(chains=lambda: store, context=SimpleNamespace(run_id=7))
    sessions = Sessions(cast("Node", node))
    sessions.challenge()
    sessions.join(_SESSION)
    return sessions.knows(_SESSION), sessions.is_closed(_SESSION)


@cache
def _chains() -> list[Any]:
    return _noted(_join)


def _sealed_sessions(data: bytes) -> object:
    return _join(_store(data, _chains()))


_HOSPITALS = {name: bytes([number]) * 32 for number, name in enumerate(("a", "b", "c"))}
_SUM = Occasion(_KEY, _SESSION, "train", 1, bytes(32), Packing(), 3)


def _pair(store: FileStore, sets: Store) -> object:
    memory = PairMemory(sets, store, "a")
    memory.begin(_HOSPITALS)
    memory.keep({"b": bytes(32), "c": bytes(32)})
    return memory.masks(_SUM, b"update", None), memory.random_stream(_SUM)


def _sets() -> Store:
    return StateStore(ConfigRecord())


@cache
def _pairs() -> list[Any]:
    return _noted(lambda store: _pair(store, _sets()), LONGEST_PAIR_LINE)


def _pair_memory(data: bytes) -> object:
    return _pair(_store(data, _pairs(), LONGEST_PAIR_LINE), _sets())


@cache
def _masked_sets() -> list[Any]:
    return _noted(lambda sets: PairMemory(sets, _sets(), "a").begin(_HOSPITALS), LONGEST_PAIR_LINE)


def _masked_set(data: bytes) -> object:
    store = StateStore(ConfigRecord())
    return PairMemory(_store(data, _masked_sets(), LONGEST_PAIR_LINE), store, "a").begin(_HOSPITALS)


@cache
def _trainings() -> list[Any]:
    state = ChainState(_SESSION, None)
    model = ArrayRecord({"w": Array(np.zeros(2))})
    state.begin("{}", bytes(32), Learnt(model, "{}"))
    state.ask("train", 1)
    summed = RunningSum(1, bytes(32), "{}", b"vector")
    state.contribute(Contribution(1, "0" * 64, ("north",), summed))
    return [json.loads(state.to_text() or "")]


def _training(data: bytes) -> object:
    state = ChainState(_SESSION, text_of(data, _trainings()))
    state.advance(1, state.learnt, state.chain)
    state.ask("train", 2)
    return state.to_text()


TARGETS = (
    Target("counters", _counters, _ERRORS, lambda: _seeds(_heard()), 0.5),
    Target("run-key-files", _run_keys, _ERRORS, lambda: _seeds(_keys()), 0.1),
    Target("plan-ledger", _plan_ledger, _ERRORS, lambda: _seeds(_asked()), 0.5),
    Target("table-memory", _table_memory, _ERRORS, lambda: _seeds(_tables()), 0.5),
    Target("form-memory", _form_memory, _ERRORS, lambda: _seeds(_forms()), 0.5),
    Target("sealed-sessions", _sealed_sessions, _ERRORS, lambda: _seeds(_chains()), 0.5),
    Target("pair-memory", _pair_memory, _ERRORS, lambda: _seeds(_pairs()), 0.5),
    Target("masked-set", _masked_set, _ERRORS, lambda: _seeds(_masked_sets()), 0.5),
    Target("training-state", _training, _ERRORS, lambda: documents.seeds(_trainings()), 0.7),
)
