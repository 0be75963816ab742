"""Events of a run, told to whoever follows it: the terminal, trackers, the log.

They are told from the thread in which the coordinator works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Starting:
    """Nothing was refused, and a simulation's nodes are started next, by ``simulation.engine``."""

    engine: str


@dataclass(frozen=True, slots=True)
class OptimizerChosen:
    """The nodes have said how large the model is; ``reason`` says why it is this optimizer."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class HopBegan:
    """A message has gone out to a node.

    Attributes
    ----------
    node : str
        The node's name.
    action : str
        What the node is asked for.
    """

    node: str
    action: str


@dataclass(frozen=True, slots=True)
class HopEnded:
    """A node has answered.

    Attributes
    ----------
    node, action : str
        As in `HopBegan`.
    seconds : float
        From the message to the answer.
    failed : bool
        Whether the answer is an error.
    """

    node: str
    action: str
    seconds: float
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round of training is done; ``entry`` is its entry of ``rounds`` in metrics.json."""

    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProfileAdvanced:
    """An iteration of the search for bounds of profile likelihood intervals is done.

    Attributes
    ----------
    iteration : int
        From 1.
    ended, bounds : int
        Bounds whose search has ended, and all of them.
    """

    iteration: int
    ended: int
    bounds: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of CaPC is done; ``step`` is the step's name."""

    step: str


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """A querying party's batch of this many queries is answered."""

    party: str
    queries: int


@dataclass(frozen=True, slots=True)
class Finishing:
    """All rounds are done; the run compares its result and writes its files."""


Event = (
    Starting
    | OptimizerChosen
    | HopBegan
    | HopEnded
    | RoundEnded
    | ProfileAdvanced
    | StepEnded
    | BatchEnded
    | Finishing
)

#: Is told each event.
Listener = Callable[[Event], None]


def unheard(_: Event) -> None:
    """Listen to nothing."""
