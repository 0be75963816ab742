"""Datasets: their contents, tables in files as datasets, and differences of schemas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array, different_names, finite_array, set_fields
from fl_he.learning.tables.columns import Numbers
from fl_he.learning.tables.described import Described
from fl_he.learning.tables.incomplete import Incomplete
from fl_he.learning.tables.labels import Labels, event_fault, exposure_fault
from fl_he.learning.tables.table import open_table, read_columns, refuse
from fl_he.learning.tables.table_file import INTERCEPT, RowNumbers, shown, some

_MOST_NAMED_COLUMNS = 40


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Dataset:
    """Examples of classes or of a number. Arrays are copied, read-only; ``repr`` shows no data.

    Parameters
    ----------
    features
        Shape (m, d), finite, m >= 1 and d >= 1.
    labels
        Shape (m,), each 0.0 or 1.0, or up to k - 1 with k ``classes``. One class only is allowed.
        With a ``family`` any numbers that are finite; of times to an event those without one have a
        minus sign.
    feature_names
        d different names, in the order of the columns.
    positive
        What label 1 stands for, such as ``"benign"``, or the name of an outcome that is a number;
        ``None`` if nobody said.
    classes
        What the labels 0, 1, ... stand for where there are more than two; else empty.
    types
        Type of each feature's column as its file declares it; empty where there is no file.
    levels
        Labels as the file spells them, sorted; empty where the target is a number.
    notes
        What the owner of the table should know of how it was read. They name columns.
    rows
        Where the rows are in their file; ``None`` where there is no file.
    schema
        Digest of the schema by which the table was read, as all hospitals have it; ``None``
        without.
    incomplete
        Columns with missing cells that wait for means; until then the features that depend on such
        a cell are 0. ``None`` if no column gets a mean.
    family
        Family of models of an outcome that is a number, such as ``"poisson"``; empty: the labels
        are classes.
    described
        Columns as they were read by a schema; ``None``: the features are the columns.
    exposure
        Shape (m,), above 0: person-time or another size of which the mean outcome is a multiple;
        ``None``: 1 in each row.
    exposure_name
        Of its column; empty without.
    left_out
        Number of rows of the file that are not here, as cells are missing.

    Raises
    ------
    DataError
        If one of these does not hold.
    """

    features: Array
    labels: Array
    feature_names: tuple[str, ...]
    positive: str | None = None
    classes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rows: RowNumbers | None = None
    schema: str | None = None
    incomplete: Incomplete | None = None
    family: str = ""
    described: Described | None = None
    exposure: Array | None = None
    exposure_name: str = ""
    left_out: int = 0

    def __post_init__(self) -> None:
        features = finite_array(self.features, "features", dimensions=2)
        labels = finite_array(self.labels, "labels", dimensions=1)
        rows, columns = features.shape
        if rows == 0 or columns == 0:
            raise DataError(f"features must have rows and columns, got shape {features.shape}")
        if len(labels) != rows:
            raise DataError(
                f"labels must have one value for each of {rows} rows, got {len(labels)}"
            )
        names = different_names("feature_names", self.feature_names, 1)
        if len(names) != columns:
            raise DataError(
                f"feature_names must be one for each of {columns} columns, got {len(names)}"
            )
        classes = different_names("classes", self.classes, 3) if self.classes else ()
        outside = int(np.count_nonzero(~np.isin(labels, np.arange(len(classes) or 2))))
        if outside and not self.family:
            allowed = f"0.0 to {len(classes) - 1:.1f}" if classes else "0.0 or 1.0"
            raise DataError(f"labels must be {allowed}, got {outside} other values")
        exposure = self.exposure
        if exposure is not None:
            exposure = finite_array(exposure, "exposure", dimensions=1)
            if exposure.shape != labels.shape or not (exposure > 0.0).all():
                raise DataError(f"exposure must be above 0 in each of {rows} rows")
        arrays = {"features": features, "labels": labels, "exposure": exposure}
        set_fields(self, **arrays, feature_names=names, classes=classes)

    def __repr__(self) -> str:
        rows, columns = self.features.shape
        return f"Dataset(examples={rows}, features={columns})"

    @property
    def examples(self) -> int:
        """The number of rows, m."""
        return len(self.labels)

    @property
    def class_count(self) -> int:
        """Number of classes, at least 2; 0 where the outcome is a number."""
        return 0 if self.family else len(self.classes) or 2

    @property
    def exposed(self) -> Array:
        """The exposure of each row, shape (m,); 1 where the dataset has none."""
        return np.ones(self.examples) if self.exposure is None else self.exposure

    def take(self, indices: NDArray[np.intp]) -> Dataset:
        """Return the rows at ``indices``, in that order; none counts as left out."""
        rows = self.rows and replace(self.rows, numbers=self.rows.numbers[indices])
        return replace(
            self,
            features=self.features[indices],
            labels=self.labels[indices],
            rows=rows,
            incomplete=self.incomplete and self.incomplete.take(indices),
            described=self.described and self.described.take(indices),
            exposure=None if self.exposure is None else self.exposure[indices],
            left_out=0,
        )

    def completed(self, means: Sequence[float]) -> Dataset:
        """Return the dataset with its missing cells filled in; see `Incomplete.features`."""
        if self.incomplete is None:
            return self
        return replace(self, features=self.incomplete.features(means), incomplete=None)


def load_table(
    path: str | Path,
    target: str,
    *,
    positive: str | None = None,
    threshold: float | None = None,
    classes: Sequence[str] = (),
    family: str = "",
    event: str | None = None,
    exposure: str | None = None,
    drop: Sequence[str] = (),
    hint: str | None = None,
) -> Dataset:
    """Load a CSV or Parquet file with a header, one example a row and numeric features.

    Column names, here and in the file, are stripped of blanks. At most one of ``positive``,
    ``threshold``, ``classes`` and ``family`` is given; with none of them the target holds 0 and 1,
    or true and false. A file may hold one class only: that of one hospital may.

    Parameters
    ----------
    path
        A file whose name ends in ``.csv`` (commas, UTF-8) or ``.parquet``.
    target
        The column of labels. Every other column that is not dropped is a feature.
    positive
        The class that counts as 1; the target has at most one other.
    threshold
        A finite number: a numeric target counts as 1 where it is greater or equal.
    classes
        The names of more than two classes, in the order of their labels.
    family
        Family of models of a target that is a number, a key of
        :data:`fl_he.learning.tables.labels.OUTCOMES`.
    event
        With a family of times to an event, the column that says by 0 and 1 whether it was seen.
    exposure
        With a family of a logarithmic link, the column of exposures, which are above 0.
    drop
        Columns to leave out; their cells are not checked.
    hint
        Where such a file comes from, for the user whose file is absent.

    Raises
    ------
    DataError
        Of all that is wrong with the table: the file or a column is absent, a cell is missing or
        not a finite number, or the target does not hold its classes. The message names columns,
        counts and rows, never a record.
    """
    given = [positive is not None, threshold is not None, bool(classes), bool(family)].count(True)
    if given > 1:
        raise DataError(
            f"at most one of positive, threshold, classes and family must be given, got {given}"
        )
    if words := event_fault(event, family):
        raise DataError(words, setting="event")
    if exposure is not None and (words := exposure_fault(family)):
        raise DataError(words, setting="exposure")
    if threshold is not None and not math.isfinite(threshold):
        raise DataError(f"threshold must be a finite number, got {threshold}")
    table = open_table(path, hint)
    target, dropped = target.strip(), {name.strip() for name in drop}
    others = {"event": event, "exposure": exposure}
    named = {setting: name.strip() for setting, name in others.items() if name is not None}
    outcome = {"target": target, **named}
    without = {*outcome.values(), *dropped, ""}
    features = [name for name in table.names if name not in without]
    faults = list(table.name_faults(unnamed="" not in dropped))
    if unusable := list(_misnamed(table.names, features, outcome, sorted(dropped))):
        raise DataError.of([*unusable, *faults])
    meanings = [*classes, *([] if positive is None else [positive])]
    labels = Labels(target, meanings, missing=table.missing_labels)
    numbers = Numbers(features)
    further = {key: Labels(name, missing=table.missing_labels) for key, name in named.items()}
    rows = read_columns(table, numbers, labels, *further.values())
    meaning: str | None = None
    if positive is not None:
        found, meaning = labels.is_class(positive), labels.meant(positive) or None
    elif threshold is not None:
        found, meaning = labels.is_at_least(threshold)
    elif classes:
        found = labels.place_among(classes)
    elif event is not None:
        found, meaning = labels.survival(family, further["event"]), target
    elif family:
        found, meaning = labels.outcomes(family), target
    else:
        found, meaning = labels.is_zero_or_one()
    exposures = None if exposure is None else further["exposure"].exposures()
    refuse(
        rows,
        [
            *faults,
            *table.faults,
            *numbers.faults(),
            *labels.faults,
            *(fault for one in further.values() for fault in one.faults),
        ],
    )
    types = dict(zip(table.names, table.types, strict=True))
    return Dataset(
        numbers.values,
        found,
        tuple(features),
        positive=meaning,
        classes=tuple(name.strip() for name in classes),
        types=tuple(types[name] for name in features),
        levels=() if threshold is not None or family else labels.levels,
        family=family,
        notes=(*table.notes, *labels.notes, *numbers.notes),
        rows=rows,
        exposure=exposures,
        exposure_name=outcome.get("exposure", ""),
    )


def _misnamed(
    columns: Sequence[str],
    features: Sequence[str],
    outcome: Mapping[str, str],
    dropped: Sequence[str],
) -> Iterator[Fault]:
    """Yield what is wrong with columns of an outcome and to drop in view of a table's columns."""
    known, settings = set(columns), dict[str, str]()
    among = f"the columns {some(columns, _MOST_NAMED_COLUMNS)}"
    for setting, name in [*outcome.items(), *(("drop", name) for name in dropped)]:
        if name not in known:
            words = f"{setting} must be one of {among}, got {shown(name)}"
            yield Fault(words, setting, known=tuple(columns))
            among = "these columns"
    for setting, name in outcome.items():
        if columns.count(name) > 1:
            yield Fault(f"{setting} must be one column, got {shown(name)} more than once")
        if name in dropped:
            yield Fault(f"drop must not name the {setting}, got {shown(name)}", "drop")
        if (other := settings.setdefault(name, setting)) != setting:
            words = f"{setting} must be another column than {other}, got {shown(name)}"
            yield Fault(words, setting)
    for name in features:
        if name.lower() == INTERCEPT:
            yield Fault(
                f"column {shown(name)} must have another name: that is a model's constant term",
                "drop",
                name,
            )
    if not features:
        yield Fault(f"data file has no feature in addition to {shown(outcome['target'])}")


def first_schema_difference(expected: Sequence[str], got: Sequence[str]) -> str | None:
    """Say in words where two schemas first differ: in number, in a name, or in order.

    Parameters
    ----------
    expected, got
        Feature names in order.

    Returns
    -------
    str | None
        For example ``"feature 3 must be 'age', got 'weight'"``, positions from 1;
        ``None`` if the schemas are equal.
    """
    if len(expected) != len(got):
        known, found = set(expected), set(got)
        missing = [name for name in expected if name not in found]
        extra = [name for name in got if name not in known]
        detail = f" (first missing: {missing[0]!r})" if missing else ""
        detail += f" (first unexpected: {extra[0]!r})" if extra else ""
        return f"number of features must be {len(expected)}, got {len(got)}{detail}"
    order = " (same names in another order)" if sorted(expected) == sorted(got) else ""
    for position, (wanted, name) in enumerate(zip(expected, got, strict=True), start=1):
        if wanted != name:
            return f"feature {position} must be {wanted!r}, got {name!r}{order}"
    return None
