"""Replies of a hospital without patients: the form of the replies of all hospitals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from fl_he.clients.clipping import Clipping
from fl_he.clients.hospital import ANSWERS, HospitalData, means_of
from fl_he.clients.table_cells import blank_cells
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.incomplete import Incomplete
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import TABLE
from fl_he.wire.learning_terms import LearningTerms, TrainingTerms, read_privacy
from fl_he.wire.records import CONFIG

#: Classes that need no names.
_TWO = 2


def blank_reply(action: str, content: RecordDict, hospital: HospitalData) -> RecordDict | None:
    """Return what a hospital of the same columns and classes without patients would answer.

    Its arrays and metrics have the names, shapes and types of every reply to the message, and it is
    refused for what is wrong with the message alone.

    Parameters
    ----------
    action : str
        The message's type.
    content : RecordDict
    hospital : HospitalData

    Returns
    -------
    RecordDict or None
        ``None`` if the message is none that hospitals answer.
    """
    if action == TABLE:
        return blank_cells(content, hospital)
    if (answer := ANSWERS.get(action)) is None:
        return None
    blank = _without_patients(content, hospital)
    if means_of(action, content, hospital.dataset) is not None:
        blank = replace(blank, dataset=replace(blank.dataset, incomplete=None))
    return answer(content, blank)


def blank_hospital(config: ConfigRecord, packing: Packing) -> HospitalData:
    """Return a hospital without patients, of the features and classes that a train config says.

    Parameters
    ----------
    config : ConfigRecord
        With `TrainingTerms`, and the terms of privacy where there are any.
    packing : Packing
        The hospital's.

    Raises
    ------
    ProtocolError
        If the train config says none.
    """
    terms = TrainingTerms.from_content(RecordDict({CONFIG: config}))
    privacy = read_privacy(config)
    names, labels = (
        tuple(map(str, range(count)))
        for count in (terms.features, terms.classes if terms.classes > _TWO else 0)
    )
    return HospitalData(
        Dataset(
            *(np.zeros((1, terms.features)), np.ones(1), names),
            classes=labels,
            family=terms.family,
            incomplete=Incomplete.blank(terms.imputed) if terms.imputed else None,
        ),
        model_path=None,
        clipping=None if privacy is None else Clipping(privacy.clip, packing.fraction_bits),
        limbs=Limbs(packing.fraction_bits, packing.integer_bits),
    )


def _without_patients(content: RecordDict, hospital: HospitalData) -> HospitalData:
    """Return the hospital with one row of the mean that the message holds, or else of zeros."""
    dataset = hospital.dataset
    features = len(dataset.feature_names)
    mean = LearningTerms.from_content(content).mean
    row = np.array([mean]) if len(mean) == features else np.zeros((1, features))
    waiting = dataset.incomplete and Incomplete.blank(dataset.incomplete.names)
    empty = replace(dataset, features=row, labels=np.ones(1), incomplete=waiting, exposure=None)

    def held_out() -> Dataset:
        hospital.held_out()  # a table that has changed is refused, not counted as zeros
        return empty

    return replace(
        hospital,
        dataset=empty,
        model_path=None,
        held_out=held_out,
    )
