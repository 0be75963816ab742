"""Messages of a table of descriptive statistics: its form, and what company X gives out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from flwr.app import ConfigRecord, RecordDict

from fl_he.crypto.encoding.fields import Kind, Place, form_of, kind_of
from fl_he.crypto.encoding.strict_json import Document
from fl_he.learning.describing.form import TableForm
from fl_he.learning.describing.statistics import Table
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.wire.learning_terms import privacy_members, read_privacy
from fl_he.wire.records import (
    CONFIG,
    SPARSE,
    Message,
    ProtocolError,
    Seconds,
    refused_as,
    sent_config,
)

_TEXT = kind_of(str)
_FORM = Document("the form of a table", form_of(TableForm).members, 1 << 22, ProtocolError)
_TABLE = Document("a table", form_of(Table).members, 1 << 24, ProtocolError)


def _read_form(text: object, at: Place) -> TableForm:
    with refused_as("the form of a table:"):
        return _FORM.loads(_TEXT.read(text, at), TableForm)


def _read_table(text: object, at: Place) -> Table:
    return _TABLE.loads(_TEXT.read(text, at), Table)


@dataclass(frozen=True, slots=True)
class TableRequest(Message):
    """Form of a table, as hospitals and company X are told it.

    Attributes
    ----------
    form : TableForm
    """

    form: Annotated[TableForm, Kind(_read_form, _FORM.dumps)]
    HOME: ClassVar[str] = "fl-he.table"

    @classmethod
    def is_in(cls, content: RecordDict) -> bool:
        """Tell whether a message is of a table."""
        return cls.HOME in content


def table_question(form: TableForm, terms: GaussianPrivacy | None = None) -> RecordDict:
    """Return the content of the question for a table, with terms of privacy if there are any."""
    content = TableRequest(form).to_content()
    if terms is not None:
        content[CONFIG] = ConfigRecord({**privacy_members(terms)})
    return content


def table_question_in(content: RecordDict) -> RecordDict:
    """Return the question for a table that a message holds among other records."""
    form = TableRequest.from_content(content).form
    return table_question(form, read_privacy(sent_config(content)))


@dataclass(frozen=True, slots=True)
class TableReply(Message):
    """Table without small counts, as company X gives it out for the purpose ``table``."""

    table: Annotated[Table, Kind(_read_table, _TABLE.dumps)] = field(repr=False)
    decrypt_seconds: Annotated[Seconds, SPARSE] = 0.0


def table_words(form: TableForm) -> list[str]:
    """Return lines that say what a table is of."""
    columns = form.columns
    numbers = [
        repr(facts.name)
        if facts.low is None or facts.high is None
        else f"{facts.name!r} {facts.low:g} to {facts.high:g}"
        for facts in columns
        if not facts.levels
    ]
    categories = [
        f"{facts.name!r} ({', '.join(facts.levels)})" for facts in columns if facts.levels
    ]
    by = f" by {form.by!r} ({', '.join(form.groups)})" if form.by else ""
    lines = {
        f"table of descriptive statistics{by}": [f"{form.bins} bins"],
        "its numbers": numbers,
        "its categories": categories,
        "its times": [f"{time:g}" for time in form.times],
    }
    return [f"{what}: {', '.join(names)}" for what, names in lines.items() if names]
