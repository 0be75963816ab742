"""Tables of a deployed hospital that has a schema: ``schema`` and ``reading`` in its configuration.

A hospital in CaPC reads its cases by the same settings.

Importing this module imports neither pydantic nor PyYAML: most nodes have no schema.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context

from fl_he.clients.node.settings import node_path
from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset, first_schema_difference
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import Outcome

if TYPE_CHECKING:
    from fl_he.learning.tables.schema.description import Schema

_logger = logging.getLogger(__name__)


class DescribedTables:
    """A schema and the tables that are read by it.

    Parameters
    ----------
    shared : Schema
        As all hospitals have it.
    own : Schema
        The same, for files as this node's are written.
    """

    def __init__(self, shared: Schema, own: Schema) -> None:
        self.digest, self._own = shared.digest, own

    @classmethod
    def configured(cls, context: Context) -> DescribedTables | None:
        """Return those of a node's configuration, ``None`` without a schema.

        Raises
        ------
        ProtocolError
            If a file that a setting names cannot be used, where the node's log says why; or if
            ``reading`` stands alone.
        """
        path, reading = node_path(context, "schema"), node_path(context, "reading")
        if path is None:
            if reading is not None:
                raise ProtocolError("reading in the node configuration must come with schema")
            return None
        from fl_he.learning.tables.schema.description import (  # noqa: PLC0415 - lazy: pydantic
            read_schema,
        )

        try:
            place = "a reading file (reading in the node configuration)"
            return cls(read_schema(path), read_schema(path, reading, place))
        except DataError as error:
            _logger.error("%s", error)
            raise ProtocolError(
                "schema and reading in the node configuration must name files that this node can "
                "use: this node's log says what is wrong"
            ) from None

    @property
    def drops_rows(self) -> bool:
        """Whether a row may be left out for a missing cell."""
        return self._own.drops_rows

    @property
    def imputed(self) -> tuple[str, ...]:
        """Columns whose missing cells get the mean of all hospitals' cells."""
        return self._own.imputed

    @property
    def outcome(self) -> Outcome:
        """The outcome that the schema describes."""
        outcome = self._own.outcome
        described = outcome.positive, outcome.threshold, outcome.classes
        others = outcome.event or "", outcome.exposure or ""
        return Outcome(outcome.column, *described, outcome.models, *others)

    def load(self, path: Path) -> Dataset:
        """Return a table as the model takes it; raises DataError."""
        from fl_he.learning.tables.schema.application import (  # noqa: PLC0415 - lazy: pydantic
            load_by_schema,
        )

        return load_by_schema(path, self._own, fixed=True)

    def features(self, path: Path, names: Sequence[str]) -> Array:
        """Return the columns of the schema's terms of a table without outcome, shape (m, d).

        Parameters
        ----------
        path : Path
        names : sequence of str
            Of the columns, as parties have agreed on them.

        Raises
        ------
        DataError
            Of all that is wrong with the table, or if the columns have other names.
        """
        from fl_he.learning.tables.schema.application import (  # noqa: PLC0415 - lazy: pydantic
            features_by_schema,
        )

        features, found, _ = features_by_schema(path, self._own)
        if difference := first_schema_difference(names, found):
            raise DataError(f"the columns of the schema's terms must be those agreed: {difference}")
        return features

    def rows(self, path: Path, names: Sequence[str] | None = None) -> Dataset | None:
        """Return the rows of a table as other sessions compare them; raises DataError.

        Parameters
        ----------
        path : Path
        names : sequence of str or None
            Columns of the table; ``None``: those of the model.

        Returns
        -------
        Dataset or None
            ``None`` if the schema does not describe all of the columns.
        """
        from fl_he.learning.tables.schema.application import (  # noqa: PLC0415 - lazy: pydantic
            rows_by_schema,
        )

        return rows_by_schema(path, self._own, self._own.used if names is None else names)


def require_schema(tables: DescribedTables | None, agreed: str | None, ends: str) -> None:
    """Refuse a node whose schema is another than all have agreed on.

    Parameters
    ----------
    tables
        The node's.
    agreed
        Digest of the schema; ``None``: there is none.
    ends
        Where it is written, for the refusal.

    Raises
    ------
    ProtocolError
        If that is so.
    """
    own = None if tables is None else tables.digest
    if own != agreed:
        wanted = "be left out" if agreed is None else "name the shared schema"
        found = "names another" if own and agreed else "is set" if own else "is not set"
        raise ProtocolError(f"schema in the node configuration must {wanted}, {ends}; it {found}")
