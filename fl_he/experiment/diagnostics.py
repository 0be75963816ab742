"""Diagnostics of a run: columns without a coefficient of their own, and separated classes.

They are found in totals that training opens anyway; only the proof of a separation takes a sum of
its own. Member ``diagnostics`` of metrics.json says what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fl_he.config.run import Config, Penalty
from fl_he.crypto.encoding.fields import Whole
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point
from fl_he.learning.regression import inference, likelihood, parameters, separation
from fl_he.learning.regression.dependencies import dependencies, design_information
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.table_file import INTERCEPT
from fl_he.run_files.checkpoint import CheckpointError
from fl_he.run_files.convergence import carried_by, combination, separating
from fl_he.strategies.encrypted_sum import Kept

#: Standard errors between a model and the optimum of all that has not vanished.
_NEAR = 1e-3

#: Whether any example is against a candidate, and whether any is on it.
Sides = tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A direction that may separate the classes.

    Attributes
    ----------
    number
        Of vanishing directions; 0 if none is known.
    parameters
        Its part of each parameter of the features that take part in training.
    gone
        Whether more rounds would not make it more exact.
    """

    number: Whole
    parameters: tuple[float, ...]
    gone: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """What company X said of a candidate; ``kind`` is ``not proved`` if it separates nothing."""

    kind: Literal["complete", "quasi-complete", "not proved"]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings(Kept):
    """What is known so far, as a checkpoint keeps it.

    Attributes
    ----------
    constant, aliased
        Names of columns, of an aliased one with the earlier columns that make it; ``None`` where
        nobody could tell.
    first
        Upper triangle of the first round's information of one row, of the columns that take part.
    candidate
        After the last round; ``None`` if no information vanishes.
    proof
        ``None`` before the end, or if there was nothing to prove.
    """

    constant: tuple[str, ...] | None = None
    aliased: Mapping[str, tuple[str, ...]] | None = None
    first: tuple[float, ...] = field(default=(), repr=False)
    candidate: Candidate | None = field(default=None, repr=False)
    proof: Proof | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What separated classes leave of the inference.

    Attributes
    ----------
    reason
        Why nothing is left, as a clause; ``None`` if something is.
    undetermined
        Reasons, by the model's row and the name of a feature, or the intercept, without a finite
        estimate.
    hessian
        For the standard errors of all others, shape (p, p).
    """

    reason: str | None
    undetermined: Mapping[tuple[int, str], str]
    hessian: NDArray[np.float64] | None


class Diagnostics:
    """Looks at each evaluation of the objective before the step is taken.

    Parameters
    ----------
    config : Config
    features : sequence of str
        Names of the features.
    found : Findings
        So far.
    hessian : sequence of float or None
        Upper triangle of the last round's, if the run is resumed after one of second order.

    Attributes
    ----------
    found : Findings
    settled : bool
        Whether the last round left the information of all directions, and the standard errors,
        about as they were.
    """

    def __init__(
        self,
        config: Config,
        features: Sequence[str],
        found: Findings,
        hessian: Sequence[float] | None,
    ) -> None:
        self._unpenalised = config.C is None
        self._may_separate = self._unpenalised and config.penalty is not Penalty.firth
        self._names = tuple(features)
        self._before = None if hessian is None else np.array(hessian)
        self._theta: NDArray[np.float64] | None = None
        self.found, self.settled = found, True

    @property
    def left_out(self) -> dict[str, str]:
        """Reasons why features have no coefficient, by their names."""
        reasons = dict.fromkeys(self.found.constant or (), "it does not vary")
        if self._unpenalised:
            for name, earlier in (self.found.aliased or {}).items():
                reasons[name] = f"it is {combination(earlier)}: {carried_by(earlier)}"
        return reasons

    def check(self, rows: int) -> None:
        """Refuse findings that are of other parameters than a model of so many rows has.

        Raises
        ------
        CheckpointError
        """
        candidate, needed = self.found.candidate, len(self._free(rows))
        if candidate is not None and len(candidate.parameters) != needed:
            raise CheckpointError(
                f"the checkpoint: a candidate must have {needed} parameters, "
                f"got {len(candidate.parameters)}"
            )
        self._first()

    def observe(self, point: Point) -> NDArray[np.bool_]:
        """Look at an evaluation without the penalty; return which parameters take part."""
        rows = len(point.theta) // (len(self._names) + 1)
        if point.hessian is None:
            free, triangle = self._free(rows), None
        else:
            if self.found.aliased is None and not point.theta[: rows * len(self._names)].any():
                self._look_for_dependencies(point, point.hessian)
            free, triangle = self._free(rows), likelihood.upper_triangle(point.hessian)
            if self._before is not None and self.found.first:
                self._look_for_vanishing(point.theta[free], free, point.hessian)
        self._theta, self._before = point.theta[free], triangle
        return self._moves(rows)

    def restricted(self, point: Point) -> Point:
        """Return a point with zeros for the derivatives by what is left out."""
        return point.along(self._moves(len(point.theta) // (len(self._names) + 1)))

    def separates(self, accuracy: float | None, examples: float) -> None:
        """Take the evaluated model itself as a candidate if it predicts every label."""
        if not self._may_separate or accuracy is None or self._theta is None:
            return
        if round(accuracy * examples) == round(examples):
            before = self.found.candidate or Candidate(0, (), gone=False)
            candidate = replace(before, parameters=tuple(self._theta.tolist()))
            self.found = replace(self.found, candidate=candidate)

    def is_over(self, distance: float | None) -> bool:
        """Return whether more rounds would tell no more of a separation.

        Parameters
        ----------
        distance : float or None
            Of the last model from the optimum, in standard errors.
        """
        candidate = self.found.candidate
        return candidate is not None and candidate.gone and (distance or 0.0) <= _NEAR

    def prove(self, take_sides: Callable[[NDArray[np.float64]], Sides], rows: int) -> None:
        """Have a candidate proved, if there is one, once in a run.

        Parameters
        ----------
        take_sides : callable
            Has the examples counted that are against a model of so many rows, and on it.
        rows : int
        """
        found = self.found
        if found.candidate is None or found.proof is not None:
            return
        candidate, first = np.array(found.candidate.parameters), self._first()
        deviation = np.ones(len(candidate) // rows - 1)
        if first is not None:
            deviation = separation.deviations(first)
        largest = separation.loadings(candidate, deviation).max()
        if not largest > 0.0:
            return
        candidate /= largest
        whole = np.zeros(rows * (len(self._names) + 1))
        whole[self._free(rows)] = candidate
        against, on = take_sides(whole)
        kind = separation.kind_of(candidate, first, against=against, on=on)
        names = self._taking_part()
        columns = tuple(names[j] for j in separation.taking_part(candidate, deviation))
        self.found = replace(found, proof=Proof(kind or "not proved", columns))

    @property
    def is_separated(self) -> bool:
        """Whether company X has proved that the classes are separated."""
        return self.found.proof is not None and self.found.proof.kind != "not proved"

    @property
    def separated(self) -> str | None:
        """What separates the classes, as a clause; ``None`` if no separation is proved."""
        proof = self.found.proof
        if proof is None or not self.is_separated:
            return None
        return f"the classes are separated by {separating(proof.columns)}"

    def limits(self, scaling: Scaling, reference: int = 0) -> Limits | None:
        """Return what a proved separation leaves; ``None`` if none is proved.

        Parameters
        ----------
        scaling : Scaling
        reference : int
            The class that others are compared with, of more than two.
        """
        found, names = self.found, self._taking_part()
        proof, candidate, first = found.proof, found.candidate, self._first()
        if proof is None or candidate is None or not self.is_separated:
            return None
        by = separating(proof.columns)
        reasons = {
            name: f"no finite estimate: the classes are separated by {by}"
            if name in proof.columns
            else "no unique estimate where the classes are separated"
            for name in [*names, INTERCEPT]
        }
        rows = len(candidate.parameters) // (len(names) + 1)
        touched = np.ones((rows, len(reasons)), dtype=np.bool_)
        why, whole = self.separated, None
        if proof.kind != "complete" and candidate.gone and candidate.number and first is not None:
            why, whole = None, self._last_hessian()
            free = self._free(rows)
            kept = [name in names for name in self._names]
            origin = (-scaling.mean / scaling.scale)[kept]
            part = separation.undetermined(
                first, whole[np.ix_(free, free)], candidate.number, origin, reference
            )
            whole[np.ix_(free, free)], touched = part.hessian, part.touched
        undetermined = {
            (row, name): reason
            for row in range(rows)
            for (name, reason), without in zip(reasons.items(), touched[row], strict=True)
            if without
        }
        return Limits(why, undetermined, whole)

    def figures(self, unique: Sequence[str] | None, *, converged: bool | None) -> dict[str, Any]:
        """Return the member of metrics.json.

        Parameters
        ----------
        unique : sequence of str or None
            Columns that look like identifiers; ``None`` where only the hospitals know.
        converged : bool or None
        """
        found = self.found
        return {
            "constant": None if found.constant is None else list(found.constant),
            "aliased": found.aliased and {name: list(of) for name, of in found.aliased.items()},
            "separation": found.proof and {**asdict(found.proof)},
            "unique": None if unique is None else list(unique),
            "converged": converged,
        }

    def _taking_part(self) -> list[str]:
        left_out = self.left_out
        return [name for name in self._names if name not in left_out]

    def _free(self, rows: int) -> NDArray[np.intp]:
        kept = set(self._taking_part())
        takes_part = [*(name in kept for name in self._names), True]
        return np.sort(parameters.row_places(rows, len(self._names))[:, takes_part].ravel())

    def _moves(self, rows: int) -> NDArray[np.bool_]:
        return np.isin(np.arange(rows * (len(self._names) + 1)), self._free(rows))

    def _first(self) -> NDArray[np.float64] | None:
        if not self.found.first:
            return None
        return self._matrix(np.array(self.found.first), len(self._taking_part()) + 1)

    def _last_hessian(self) -> NDArray[np.float64]:
        values = np.empty(0) if self._before is None else self._before
        return self._matrix(values, (math.isqrt(8 * len(values) + 1) - 1) // 2)

    @staticmethod
    def _matrix(triangle: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        try:
            return likelihood.from_upper_triangle(triangle, size)
        except DataError as error:
            raise CheckpointError(f"the checkpoint: {error}") from error

    def _look_for_dependencies(self, point: Point, hessian: NDArray[np.float64]) -> None:
        names = self._names
        information = design_information(hessian, len(names))
        found = dependencies(information, point.examples)
        constant = {*(self.found.constant or ()), *(names[j] for j in found.constant)}
        aliased = {
            names[j]: tuple(names[k] for k in earlier)
            for j, earlier in found.aliased.items()
            if names[j] not in constant
        }
        ordered = tuple(name for name in names if name in constant)
        self.found = replace(self.found, constant=ordered, aliased=aliased)
        if self._may_separate:
            kept = self._free(1)
            first = likelihood.upper_triangle(information[np.ix_(kept, kept)])
            self.found = replace(self.found, first=tuple(first.tolist()))

    def _look_for_vanishing(
        self,
        theta: NDArray[np.float64],
        free: NDArray[np.intp],
        hessian: NDArray[np.float64],
    ) -> None:
        first, before = self._first(), self._last_hessian()
        candidate, part = None, np.ix_(free, free)
        rows = len(theta) // len(first) if first is not None else 1
        self.settled = inference.have_settled(before[part], hessian[part], rows)
        if first is not None and len(first) > 1:
            # A first information that is not positive definite within rounding tells nothing.
            with suppress(np.linalg.LinAlgError):
                found = separation.vanishing(first, before[part], hessian[part], theta)
                self.settled = self.settled and found is None
                if found is not None and found.number:
                    directions = tuple(found.candidate.tolist())
                    candidate = Candidate(found.number, directions, gone=found.gone)
        self.found = replace(self.found, candidate=candidate)
