"""A hospital's reply to the question for a table of descriptive statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he.clients.hospital import HospitalData
from fl_he.learning.describing.cells import Bounded, Sums, count_cells, places
from fl_he.learning.describing.form import TableForm, table_form
from fl_he.learning.describing.noisy import noisy_sum
from fl_he.learning.errors import DataError
from fl_he.wire.encrypted_sum import NUM_EXAMPLES, TABLE
from fl_he.wire.model import named_arrays, update_content
from fl_he.wire.records import PrivateReasonError, ProtocolError, refused_as
from fl_he.wire.table import TableRequest


def add_tables(app: ClientApp, data: Callable[[Context], HospitalData]) -> ClientApp:
    """Register the handler that counts for tables; the app is changed and returned."""

    @app.evaluate(TABLE.partition(".")[2])
    def count(message: Message, context: Context) -> Message:
        return Message(table_cells(message.content, data(context)), reply_to=message)

    return app


def table_cells(content: RecordDict, hospital: HospitalData) -> RecordDict:
    """Return the cells of a hospital's rows, to be weighted by the number of rows.

    Raises
    ------
    ProtocolError
        If the form of the table is not of the hospital's columns.
    PrivateReasonError
        If sums have no digits.
    """
    dataset, form = hospital.dataset, _own_form(content, hospital)
    try:
        cells = count_cells(dataset, form, _sums(hospital))
    except DataError as error:
        raise PrivateReasonError(str(error)) from None
    return _reply(cells, dataset.examples)


def blank_cells(content: RecordDict, hospital: HospitalData) -> RecordDict:
    """Return a reply of the form of `table_cells` that depends on no row."""
    return blank_table(_own_form(content, hospital), _sums(hospital))


def blank_table(form: TableForm, sums: Sums) -> RecordDict:
    """Return a reply with zeros to the question for a table.

    Raises
    ------
    ProtocolError
        If the reply would have too many numbers.
    """
    with refused_as("the form of a table:"):
        width = places(form, sums)[2]
    return _reply(np.zeros((form.parts, width)), 1)


def _own_form(content: RecordDict, hospital: HospitalData) -> TableForm:
    asked = TableRequest.from_content(content).form
    names = [facts.name for facts in asked.columns]
    with refused_as("the form of a table:"):
        own = table_form(hospital.dataset, names, asked.by, asked.bins, asked.times)
        places(own, sums := _sums(hospital))
        if isinstance(sums, Bounded):
            noisy_sum(own, sums)
    if own != asked:
        raise ProtocolError(
            "the form of a table must have the levels, bounds and groups that this hospital's "
            "schema declares, and it has others"
        )
    return own


def _sums(hospital: HospitalData) -> Sums:
    clipping = hospital.clipping
    return hospital.limbs if clipping is None else Bounded(clipping.fraction_bits)


def _reply(cells: NDArray[np.float64], examples: int) -> RecordDict:
    arrays = named_arrays(cells=cells / examples)
    return update_content(arrays, MetricRecord({NUM_EXAMPLES: examples}))
