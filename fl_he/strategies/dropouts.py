"""Hospitals that are missing from a sum: wait for them, stop the run, or continue without them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from time import monotonic

from flwr.app import Message

from fl_he.config.groups import AUTO, CONTINUE, ON_DROPOUT, WAIT
from fl_he.strategies.skipping import error_reason
from fl_he.wire.encrypted_sum import printable
from fl_he.wire.records import ProtocolError
from fl_he.wire.update_layout import NoMeanError

#: Seconds before a hospital is asked again, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: Seconds between two looks for a hospital that is not connected.
LOOK = 5.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Hospitals that a round needs, and seconds that it waits for nodes.

    The attributes are parameters of :class:`~fl_he.strategies.SequentialPaillier`, which says more.
    """

    min_contributors: int = 3
    hop_timeout: float = 600.0
    key_holder_timeout: float = 600.0
    node_timeout: float = 60.0
    on_dropout: str = AUTO
    dropout_timeout: float = 3600.0

    def __post_init__(self) -> None:
        if self.on_dropout not in ON_DROPOUT:
            raise ProtocolError(
                f"on_dropout must be one of {list(ON_DROPOUT)}, got {self.on_dropout!r}"
            )
        if self.min_contributors < 1:
            raise ProtocolError(f"min_contributors must be at least 1, got {self.min_contributors}")

    def with_manifest(self, manifest: Collection[str]) -> str:
        """Return `on_dropout`, decided by whether there are hospitals of a manifest."""
        if self.on_dropout != AUTO:
            return self.on_dropout
        return WAIT if manifest else CONTINUE

    def too_few(self, contributors: int, explanation: str = "", cause: str = "") -> NoMeanError:
        """Return the refusal of a round of fewer contributors than ``min_contributors``."""
        return NoMeanError(
            f"{cause and f'{cause}; '}a round must have at least {self.min_contributors} "
            f"contributors (min_contributors), got {contributors}{explanation}"
        )


def more_nodes(hospitals: int, present: int) -> str:
    """Say how many nodes a simulation lacks: a user who counts hospitals has one too few."""
    missing = hospitals - present
    more = "one node more" if missing == 1 else f"{missing} nodes more"
    return f"; start {more}: the last one is company X (num-supernodes={hospitals + 1})"


class ResumableError(ProtocolError):
    """A node is away; nothing is wrong with the run, which can be resumed."""


class DropoutError(ResumableError):
    """Hospitals are missing, and no total is opened without them.

    Parameters
    ----------
    names : iterable of str
        Of the hospitals.
    reason : str
    on_dropout : str
        The setting.
    """

    def __init__(self, names: Iterable[str], reason: str, on_dropout: str) -> None:
        super().__init__(
            f"with on_dropout={on_dropout} no total is opened without {_listed(names)}: {reason}; "
            "resume the run when all hospitals answer"
        )


class Patience:
    """Time that one sum has for hospitals that are missing.

    Parameters
    ----------
    limit : float
        Seconds, from the first time that a hospital was missing.
    on_dropout : str
        The setting, for the error.
    """

    def __init__(self, limit: float, on_dropout: str) -> None:
        self._limit, self._on_dropout = limit, on_dropout
        self._end: float | None = None
        self._told = ""

    def wait_for(self, names: Iterable[str], progress: str) -> None:
        """Tell who is waited for, if that is news; raises DropoutError when the time is over."""
        now = monotonic()
        self._end = now + self._limit if self._end is None else self._end
        if now > self._end:
            reason = f"{progress} after {self._limit:g} s (dropout_timeout)"
            raise DropoutError(names, reason, self._on_dropout)
        words = f"waiting for {_listed(names)}, {progress}"
        if words != self._told:
            _logger.warning("%s", words)
        self._told = words


class Progress:
    """Warnings, some seconds apart, of the nodes that a run waits for."""

    def __init__(self) -> None:
        self._told = monotonic()

    def tell(self, words: str) -> None:
        """Warn of this progress unless it is too early for another line."""
        if monotonic() > self._told + LOOK:
            self._told = monotonic()
            _logger.warning("waiting for nodes: %s", words)


def _listed(names: Iterable[str]) -> str:
    """Return names for messages to people; company X may name whom it likes."""
    return ", ".join(printable(name) for name in sorted(names))


@dataclass(slots=True)
class _Absence:
    """A hospital that has not answered: when to ask it again, and the pause after that."""

    due: float
    pause: float = _FIRST_PAUSE


class AskAgain:
    """Names the node to ask again for each hospital that has not answered one sum's message.

    Parameters
    ----------
    patience : Patience
    hospitals : int
        How many take part in the sum.
    answered : int
        How many have answered so far; to be counted on.
    name : callable
        Returns a hospital's name by the node that was asked.
    find : callable
        Returns the node of that name that is connected now, ``None`` if none is.
    """

    def __init__(
        self,
        patience: Patience,
        hospitals: int,
        answered: int,
        name: Callable[[int], str],
        find: Callable[[str], int | None],
    ) -> None:
        self.answered = answered
        self._patience, self._hospitals = patience, hospitals
        self._name, self._find = name, find
        self._absent: dict[str, _Absence] = {}

    def hear(self, reply: Message) -> None:
        """Note that a hospital has answered."""
        self.answered += 1
        self._absent.pop(self._name(reply.metadata.src_node_id), None)

    def __call__(self, asked: Message, answer: Message) -> int | None:
        """See `fl_he.strategies.exchange.Again`; raises DropoutError when the time is over."""
        name, now = self._name(asked.metadata.dst_node_id), monotonic()
        if name not in self._absent:
            _logger.warning("%s has not answered: %s", name, error_reason(answer))
            self._absent[name] = _Absence(now + _FIRST_PAUSE)
        progress = f"{self.answered} of {self._hospitals} answered"
        self._patience.wait_for(self._absent, progress)
        absence = self._absent[name]
        if now < absence.due:
            return None
        node_id = self._find(name)
        if node_id is None:
            absence.due = now + LOOK
        else:
            absence.pause = min(2 * absence.pause, _LONGEST_PAUSE)
            absence.due = now + absence.pause
        return node_id
