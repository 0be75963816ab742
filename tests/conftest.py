"""What every test needs."""

from __future__ import annotations

import pytest
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import Phase, settings

# For mutation tests: the same examples for each mutant, and none is made smaller.
settings.register_profile(
    "mutation",
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, and give the quick tests of a file to one process."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def _task_identity() -> None:
    """Be a process that Flower has started: without an identity no message can be made."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
