"""The helper process: its work, and the fallback in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from experiments import experiment

from fl_he import simulation
from fl_he.experiment.helper import Helper, helped


@pytest.fixture
def helper() -> Iterator[Helper]:
    with Helper() as started:
        started.start()
        yield started


def test_without_a_helper_a_function_is_called_here() -> None:
    with Helper():
        assert helped(os.getpid) == os.getpid()


@pytest.mark.slow
def test_a_helper_calls_functions_in_one_other_process(helper: Helper) -> None:
    process = helped(os.getpid)
    helper.start()
    assert helped(os.getpid) == process != os.getpid()
    assert psutil.Process(process).ppid() == os.getpid()
    assert helped(sorted, [3, 1, 2], reverse=True) == [3, 2, 1]
    helped(print, "stray")
    assert helped(abs, -1) == 1
    with Helper():
        pass
    helper.__exit__()
    assert not psutil.pid_exists(process)
    assert helped(os.getpid) == os.getpid()


def test_a_run_goes_on_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with Helper() as helper:
        helper.start()
        assert helped(os.getpid) == os.getpid()


@pytest.mark.slow
def test_what_fails_in_the_helper_is_done_here(helper: Helper) -> None:
    with pytest.raises(ValueError, match="'x'"):
        helped(int, "x")
    assert helped(os.getpid) != os.getpid()
    with pytest.raises(SystemExit):  # ends the helper process too
        helped(sys.exit, 3)
    assert helped(os.getpid) == os.getpid()


def test_a_run_compares_and_draws_in_the_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: Helper
) -> None:
    called: list[str] = []
    call = Helper.call

    def spy(self: Helper, function: Any, *args: Any, **kwargs: Any) -> tuple[bool, Any]:
        done = call(self, function, *args, **kwargs)
        called.append(f"{function.__name__} {done[0]}")
        return done

    monkeypatch.setattr(Helper, "call", spy)
    found = []
    for name in ("there", "here"):
        config = experiment("rounds=2", "simulation.engine=local", folder=tmp_path / name)
        found.append(simulation.run(config, tmp_path / name))
        assert (tmp_path / name / "report.html").is_file()
        assert (tmp_path / name / "comparison.png").is_file()
        helper.__exit__()
    assert called == ["at_the_end True", "draw_run True"]
    assert found[0]["local"] == found[1]["local"]
    assert found[0]["pooled"]["coefficients"] == found[1]["pooled"]["coefficients"]
