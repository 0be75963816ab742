from __future__ import annotations

import io
import re
from threading import Thread

import pytest
from rich.console import Console

from fl_he.progress import follow_rounds


def follow(*, terminal: bool, width: int = 100, rounds: int = 2) -> str:
    """Return what the first two rounds of a run print."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None)
    with follow_rounds(console, hospitals=5, rounds=rounds) as on_round:
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
comparing with each hospital and the pooled data
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
    assert "loss 0.5000, accuracy 0.250" in shown
    assert "1/2" in shown
    assert "comparing with each hospital and the pooled data" in shown
    assert "round 1/2:" not in shown


def test_a_narrow_terminal_cuts_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, None)
    shown = follow(terminal=True, width=60, rounds=1500)
    assert "…" not in shown
    assert " 2/1500 " in shown


def test_only_rounds_have_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, None)
    lines = re.split(r"[\r\n]", follow(terminal=True))
    for words, bar in (("starting", False), ("loss 0.5", True), ("comparing", False)):
        shown = [line for line in lines if words in line]
        assert shown
        assert all(("━" in line) is bar for line in shown)


def set_ci(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", value)
