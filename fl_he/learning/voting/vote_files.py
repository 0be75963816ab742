"""Votes in files: one file for each party, with a vote or with scores for each query.

A file holds votes, whole numbers of shape (queries,), or scores such as logits, of shape (queries,
classes), whose largest is the vote: as NumPy's ``.npy``, or as ``.csv`` with a header, where votes
are one column and scores a column for each class. Files are hostile: sizes are checked before
memory is taken for them, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array, finite_array
from fl_he.learning.tables.columns import Numbers
from fl_he.learning.tables.table import open_table, read_columns, refuse

MOST_QUERIES, MOST_CLASSES = 100_000, 128
_MOST_CSV_BYTES = 1 << 26
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_FORM = (
    "votes, whole numbers from 0 of shape (queries,), or scores of shape (queries, classes), with "
    f"at most {MOST_QUERIES} queries and 2 to {MOST_CLASSES} classes"
)


@dataclass(frozen=True, slots=True)
class _Answers:
    """One party's votes; how many classes its scores have, 0 if it has none, and their names."""

    votes: NDArray[np.int64] = field(repr=False)
    classes: int
    names: tuple[str, ...]


def count_votes(files: Sequence[Path], classes: int | None = None) -> NDArray[np.int64]:
    """Return how many parties vote for each class, shape (queries, classes).

    Parameters
    ----------
    files : sequence of Path
        One for each party.
    classes : int, optional
        How many there are; must be given if all files hold votes.

    Raises
    ------
    DataError
        Of all files that cannot be used, by their names.
    """
    parties, faults = dict[Path, _Answers](), list[Fault]()
    for file in files:
        if any(file.exists() and file.samefile(other) for other in parties):
            faults.append(Fault(f"{file}: each party must have one file; this one is given twice"))
            continue
        try:
            parties[file] = _answers(file)
        except DataError as error:
            faults.append(Fault(str(error)))
    if faults:
        raise DataError.of(faults)
    widths = (one.classes for one in parties.values() if one.classes)
    count = next(widths, None) if classes is None else classes
    if count is None:
        raise DataError("all files hold votes: give the number of classes")
    if not 2 <= count <= MOST_CLASSES:
        raise DataError(f"classes must be from 2 to {MOST_CLASSES}, got {count}")
    if faults := list(_different(parties, count)):
        raise DataError.of(faults)
    counts = np.zeros((len(next(iter(parties.values())).votes), count), dtype=np.int64)
    for one in parties.values():
        counts[np.arange(len(counts)), one.votes] += 1
    return counts


def _different(parties: Mapping[Path, _Answers], classes: int) -> Iterator[Fault]:
    """Yield a fault of each file that does not go together with the first ones."""
    queries = len(next(iter(parties.values())).votes)
    names = next((one.names for one in parties.values() if one.names), ())
    for file, one in parties.items():
        if len(one.votes) != queries:
            yield Fault(f"{file}: must have {queries} queries, got {len(one.votes)}")
        elif one.classes not in (0, classes):
            yield Fault(f"{file}: must have scores of {classes} classes, got {one.classes}")
        elif one.names not in ((), names):
            yield Fault(f"{file}: must name the classes as the other files, in one order")
        else:
            yield from _beyond(file, one.votes, classes)


def read_labels(file: Path, queries: int, classes: int) -> NDArray[np.int64]:
    """Return the true labels of this many queries, in the form of votes; raises DataError."""
    found = _answers(file)
    if found.classes:
        raise DataError(f"{file}: must hold labels, got scores")
    if len(found.votes) != queries:
        raise DataError(f"{file}: must have {queries} queries, got {len(found.votes)}")
    if faults := list(_beyond(file, found.votes, classes)):
        raise DataError.of(faults)
    return found.votes


def read_scores(file: Path, queries: int, classes: int) -> Array:
    """Return scores of shape (queries, classes); raises DataError."""
    numbers = _read(file)[0]
    if numbers.shape != (queries, classes):
        raise DataError(
            f"{file}: must have scores of shape {(queries, classes)}, got {numbers.shape}"
        )
    return finite_array(numbers, f"{file}: scores", dimensions=2)


def _answers(file: Path) -> _Answers:
    numbers, names = _read(file)
    if numbers.ndim == 2:
        scores = finite_array(numbers, f"{file}: scores", dimensions=2)
        return _Answers(scores.argmax(axis=1), scores.shape[1], names)
    if faults := list(_beyond(file, numbers, MOST_CLASSES)):
        raise DataError.of(faults)
    return _Answers(numbers.astype(np.int64), 0, ())


def _beyond(file: Path, votes: NDArray[Any], classes: int) -> Iterator[Fault]:
    """Yield the fault of votes that are for no class."""
    wrong = np.flatnonzero(~np.isin(votes, np.arange(classes)))
    if len(wrong):
        yield Fault(
            f"{file}: votes must be whole numbers from 0 to {classes - 1}, got {len(wrong)} "
            f"others, the first for query {wrong[0]}"
        )


def _read(file: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return a file's numbers, of one or two axes, and the names of its columns."""
    try:
        if file.suffix == ".npy":
            return _npy(file), ()
        if file.suffix == ".csv":
            return _csv(file)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or 'cannot be read'}") from None
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    raise DataError(f"{file}: the name must end with .npy or .csv")


def _npy(file: Path) -> NDArray[Any]:
    with file.open("rb") as opened:
        try:
            shape, _, dtype = _HEADERS[npy.read_magic(opened)](opened)
        except Exception as error:  # any error of a hostile or broken header
            raise DataError(
                f"must be an array that numpy.save wrote ({type(error).__name__})"
            ) from None
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise DataError(f"must hold numbers of at most 64 bits, got {dtype.str:.20}")
        _check_shape(shape)
        if file.stat().st_size < opened.tell() + prod(shape) * dtype.itemsize:
            raise DataError("has fewer numbers than its header says")
        opened.seek(0)
        return np.asarray(np.load(opened, allow_pickle=False))


def _csv(file: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    if file.stat().st_size > _MOST_CSV_BYTES:
        raise DataError(f"has more than {_MOST_CSV_BYTES} bytes: save it as .npy")
    table = open_table(file)
    names = tuple(table.names)
    _check_shape((1,) if len(names) == 1 else (1, len(names)))
    numbers = Numbers(list(names))
    rows = read_columns(table, numbers, most=MOST_QUERIES)
    faults = [*table.name_faults(), *table.empty_faults(), *table.faults, *numbers.faults()]
    refuse(rows, faults)
    return (numbers.values, names) if len(names) > 1 else (numbers.values[:, 0], ())


def _check_shape(shape: tuple[int, ...]) -> None:
    queries, classes = (*shape, 2, 2)[:2]
    fits = 1 <= queries <= MOST_QUERIES and 2 <= classes <= MOST_CLASSES
    if len(shape) not in (1, 2) or not fits:
        raise DataError(f"must hold {_FORM}, got shape {shape}")
