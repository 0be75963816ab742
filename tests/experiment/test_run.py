"""The loop of a run: its order, its events, and no files after a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_he.config.run import Config
from fl_he.experiment.run import execute
from fl_he.wire.events import Event, Finishing, HopBegan, Listener, RoundEnded


class Two:
    """A run of two rounds that notes its calls."""

    def __init__(self, tell: Listener, done: list[object]) -> None:
        self.tell, self.done = tell, done

    def rounds(self) -> Iterator[Event]:
        for number in (1, 2):
            self.tell(HopBegan("hospital-1", f"train {number}"))
            self.done.append(f"kept {number}")
            yield RoundEnded({"round": number})

    def finish(self) -> dict[str, Any]:
        self.done.append("files")
        return {"seconds": 1.0}


def test_rounds_are_kept_before_they_are_told_and_files_come_last(tmp_path: Path) -> None:
    done: list[object] = []
    metrics = execute(lambda tell: Two(tell, done), Config(), tmp_path, done.append)
    assert metrics == {"seconds": 1.0}
    assert done == [
        *(HopBegan("hospital-1", "train 1"), "kept 1", RoundEnded({"round": 1})),
        *(HopBegan("hospital-1", "train 2"), "kept 2", RoundEnded({"round": 2})),
        *(Finishing(), "files"),
    ]


def test_whoever_listens_may_end_the_run(tmp_path: Path) -> None:
    done: list[object] = []

    def hear(event: Event) -> None:
        if isinstance(event, RoundEnded):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(lambda tell: Two(tell, done), Config(), tmp_path, hear)
    assert done == ["kept 1"]
