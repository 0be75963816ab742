from __future__ import annotations

import io
from threading import Thread

import pytest
from rich.console import Console

from fl_he.progress import follow_rounds


def follow(*, terminal: bool) -> str:
    """Return what a run of two rounds prints."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with follow_rounds(console, hospitals=5, rounds=2) as on_round:
        for number in (1, 2):
            entry = {"round": number, "loss": 0.5 / number, "accuracy": 0.25 * number}
            thread = Thread(target=on_round, args=(entry,))
            thread.start()
            thread.join()
    return file.getvalue()


PLAIN = """\
starting Ray and 5 hospitals
round 1/2: loss 0.5000, accuracy 0.250
round 2/2: loss 0.2500, accuracy 0.500
"""


@pytest.mark.parametrize("ci", [None, "", "0", "false", "true"])
def test_plain_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch, ci: str | None) -> None:
    set_ci(monkeypatch, ci)
    assert follow(terminal=False) == PLAIN


@pytest.mark.parametrize("ci", ["true", "1"])
def test_plain_lines_under_ci(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    set_ci(monkeypatch, ci)
    assert follow(terminal=True) == PLAIN


@pytest.mark.parametrize("ci", [None, "", "0", "false"])
def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, ci: str | None) -> None:
    set_ci(monkeypatch, ci)
    shown = follow(terminal=True)
    assert "starting Ray and 5 hospitals" in shown
    assert "loss 0.2500, accuracy 0.500" in shown
    assert "2/2" in shown
    assert "round 1/2:" not in shown


def set_ci(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", value)
