from __future__ import annotations

import pytest

from fl_he.strategies import dropouts, exchange, roll_call, roster


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that strategies see; waiting moves it, and nothing else does."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        assert now[0] < 1000, "it waits for ever"

    for module in (dropouts, exchange, roll_call, roster):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
        monkeypatch.setattr(module, "sleep", sleep, raising=False)
    return now
