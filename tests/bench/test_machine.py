from __future__ import annotations

import json
import os
import socket
from importlib.metadata import version
from pathlib import Path

import pytest

from fl_he.bench import timing
from fl_he.bench.timing import describe_machine


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
    monkeypatch.setattr(timing, "_LIBRARIES", ("numpy", "no-such-package"))
    assert describe_machine()["libraries"]["no-such-package"] is None
