"""Steps of a node from one total to the next model, sealed or in the open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, MessageType, RecordDict

from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.model import model_message_content
from fl_he.wire.records import ProtocolError

Step = Callable[[ArrayRecord, RecordDict, ConfigRecord], ArrayRecord]


def average_step(model: ArrayRecord, mean: RecordDict, config: ConfigRecord) -> ArrayRecord:
    """Return the mean as the next model: federated averaging."""
    return next(iter(mean.array_records.values()))


@dataclass(frozen=True, slots=True)
class Learnt:
    """A model after some totals: its arrays, and a learner's memory as text."""

    model: ArrayRecord
    memory: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """Public facts of a training after a total.

    Attributes
    ----------
    prepares : bool
        Whether no step followed: the total was of data, or the first of an iteration's two sums.
    over : bool
        Whether training has reached the optimum.
    """

    prepares: bool = False
    over: bool = False


class Course(ABC):
    """A model on one node while totals are applied to it; read once a message."""

    @property
    @abstractmethod
    def model(self) -> ArrayRecord:
        """The model after the last total."""

    @property
    def memory(self) -> str:
        """All that `at` needs in addition to the model."""
        return ""

    @property
    def longest_memory(self) -> int:
        """Most characters of `memory` in this task, for any data."""
        return 0

    @property
    def learnt(self) -> Learnt:
        """Model and memory, as a node keeps them."""
        return Learnt(self.model, self.memory)

    @abstractmethod
    def at(self, learnt: Learnt) -> Course:
        """Return the same course after other totals."""

    @abstractmethod
    def question(
        self, config: ConfigRecord, purpose: Purpose | None = None
    ) -> tuple[str, RecordDict]:
        """Return the type and the content of the message that the app is asked next.

        Without a purpose it is that of the next step.
        """

    @abstractmethod
    def step(
        self,
        mean: RecordDict,
        config: ConfigRecord,
        purpose: Purpose | None = None,
        min_cell: int = 1,
    ) -> None:
        """Continue by the weighted mean of the answers to `question`.

        Company X gives its ``min_cell``: a total of fewer cells is refused before it leaves.
        """

    @abstractmethod
    def final(self, config: ConfigRecord) -> RecordDict:
        """Return the content of the message with which the app saves the model."""

    def stage(self, config: ConfigRecord) -> Stage:
        """Return what everybody may know after the last total."""
        return Stage()

    def adopt(self, memory: str) -> None:
        """Continue with the step that company X has signed, if this node's own is the same."""
        if memory:
            raise ProtocolError("company X must sign no step of this app, and it has signed one")


class Learner(ABC):
    """Rules by which the next model follows from a total, and what is summed up next.

    Attributes
    ----------
    with_company_x : bool
        Whether company X takes each step too, and signs it with the total.
    """

    with_company_x = False

    @abstractmethod
    def begin(
        self, config: ConfigRecord, packing: Packing, first: Callable[[], ArrayRecord] | None
    ) -> Course:
        """Return where training starts.

        Parameters
        ----------
        config : ConfigRecord
            The train config.
        packing : Packing
            The node's own.
        first : callable or None
            Returns the model from which a hospital would start; ``None`` on company X's node, and
            where the course continues elsewhere.
        """


class _Stepping(Course):
    def __init__(self, step: Step, model: ArrayRecord) -> None:
        self._step, self._model = step, model

    @property
    def model(self) -> ArrayRecord:
        return self._model

    def at(self, learnt: Learnt) -> Course:
        return _Stepping(self._step, learnt.model)

    def question(
        self, config: ConfigRecord, purpose: Purpose | None = None
    ) -> tuple[str, RecordDict]:
        _require_training(purpose)
        return MessageType.TRAIN, model_message_content(self._model, config)

    def step(
        self,
        mean: RecordDict,
        config: ConfigRecord,
        purpose: Purpose | None = None,
        min_cell: int = 1,
    ) -> None:
        _require_training(purpose)
        _check_like(self._model, mean)
        self._model = self._step(self._model, mean, config)

    def final(self, config: ConfigRecord) -> RecordDict:
        return model_message_content(self._model, config)


class StepLearner(Learner):
    """A learner that takes a function's step; company X has no part in it.

    Parameters
    ----------
    step : callable
        Takes the model, the weighted mean of a round's replies and the train config, and returns
        the next model. All hospitals must come to the same one.
    """

    def __init__(self, step: Step = average_step) -> None:
        self._step = step

    def begin(
        self, config: ConfigRecord, packing: Packing, first: Callable[[], ArrayRecord] | None
    ) -> Course:
        """See Learner."""
        return _Stepping(self._step, ArrayRecord() if first is None else first())


def _require_training(purpose: Purpose | None) -> None:
    if purpose not in (None, "train"):
        raise ProtocolError(f"this app only trains: it has no sum for {purpose}")


def _check_like(model: ArrayRecord, mean: RecordDict) -> None:
    """Refuse a mean that is not of the model's arrays."""
    records = list(mean.array_records.values())
    if len(records) != 1 or _shapes(records[0]) != _shapes(model):
        raise ProtocolError("a total must have the names, shapes and types of the model's arrays")


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}
