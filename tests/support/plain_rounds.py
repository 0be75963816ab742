"""A training by hospitals' own replies, added up without encryption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fl_he.clients.hospital import ANSWERS, HospitalData
from fl_he.learning.optimizers.task import Task
from fl_he.learning.optimizers.training import Training
from fl_he.learning.tables.data import Dataset
from fl_he.wire.encrypted_sum import NUM_EXAMPLES
from fl_he.wire.model import named_arrays, read_named_array
from fl_he.wire.training_messages import ACTIONS, question_of, take_total


def trained(hospitals: Sequence[Dataset], task: Task, rounds: int = 50) -> Training:
    """Train until the training is over, for at most `rounds` rounds."""
    training = Training(task)
    while not training.is_over and training.steps < rounds:
        purpose = next(one for one in ACTIONS if one == training.due)
        action, content = question_of(training, purpose, ConfigRecord())
        replies = [ANSWERS[action](content, HospitalData(one, None)) for one in hospitals]
        take_total(training, purpose, _mean(replies))
    return training


def _mean(replies: Sequence[RecordDict]) -> RecordDict:
    records = [next(iter(reply.array_records.values())) for reply in replies]
    sizes = [int(str(next(iter(one.metric_records.values()))[NUM_EXAMPLES])) for one in replies]
    means = {name: _weighted(records, name, sizes) for name in records[0]}
    metrics = MetricRecord({NUM_EXAMPLES: sum(sizes)})
    return RecordDict({"arrays": named_arrays(**means), "metrics": metrics})


def _weighted(records: Sequence[ArrayRecord], name: str, sizes: Sequence[int]) -> np.ndarray:
    total = sum(s * read_named_array(one, name) for one, s in zip(records, sizes, strict=True))
    return np.asarray(total / sum(sizes))
