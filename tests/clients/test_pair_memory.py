"""A hospital's memory of pairwise masks, by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest
from flwr.app import ConfigRecord

from fl_he.clients.pair_memory import PairMemory
from fl_he.clients.state_store import StateStore
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.wire.records import ProtocolError

HOSPITALS = {name: bytes([number]) * 32 for number, name in enumerate(("a", "b", "c"))}
SUM = Occasion("ab" * 32, "s", "train", 1, bytes(32), Packing(), 3)


def memory() -> tuple[PairMemory, list[Any]]:
    """Return a memory that has begun and has all halves, and the lines of its session."""
    record = ConfigRecord()
    made = PairMemory(StateStore(ConfigRecord()), StateStore(record), "a")
    made.begin(HOSPITALS)
    made.keep({"b": bytes(32), "c": bytes(32)})
    return made, cast("list[Any]", record["ledger"])


def test_random_numbers_are_of_one_question() -> None:
    made, _ = memory()
    questions = [SUM, replace(SUM, round=2), replace(SUM, asked=b"1" * 32)]
    seen = {made.random_stream(question).read(32) for question in questions}
    assert len(seen) == 3
    assert made.random_stream(SUM).read(32) in seen
    assert memory()[0].random_stream(SUM).read(32) not in seen


def test_the_note_of_an_update_cannot_be_compared_with_guesses() -> None:
    notes = []
    for _ in range(2):
        made, lines = memory()
        made.masks(SUM, b"update", None)
        notes.append(json.loads(lines[-1])["update"])
    assert notes[0] != notes[1]


def test_a_line_that_was_cut_off_is_passed_over() -> None:
    made, lines = memory()
    first = made.masks(SUM, b"update", None)
    lines.insert(1, None)
    assert made.masks(SUM, b"update", None).tag() == first.tag()
    lines[0] = None
    with pytest.raises(ProtocolError, match="seeds of masks must be exchanged"):
        made.masks(SUM, b"update", None)


def test_seeds_that_are_missing_make_no_masks() -> None:
    record = ConfigRecord()
    made = PairMemory(StateStore(ConfigRecord()), StateStore(record), "a")
    for refused in (lambda: made.masks(SUM, b"update", None), lambda: made.random_stream(SUM)):
        with pytest.raises(ProtocolError, match="seeds of masks must be exchanged"):
            refused()
    made.begin(HOSPITALS)
    with pytest.raises(ProtocolError, match="seeds of masks must be exchanged"):
        made.masks(SUM, b"update", None)
    with pytest.raises(ProtocolError, match="those of the other hospitals"):
        made.keep({"b": bytes(32)})
