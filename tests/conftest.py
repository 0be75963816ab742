"""Fixtures and options of every test."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import Phase, settings
from matplotlib.figure import Figure

# A busy machine is no failure; mutation tests choose their own profile.
settings.register_profile("usual", deadline=None)
settings.load_profile("usual")
# For mutation tests: the same few examples for each mutant, and none is made smaller.
settings.register_profile(
    "mutation",
    derandomize=True,
    max_examples=20,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
)


_SAVEFIG = Figure.savefig


@functools.cache
def _mutation_seconds() -> Mapping[str, float]:
    """Return the time of each test, by mutmut's statistics; empty in a usual run."""
    statistics = Path("mutmut-stats.json")
    if not statistics.exists():
        return {}
    seconds: dict[str, float] = json.loads(statistics.read_text())["duration_by_test"]
    return seconds


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long text by its beginning: the processes of pytest-xdist send names to and fro."""
    return f"{val[:60]!r}..." if isinstance(val, str | bytes) and len(val) > 100 else None


def pytest_collection_finish() -> None:
    """Keep the garbage collector from all that was imported: it is never garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with tests that wait for processes: others compute meanwhile."""
    if seconds := _mutation_seconds():
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))  # most mutants die at once
    else:
        markers = ("waits", "slow")  # the longest waits first, so that they are not last
        items.sort(key=lambda item: [item.get_closest_marker(one) is None for one in markers])


@pytest.fixture(autouse=True, scope="module")
def _unrendered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave matplotlib's rendering, a second a run, to tests and modules that ask for it.

    Figures are made everywhere, and written as empty images.
    """
    if any("rendered" in mark.args for mark in request.node.iter_markers("usefixtures")):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _empty_image)
        yield


@pytest.fixture(autouse=True, scope="session")
def _unsynced() -> Iterator[None]:
    """Do not wait for the disk, in this process: no test switches the machine off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Let SIGINT end started programs, also if the tests are a script's job in the background.

    Such a job ignores SIGINT. The programs that it starts do too, and no trap of a shell undoes it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render figures in a test that looks at them."""
    monkeypatch.setattr(Figure, "savefig", _SAVEFIG)


def _empty_image(_: object, file: IO[Any], *, format: str, **__: object) -> None:  # noqa: A002 - matplotlib's name
    file.write("<svg ></svg>" if format == "svg" else b"\x89PNG")


@pytest.fixture(autouse=True, scope="session")
def _flower_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the files of nodes that have no other place out of the tester's home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_HOME", str(tmp_path_factory.mktemp("flower")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _task_identity_of_fixtures() -> None:
    """Pose as a process that Flower has started: without an identity no message can be made."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1


@pytest.fixture(autouse=True)
def _task_identity(_task_identity_of_fixtures: None) -> None:
    """Restore the identity that the last test may have changed."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
