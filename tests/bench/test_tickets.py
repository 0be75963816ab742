from __future__ import annotations

import pytest

from fl_he.bench import tickets
from fl_he.bench.fresh import BenchError
from fl_he.bench.schemes import example_updates
from fl_he.bench.tickets import measure_tickets
from fl_he.bench.timing import Effort
from fl_he.crypto.paillier.private_key import PrivateKey

KEY = PrivateKey.generate(1024)
ONCE = Effort(least=1, most=1, enough=0.0, limit=1.0)


def test_tickets_are_counted_and_timed() -> None:
    found = measure_tickets(KEY, example_updates(40), ONCE, lambda *_: None)
    assert (found["key_bits"], found["length"]) == (1024, 40)
    # 17 slots of 58 bits: two of them, and the highest bits, hold the tag.
    assert (found["ciphertexts"], found["untagged_ciphertexts"]) == (3, 3)
    assert 32 + 1168 + 64 < found["ticket_bytes"] < 32 + 1168 + 64 + 100
    seconds = {name: value for name, value in found.items() if name.endswith("_seconds")}
    assert (len(seconds), found["paired"]) == (7, 20)
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) < 1


def test_tickets_that_do_not_fit_are_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "tags_of", lambda *_: [0, 0, 0])
    with pytest.raises(BenchError, match="do not fit"):
        measure_tickets(KEY, example_updates(40), ONCE, lambda *_: None)
