"""One hop: a message to a node, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hop:
    """What the coordinator sees of it.

    Attributes
    ----------
    node : str
        The node's name.
    action : str
        What it was asked for.
    seconds : float or None
        From the message to the answer; None while it is under way.
    failed : bool
        Whether the answer is an error.
    """

    node: str
    action: str
    seconds: float | None = None
    failed: bool = False


#: Is told of each hop when it begins and when it ends, from any thread.
OnHop = Callable[[Hop], None]
