from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from quick import release
from rich.console import Console
from rich.text import Text

from fl_he import __version__
from fl_he.bench import command
from fl_he.bench.command import SECTIONS, describe_machine, follow, run_bench
from fl_he.bench.fresh import BenchError
from fl_he.bench.kernel import ROWS
from fl_he.bench.timing import Follow

ROOT = Path(__file__).parents[2]
#: Name of a section, whether quickly, and the rows.
Measured = tuple[str, bool, tuple[str, ...]]


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
def sections(monkeypatch: pytest.MonkeyPatch) -> list[Measured]:
    """Replace the sections by quick stand-ins; return the list of measured sections."""
    measured: list[Measured] = []

    def measure(name: str, quick: bool, rows: Sequence[str], follow: Follow) -> dict[str, Any]:
        follow(f"{name} is at work")
        measured.append((name, quick, tuple(rows)))
        return {"figure": len(measured)}

    def shown(name: str, result: Mapping[str, Any]) -> Text:
        return Text(f"{name}: {result['figure']}")

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "SECTIONS", {name: partial(shown, name) for name in SECTIONS})
    return measured


def bench(
    out: Path, *names: str, quick: bool = False, rows: Sequence[str] = ROWS
) -> tuple[dict[str, Any], str]:
    screen = StringIO()
    run_bench(names, quick=quick, out=out, console=Console(file=screen, width=100), rows=rows)
    return json.loads(out.read_text()), screen.getvalue()


def test_everything_is_measured_by_default(tmp_path: Path, sections: list[Measured]) -> None:
    written, shown = bench(tmp_path / "bench.json")
    names = ["kernel", "federation", "large-model", "hospitals", "capc"]
    assert sections == [(name, False, ROWS) for name in names]
    assert written["sections"] == {name: {"figure": at} for at, name in enumerate(names, 1)}
    assert written["command"] == "fl-he bench"
    assert (written["version"], written["fl_he"], written["quick"]) == (1, __version__, False)
    assert written["seconds"] >= 0
    assert written["machine"]["cores"] >= 1
    for name in names:
        assert f"{name} is at work" in shown
        assert re.search(f"^{name}: ", shown, re.MULTILINE)


def test_sections_are_chosen(tmp_path: Path, sections: list[Measured]) -> None:
    out = tmp_path / "figures.json"
    written, shown = bench(out, "hospitals", "kernel", quick=True)
    assert sections == [("kernel", True, ROWS), ("hospitals", True, ROWS)]
    assert written["quick"] is True
    assert written["command"] == "fl-he bench hospitals kernel --quick"
    assert "Quick" in shown
    assert str(tmp_path) not in out.read_text()


def test_rows_are_chosen(tmp_path: Path, sections: list[Measured]) -> None:
    written, _ = bench(tmp_path / "bench.json", "kernel", rows=["masks", "bfv"])
    assert sections == [("kernel", False, ("masks", "bfv"))]
    assert written["command"] == "fl-he bench kernel --rows masks,bfv"


def test_what_was_measured_survives_an_interrupt(
    tmp_path: Path, sections: list[Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = command.measure

    def interrupt(name: str, quick: bool, rows: Sequence[str], follow: Follow) -> dict[str, Any]:
        if name == "federation":
            raise KeyboardInterrupt
        return measure(name, quick, rows, follow)

    monkeypatch.setattr(command, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["sections"] == {
        "kernel": {"figure": 1}
    }


def test_refusals_come_before_any_work(tmp_path: Path, sections: list[Measured]) -> None:
    names = "kernel, federation, large-model, hospitals, capc"
    with pytest.raises(BenchError, match=f"one of {names}, got kernels"):
        bench(tmp_path / "bench.json", "kernel", "kernels")
    with pytest.raises(BenchError, match=r"a row must be one of phe, heu, .*, bfv, got mask$"):
        bench(tmp_path / "bench.json", rows=["masks", "mask"])
    with pytest.raises(BenchError, match="out must be a file in a folder that exists"):
        bench(tmp_path / "nowhere" / "bench.json")
    with pytest.raises(BenchError, match="out must be a file"):
        bench(tmp_path)
    assert sections == []


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    out, err = fl_he(tmp_path, "speed").communicate()
    assert (out, err) == (
        "",
        "fl-he: a section must be one of kernel, federation, large-model, hospitals, capc, "
        "got speed\n",
    )


def test_rows_are_named_on_the_command_line(tmp_path: Path) -> None:
    _, err = fl_he(tmp_path, "kernel", "--rows", "masks,speed").communicate()
    assert err == "fl-he: a row must be one of phe, heu, fl-he, masks, ckks, bfv, got speed\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "at_work"), [("kernel", "cold"), *release(("federation", "plain: warming up"))]
)
def test_ctrl_c_leaves_no_process(tmp_path: Path, section: str, at_work: str) -> None:
    with fl_he(tmp_path, section, "--quick") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if at_work in line:
                break
        started = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "fl-he: interrupted"
    assert "Traceback" not in err
    assert section == "kernel" or started, "Ray must have been running"
    deadline = time.monotonic() + 120
    while alive := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)


def test_plain_lines_where_nobody_watches() -> None:
    out = StringIO()
    with follow(Console(file=out, width=80)) as show:
        show("one")
        show("two", 1, 4)
        show("two", 2, 4)
        show("one")
    assert out.getvalue() == "one\ntwo\n"


def test_a_terminal_sees_how_far_it_is() -> None:
    out = StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with follow(console) as show:
        show("encrypting", 3, 4)
        show("decrypting")
    assert "decrypting" in out.getvalue()


def test_the_machine_is_described() -> None:
    found = describe_machine()
    assert found["cpu"].strip()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert 0.5 < found["memory_gib"] < 100_000
    assert found["libraries"]["numpy"] == version("numpy")
    assert found["libraries"]["flwr"] == version("flwr")
    json.dumps(found, allow_nan=False)


def test_nothing_names_the_machine() -> None:
    text = json.dumps(describe_machine())
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_what_is_not_installed_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_LIBRARIES", ("numpy", "no-such-package"))
    assert describe_machine()["libraries"]["no-such-package"] is None
