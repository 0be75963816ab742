from __future__ import annotations

import io
import re
from collections.abc import Sequence
from threading import Thread
from time import sleep

import pytest
from rich.console import Console

from fl_he.terminal.progress import follow
from fl_he.wire.events import (
    Event,
    Finishing,
    HopBegan,
    HopEnded,
    OptimizerChosen,
    RoundEnded,
    Starting,
    StepEnded,
)


def shown_of(
    *, terminal: bool, width: int = 100, rounds: int = 2, hops: Sequence[Event] = ()
) -> str:
    """Return the output of the first two rounds of a run."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None)
    with follow(console, hospitals=5, steps=rounds) as tell:
        tell(Starting("ray"))
        for number in (1, 2):
            for hop in hops:
                tell(hop)
            entry = {"round": number, "loss": 0.5 / number, "accuracy": 0.25 * number}
            thread = Thread(target=tell, args=(RoundEnded(entry),))
            thread.start()
            thread.join()
        tell(Finishing())
    return file.getvalue()


PLAIN = """\
starting Ray and 5 hospitals
round 1/2: loss 0.5000, accuracy 0.250
round 2/2: loss 0.2500, accuracy 0.500
comparing and saving
"""


@pytest.mark.parametrize("ci", [None, "", "0", "false", "true"])
def test_plain_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch, ci: str | None) -> None:
    set_ci(monkeypatch, ci)
    assert shown_of(terminal=False) == PLAIN


@pytest.mark.parametrize("terminal", [True, False])
def test_the_optimizer_is_told_with_its_reason(terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with follow(console, hospitals=5, steps=2) as tell:
        tell(OptimizerChosen("newton", "the Hessian has 496 values"))
    assert "optimizer: newton (the Hessian has 496 values)" in file.getvalue()


@pytest.mark.parametrize("ci", ["true", "1"])
def test_plain_lines_under_ci(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    set_ci(monkeypatch, ci)
    assert shown_of(terminal=True) == PLAIN


@pytest.mark.parametrize("ci", [None, "", "0", "false"])
def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, ci: str | None) -> None:
    set_ci(monkeypatch, ci)
    shown = shown_of(terminal=True)
    assert "starting Ray and 5 hospitals" in shown
    assert "loss 0.5000, accuracy 0.250" in shown
    assert "1/2" in shown
    assert "comparing and saving" in shown
    assert "round 1/2:" not in shown


def test_a_narrow_terminal_cuts_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, None)
    shown = shown_of(terminal=True, width=60, rounds=1500)
    assert "…" not in shown
    assert " 2/1500 " in shown


def test_only_rounds_have_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, None)
    lines = re.split(r"[\r\n]", shown_of(terminal=True))
    for words, bar in (("starting", False), ("loss 0.5", True), ("comparing", False)):
        shown = [line for line in lines if words in line]
        assert shown
        assert all(("━" in line) is bar for line in shown)


HOPS: list[Event] = [
    *(HopBegan(f"hospital-{n}", "train") for n in (1, 2, 3)),
    HopEnded("hospital-2", "train", 1.25),
    HopEnded("hospital-3", "train", 0.5, failed=True),
]


def test_the_live_view_says_who_has_contributed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, None)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with follow(console, hospitals=3, steps=2) as tell:
        tell(RoundEnded({"round": 1, "loss": 0.5, "accuracy": 0.25}))
        for hop in HOPS:
            tell(hop)
        sleep(0.5)  # Rich draws eight times a second
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "2 answered: hospital-2 1.25 s, hospital-3 failed after 0.50 s" in shown
    assert re.search(r"at work: hospital-1 \(train \d s\)", shown)


def test_plain_lines_say_who_has_contributed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, "true")
    console = Console(file=io.StringIO(), width=80, color_system=None)
    hops = [{"node": f"hospital-{n}", "seconds": 0.5 * n} for n in (1, 2)]
    with follow(console, hospitals=3, steps=2) as tell:
        tell(Starting("ray"))
        entry = {"round": 1, "loss": 0.5, "accuracy": 0.25, "contributors": 2, "hops": hops}
        tell(RoundEnded(entry | {"skipped": ["[b]hospital-3"]}))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[1] == (
        "round 1/2: loss 0.5000, accuracy 0.250, 2 in the total, without [b]hospital-3, "
        "longest hop 1.00 s (hospital-2)"
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_starts_before_the_data_are_loaded(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_ci(monkeypatch, None)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
    with follow(console, hospitals=3, steps=2):
        pass
    with follow(console, hospitals=3, steps=2, capc=True):
        pass
    assert isinstance(console.file, io.StringIO)
    assert "starting" not in console.file.getvalue()
    assert ("loading the data" in console.file.getvalue()) == terminal


def test_a_private_round_without_a_test_set_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ci(monkeypatch, "true")
    console = Console(file=io.StringIO(), width=80, color_system=None)
    untested = dict.fromkeys(("loss", "accuracy", "test_loss", "test_accuracy"))
    with follow(console, hospitals=3, steps=2) as tell:
        tell(RoundEnded({"round": 1, **untested, "contributors": 3}))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "round 1/2: no figure of quality, 3 in the total\n"


def test_the_steps_of_capc_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (False, True):
        set_ci(monkeypatch, None)
        console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
        with follow(console, hospitals=4, steps=2, capc=True) as tell:
            tell(Starting("ray"))
            for step in ("query.capc_ask", "query.capc_logit_bits", "query.capc_vote"):
                tell(StepEnded(step))
        assert isinstance(console.file, io.StringIO)
        shown = console.file.getvalue()
        assert "starting 4 parties and the privacy guardian" in shown
        assert re.search(r"logit bits, 0\.\d s", shown)
        assert ("3/3" in shown) == terminal, "there were more than was thought"
        assert ("done: ask" in shown) != terminal


def set_ci(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", value)
