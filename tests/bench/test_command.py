from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from fl_he import __version__
from fl_he.bench import command
from fl_he.bench.command import SECTIONS, Section, run_bench
from fl_he.bench.fresh import BenchError, descendants
from fl_he.bench.timing import Follow

ROOT = Path(__file__).parents[2]


def fl_he(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "fl_he.cli", "bench", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Put quick stand-ins in place of the sections; return the list of what is measured."""
    measured: list[tuple[str, bool]] = []

    def section(name: str) -> Section:
        def measure(quick: bool, follow: Follow) -> dict[str, Any]:
            follow(f"{name} is at work")
            measured.append((name, quick))
            return {"figure": len(measured)}

        return Section(measure, lambda result: Text(f"{name}: {result['figure']}"))

    monkeypatch.setattr(command, "SECTIONS", {name: section(name) for name in SECTIONS})
    return measured


def bench(out: Path, *names: str, quick: bool = False) -> tuple[dict[str, Any], str]:
    screen = StringIO()
    run_bench(names, quick=quick, out=out, console=Console(file=screen, width=100))
    return json.loads(out.read_text()), screen.getvalue()


def test_everything_is_measured_by_default(
    tmp_path: Path, sections: list[tuple[str, bool]]
) -> None:
    written, shown = bench(tmp_path / "bench.json")
    names = ["kernel", "federation", "hospitals", "capc"]
    assert sections == [(name, False) for name in names]
    assert written["sections"] == {name: {"figure": at} for at, name in enumerate(names, 1)}
    assert written["command"] == "fl-he bench"
    assert (written["version"], written["fl_he"], written["quick"]) == (1, __version__, False)
    assert written["seconds"] >= 0
    assert written["machine"]["cores"] >= 1
    for name in names:
        assert f"{name} is at work" in shown
        assert re.search(f"^{name}: ", shown, re.MULTILINE)


def test_sections_are_chosen(tmp_path: Path, sections: list[tuple[str, bool]]) -> None:
    out = tmp_path / "figures.json"
    written, shown = bench(out, "hospitals", "kernel", quick=True)
    assert sections == [("kernel", True), ("hospitals", True)]
    assert written["quick"] is True
    assert written["command"] == "fl-he bench hospitals kernel --quick"
    assert "Quick" in shown
    assert str(tmp_path) not in out.read_text()


def test_what_was_measured_survives_an_interrupt(
    tmp_path: Path, sections: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(quick: bool, follow: Follow) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setitem(command.SECTIONS, "federation", Section(interrupt, lambda _: Text()))
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["sections"] == {
        "kernel": {"figure": 1}
    }


def test_refusals_come_before_any_work(tmp_path: Path, sections: list[tuple[str, bool]]) -> None:
    with pytest.raises(BenchError, match="one of kernel, federation, hospitals, capc, got kernels"):
        bench(tmp_path / "bench.json", "kernel", "kernels")
    with pytest.raises(BenchError, match="out must be a file in a folder that exists"):
        bench(tmp_path / "nowhere" / "bench.json")
    with pytest.raises(BenchError, match="out must be a file"):
        bench(tmp_path)
    assert sections == []


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    out, err = fl_he(tmp_path, "speed").communicate()
    assert (out, err) == (
        "",
        "fl-he: a section must be one of kernel, federation, hospitals, capc, got speed\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "at_work"), [("kernel", "cold"), ("federation", "plain: warming up")]
)
def test_ctrl_c_leaves_no_process(tmp_path: Path, section: str, at_work: str) -> None:
    with fl_he(tmp_path, section, "--quick") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if at_work in line:
                break
        started = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "fl-he: interrupted"
    assert "Traceback" not in err
    assert section == "kernel" or started, "Ray must have been running"
    deadline = time.monotonic() + 20
    while alive := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)
