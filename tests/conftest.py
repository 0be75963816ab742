"""What every test needs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import Phase, settings

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


@functools.cache
def _mutation_seconds() -> Mapping[str, float]:
    """Return what each test takes, by mutmut's statistics; nothing in a usual run."""
    statistics = Path("mutmut-stats.json")
    if not statistics.exists():
        return {}
    seconds: dict[str, float] = json.loads(statistics.read_text())["duration_by_test"]
    return seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what is slow: its processes wait while others compute."""
    if seconds := _mutation_seconds():
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))  # most mutants die at once
    else:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="module")
def _unrendered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave matplotlib's rendering, a second a run, to slow tests and to those of pages and plots.

    Figures are made everywhere, and written as empty images.
    """
    if request.config.option.markexpr == "slow" or "report" in request.path.parts:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", _empty_image)
        yield


def _empty_image(_: object, file: IO[Any], *, format: str, **__: object) -> None:  # noqa: A002 - matplotlib's name
    file.write("<svg ></svg>" if format == "svg" else b"\x89PNG")


@pytest.fixture(autouse=True, scope="session")
def _task_identity_of_fixtures() -> None:
    """Be a process that Flower has started: without an identity no message can be made."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1


@pytest.fixture(autouse=True)
def _task_identity(_task_identity_of_fixtures: None) -> None:
    """Be that process again, whatever the last test has done."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
