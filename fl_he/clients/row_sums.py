"""A hospital's sums over its rows, as digits, and the columns behind those that are too large.

Sums are of the features, of squares about a mean, of classes, and of a model's derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fl_he.learning.optimizers import between
from fl_he.learning.optimizers.base import SiteCounts
from fl_he.learning.regression import firth, likelihood, own_intercepts
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.own_intercepts import informs
from fl_he.learning.regression.registry import family_of
from fl_he.learning.tables import moments
from fl_he.learning.tables.columns import cells, described
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.table_file import RowNumbers, shown, some
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.model import COEFFICIENTS, DERIVATIVES, named_arrays
from fl_he.wire.records import PrivateReasonError, ProtocolError


def moment_sums(dataset: Dataset, request: MomentsRequest, limbs: Limbs) -> ArrayRecord:
    """Return means that are sums once they are weighted by the number of examples.

    Parameters
    ----------
    dataset : Dataset
        In the units of the hospital's table.
    request : MomentsRequest
    limbs : Limbs
        How the node writes sums.

    Raises
    ------
    ProtocolError
        If the request is of other features, or for what only a hospital with privacy answers.
    """
    if request.low or request.high:
        raise ProtocolError(
            "sums of values within ranges must be asked of hospitals with privacy, whose noise is "
            "in them, and this one has none"
        )
    if request.cells:
        return _cell_sums(dataset, limbs)
    features, examples = dataset.features, dataset.examples
    if request.mean:
        if len(request.mean) != features.shape[1]:
            raise ProtocolError(
                f"a mean must be of this hospital's {features.shape[1]} features, "
                f"got {len(request.mean)}"
            )
        mean = np.array(request.mean)
        squares = moments.squared_deviations(features, mean)
        _require_small(squares, dataset, limbs, of_all=True)
        _require_digits(squares, features - mean, mean, dataset, limbs)
        return named_arrays(squares=limbs.split(squares) / examples)
    arrays: dict[str, NDArray[np.float64]] = {}
    if request.sums:
        sums = moments.column_sums(features)
        _require_small(sums, dataset, limbs)
        # About the mean of all hospitals they are no smaller, and would be at every hospital then.
        own = moments.squared_deviations(features, sums / examples)
        _require_small(own, dataset, limbs)
        arrays["sums"] = limbs.split(sums) / examples
    if request.counts:
        if dataset.family:
            raise ProtocolError("numbers of each class must be asked for where labels are classes")
        arrays["counts"] = moments.class_counts(dataset.labels, dataset.class_count) / examples
    if request.outcome:
        if not isinstance(family := family_of(dataset), GlmFamily):
            raise ProtocolError("sums of an outcome must be asked for where it is a number")
        sums = family.outcome_sums(dataset.labels, dataset.exposed)
        if _too_large(sums, limbs):
            raise PrivateReasonError(_outcome_words(dataset, limbs))
        arrays["outcome"] = limbs.split(sums) / examples
    return named_arrays(**arrays)


def _outcome_words(dataset: Dataset, limbs: Limbs) -> str:
    """Return the refusal of too large sums of an outcome, with the row that adds most."""
    rows = dataset.rows or RowNumbers(np.arange(1, dataset.examples + 1))
    with np.errstate(over="ignore"):
        row = rows.numbers[np.argmax(np.square(dataset.labels) / dataset.exposed)]
    named = f" {shown(dataset.positive)}" if dataset.positive else ""
    by = f", divided by the exposure {shown(dataset.exposure_name)}" * bool(dataset.exposure_name)
    return (
        f"sums of the outcome{named}, and of its squares{by}, must be below {limbs.limit:.0e}, got "
        f"larger ones, most by row {row}: correct such cells, or leave their rows out"
        f"{rows.note}"
    )


def _cell_sums(dataset: Dataset, limbs: Limbs) -> ArrayRecord:
    """Return sums and numbers of the cells that are not missing, of columns that get means."""
    waiting = dataset.incomplete
    if waiting is None:
        raise ProtocolError("sums of cells must be of columns with missing: mean, and none is")
    present = ~np.isnan(waiting.cells)
    cells = np.where(present, waiting.cells, 0.0)
    sums = moments.column_sums(cells)
    own = replace(dataset, features=cells, feature_names=waiting.names, incomplete=None)
    _require_small(sums, own, limbs)
    return named_arrays(
        sums=limbs.split(sums) / dataset.examples, cells=present.sum(axis=0) / dataset.examples
    )


def require_moments(
    hospitals: Sequence[Dataset], train: Dataset, limbs: Limbs, sources: Sequence[str] = ()
) -> None:
    """Refuse all columns of which `moment_sums` of some hospital would refuse one after the other.

    Parameters
    ----------
    hospitals : sequence of Dataset
        The simulated hospitals' tables.
    train : Dataset
        All of their rows.
    limbs : Limbs
    sources : sequence of str
        The name of each hospital's table; empty where all rows are of one.

    Raises
    ------
    PrivateReasonError
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [moments.column_sums(hospital.features) for hospital in hospitals]
        mean = np.sum(sums, axis=0) / train.examples
        large, small = set[int](), set[int]()
        for own, hospital in zip(sums, hospitals, strict=True):
            squares = moments.squared_deviations(hospital.features, mean)
            large.update(_too_large(own, limbs), _too_large(squares, limbs))
            small.update(_too_small(squares, hospital.features - mean, mean, limbs))
    refusals = []
    tables = dict(zip(sources, hospitals, strict=True)) if sources else {"": train}
    for source, columns in _columns_of(tables, sorted(large), limbs).items():
        where = _largest(columns, tables[source], limbs, of_all=False)
        words = _large_words(where, tables[source], limbs)
        refusals.append(f"{source}: {words}" if source else words)
    if small := small - large:
        refusals.append(_small_words(sorted(small), train, limbs))
    if refusals:
        raise PrivateReasonError("; ".join(refusals))


def _columns_of(
    tables: Mapping[str, Dataset], columns: Sequence[int], limbs: Limbs
) -> Mapping[str, Sequence[int]]:
    """Return whose cells make the sums of columns too large, by the table's name."""
    sizes = np.array([np.abs(table.features).max(axis=0) for table in tables.values()])
    behind = (sizes >= math.sqrt(limbs.limit)) | (sizes == sizes.max(axis=0))
    found = {
        source: [column for column in columns if own[column]]
        for source, own in zip(tables, behind, strict=True)
    }
    return {source: own for source, own in found.items() if own}


def derivative_arrays(
    examples: likelihood.Examples,
    terms: LearningTerms,
    limbs: Limbs,
    dataset: Dataset,
    min_cell: int,
) -> ArrayRecord:
    """Return digits of the sums of losses, gradients and Hessians, to be weighted by examples.

    With an alpha those of the model without features follow. With intercepts of sites, the site's
    `SiteCounts` follow; ``min_cell`` is for them.
    """
    own = derivative_limbs(limbs, terms, dataset)
    if terms.scaling == "none":
        mean = np.zeros(dataset.features.shape[1])
        squares = moments.squared_deviations(dataset.features, mean)
        _require_digits(squares, dataset.features, mean, dataset, own)
    parts = derivative_parts(examples, dataset, own)
    if examples.family.has_alpha:
        parts = _with_null(parts, dataset, terms)
    if terms.site_intercepts and examples.family.steps_by_loss:
        parts = own_intercepts.without_intercept_by_loss(parts, parameters_of(dataset))
    if terms.site_intercepts:
        counts = _site_counts(dataset, min_cell).to_vector()
        parts = np.column_stack([parts, [counts, np.zeros(len(counts))]])
    digits = own.split(*parts)
    return named_arrays(**{DERIVATIVES: digits / len(examples.losses)})


def _with_null(
    parts: NDArray[np.float64], dataset: Dataset, terms: LearningTerms
) -> NDArray[np.float64]:
    """Return sums with those of the model without features, of counts with an alpha."""
    of, told = own_intercepts if terms.site_intercepts else likelihood, terms.overdispersion
    null = likelihood.derivative_parts(of.without_features(dataset, told))
    if terms.site_intercepts:
        parts = own_intercepts.without_intercept(parts, parameters_of(dataset))
        null = own_intercepts.without_intercept(null, 1)
    return np.column_stack([parts, null])


def site_arrays(
    dataset: Dataset, theta: NDArray[np.float64], terms: LearningTerms, limbs: Limbs
) -> ArrayRecord:
    """Return what a hospital adds to a comparison of the hospitals, to be weighted by examples."""
    own = derivative_limbs(limbs, terms, dataset)
    with np.errstate(over="ignore", invalid="ignore"):
        counts, sums, scores = between.site_sums(
            *(dataset, theta, terms.left_out),
            site_intercepts=terms.site_intercepts,
            limit=own.limit,
        )
    if _too_large(scores, own):
        raise PrivateReasonError(
            f"products of a hospital's derivatives must be below {own.limit:.0e}; they are larger: "
            "save the columns in larger units"
        )
    arrays = {"counts": counts, "own": own.split(sums), "scores": own.split(scores)}
    return named_arrays(**{name: one / dataset.examples for name, one in arrays.items()})


def _site_counts(dataset: Dataset, min_cell: int) -> SiteCounts:
    if informs(dataset):
        return SiteCounts(1, 0, 0)
    few = dataset.examples < min_cell
    return SiteCounts(0, 0 if few else dataset.examples, int(few))


def derivative_limbs(limbs: Limbs, terms: LearningTerms, dataset: Dataset) -> Limbs:
    """Return how sums of derivatives are written; numbers of an outcome may be of any size."""
    return limbs.of_derivatives(scaled=terms.scaling != "none" and not dataset.family)


def derivative_parts(
    examples: likelihood.Examples, dataset: Dataset, limbs: Limbs
) -> NDArray[np.float64]:
    """Return sums of losses, gradients and Hessians, and what their rounding leaves out.

    Sums that have no digits are refused. Of a model so far from an outcome that its loss, or
    Pearson's chi-square, has none, the loss is the largest: the step is halved.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        parts = likelihood.derivative_parts(examples)
    sums, size = parts[0], parameters_of(dataset)
    rows, columns = np.triu_indices(size)
    # Only compared with smaller losses; a model so far off must not end the run.
    largest = limbs.limit / 2
    pearson = 1 + size + len(rows)
    judged = np.append(sums[0], sums[pearson : pearson + 1])
    if dataset.family and not (np.abs(judged) < largest).all():
        parts = np.clip(np.nan_to_num(parts), -largest, largest)
        sums = parts[0]
        sums[0] = largest
    sums[0] = np.fmin(sums[0], largest)
    # A second derivative by two columns is no larger than that by one of them twice.
    hessian = sums[1 + size : 1 + size + len(rows)]
    of_columns = np.maximum(np.abs(sums[1 : 1 + size]), np.abs(hessian[rows == columns]))
    _require_small(np.append(of_columns, sums[1 + size :]), dataset, limbs)
    return parts


def adjustment_sums(
    examples: likelihood.Examples,
    root: NDArray[np.float64],
    dataset: Dataset,
    limbs: Limbs,
) -> NDArray[np.float64]:
    """Return sums of the derivatives of Firth's penalty; refuse those that have no digits."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = firth.adjustment_sum(examples, root)
    _require_small(sums, dataset, limbs)
    return sums


def _require_small(
    sums: NDArray[np.float64], dataset: Dataset, limbs: Limbs, *, of_all: bool = False
) -> None:
    """Refuse sums that have no digits: of features, or of coefficients and then of others.

    ``of_all``: the sums are about the mean of all hospitals' numbers.
    """
    names, classes = dataset.feature_names, dataset.class_count
    coefficients = family_of(dataset).rows(classes) * len(names)
    large = _too_large(sums, limbs)
    if not large:
        return
    columns = dict.fromkeys(place % len(names) for place in large if place < coefficients)
    where = _largest(list(columns), dataset, limbs, of_all=of_all) if columns else ""
    raise PrivateReasonError(_large_words(where, dataset, limbs))


def _too_large(sums: NDArray[np.float64], limbs: Limbs) -> list[int]:
    places: list[int] = np.flatnonzero(~(np.abs(sums) < limbs.limit)).tolist()
    return places


def _large_words(where: str, dataset: Dataset, limbs: Limbs) -> str:
    """Return the refusal of too large sums; ``where`` names their columns, if there are any."""
    return (
        "sums over a hospital's numbers, and over their squares, must be below "
        f"{limbs.limit:.0e}; they are larger{f' in {where}' if where else ''}: correct such cells, "
        "save the column in a larger unit, or leave it out"
        f"{dataset.rows.note if dataset.rows and where else ''}"
    )


def _largest(columns: Sequence[int], dataset: Dataset, limbs: Limbs, *, of_all: bool) -> str:
    """Name columns whose sums are too large, with the cells behind."""
    size = np.abs(dataset.features)
    most = math.sqrt(limbs.limit)
    rows = dataset.rows or RowNumbers(np.arange(1, dataset.examples + 1))
    found = cells(dataset.feature_names, size >= most, f"cell{{s}} above {most:.0e}", rows)
    causes = {}
    for column in columns:
        name = dataset.feature_names[column]
        if name in found:
            causes[name] = found[name].words
        elif of_all:
            causes[name] = "by numbers of another hospital"
        else:
            causes[name] = f"the largest is in row {rows.numbers[size[:, column].argmax()]}"
    return described(causes)


def _require_digits(
    squares: NDArray[np.float64],
    deviations: NDArray[np.float64],
    mean: NDArray[np.float64],
    dataset: Dataset,
    limbs: Limbs,
) -> None:
    """Refuse columns that vary, but by so little that they would be taken to be constant."""
    small = _too_small(squares, deviations, mean, limbs)
    if small:
        raise PrivateReasonError(_small_words(small, dataset, limbs))


def _too_small(
    squares: NDArray[np.float64],
    deviations: NDArray[np.float64],
    mean: NDArray[np.float64],
    limbs: Limbs,
) -> list[int]:
    rounding = len(deviations) * np.finfo(np.float64).eps * np.abs(mean)
    # Not by the squares, which may be 0: those of 1e-200 are no float64.
    differ = deviations.max(axis=0) > deviations.min(axis=0)
    varies = differ & (np.abs(deviations).max(axis=0) > rounding)
    columns: list[int] = np.flatnonzero(varies & (squares < limbs.least)).tolist()
    return columns


def _small_words(columns: Sequence[int], dataset: Dataset, limbs: Limbs) -> str:
    names = [dataset.feature_names[column] for column in columns]
    return (
        f"squares of a hospital's numbers about the mean must be {limbs.least:.0e} or more in "
        f"sum; they are less in column {some(names, 10)}: save them in a smaller unit, or "
        "leave the column out"
    )


def columns_behind(dataset: Dataset, array: str, position: Sequence[int]) -> list[str]:
    """Return the columns of which a value of a reply is, in an array at a position."""
    return [dataset.feature_names[position[-1]]] if array == COEFFICIENTS else []


def parameters_of(dataset: Dataset) -> int:
    """Return the number of parameters of a model of the dataset."""
    return family_of(dataset).count(len(dataset.feature_names), dataset.class_count)
