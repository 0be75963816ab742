"""Diagnostics of a run: columns without a coefficient of their own, and separated classes.

The training finds them in totals that it opens anyway; only the proof of a separation takes a sum
of its own. Here are the words, and member ``diagnostics`` of metrics.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.optimizers.damped import DampedOptimizer
from fl_he.learning.optimizers.training import Training
from fl_he.learning.regression import separation
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.table_file import INTERCEPT
from fl_he.run_files.convergence import (
    CONSTANT,
    NO_FINITE,
    NO_UNIQUE,
    WITHIN_SITES,
    carried_by,
    combination,
    separating,
    subject,
)

#: Parts of a combination that differ by less, as a share of the largest, are taken to be equal.
_TIED = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Inference that is left where classes are separated.

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
    """Findings of a training about its columns and classes, by the columns' names.

    Parameters
    ----------
    features : sequence of str
        Names of the features.
    training : Training
        As it continues.
    """

    def __init__(self, features: Sequence[str], training: Training) -> None:
        self._names = tuple(features)
        self._training = training

    @property
    def left_out(self) -> dict[str, str]:
        """Reasons why features have no coefficient, by their names."""
        training, names = self._training, self._names
        constant = WITHIN_SITES if training.task.site_intercepts else CONSTANT
        reasons = {names[j]: constant for j in training.constant or ()}
        if training.task.C is None:
            for name, earlier in (self._aliased or {}).items():
                reasons[name] = f"it is {combination(earlier)}: {carried_by(earlier)}"
        return reasons

    @property
    def _subject(self) -> str:
        return subject(self._training.family.name)

    @property
    def is_separated(self) -> bool:
        """Whether company X has proved that the classes are separated."""
        return self._training.watch.is_proof

    @property
    def separated(self) -> str | None:
        """Clause that names the separating columns; ``None`` if no separation is proved."""
        if not self.is_separated:
            return None
        return f"{self._subject} are separated by {separating(self._separating, self._largest)}"

    def limits(self, scaling: Scaling, reference: int = 0) -> Limits | None:
        """Return what a separation leaves, proved or not; ``None`` if none was looked for.

        Parameters
        ----------
        scaling : Scaling
        reference : int
            The class that others are compared with, of more than two.
        """
        training, names, columns = self._training, self._taking_part, self._separating
        candidate, first = training.watch.candidate, training.watch.first
        if candidate is None or training.watch.proof is None:
            return None
        by = separating(columns, self._largest)
        parts, why, whole = [*names, INTERCEPT], self.separated, None
        origin = (-scaling.mean / scaling.scale)[training.taking_part]
        deviation = training.watch.deviation(len(names))
        grown = separation.touched(candidate.parameters, deviation, origin, reference=reference)
        infinite = grown & [name in (*columns, INTERCEPT) for name in parts]
        if not self.is_separated:
            may = f"{self._subject} may be separated by {by}, which was not proved"
            reasons = {
                (row, parts[j]): f"{NO_FINITE} was found: {may}"
                for row, j in np.argwhere(infinite).tolist()
            }
            return Limits(may, reasons, None)
        touched = np.ones_like(infinite)
        quasi = training.watch.proof == "quasi-complete" and candidate.gone and candidate.number
        if quasi and first is not None and training.hessian is not None:
            why, whole = None, training.hessian.copy()
            part = np.ix_(training.free, training.free)
            optimizer = training.optimizer
            step = optimizer.last_direction if isinstance(optimizer, DampedOptimizer) else None
            now = training.information_of_free(whole, training.rest, training.examples)
            found = separation.undetermined(
                *(first, now, candidate.number, origin),
                reference=reference,
                step=None if step is None else step[training.free],
            )
            whole[part], touched, infinite = found.hessian, found.touched, found.infinite
        undetermined = {
            (row, parts[j]): f"{NO_FINITE}: {self._subject} are separated by {by}"
            if infinite[row, j]
            else f"{NO_UNIQUE}, as {self._subject} are separated"
            for row, j in np.argwhere(touched).tolist()
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
        training, proof = self._training, self._training.watch.proof
        constant = training.constant
        return {
            "constant": None if constant is None else [self._names[j] for j in constant],
            "aliased": self._aliased,
            "separation": proof
            and {"kind": proof, "columns": self._separating, "largest": self._largest},
            "unique": None if unique is None else list(unique),
            "converged": converged,
        }

    @property
    def _aliased(self) -> dict[str, list[str]] | None:
        found, names = self._training.aliased, self._names
        return (
            None if found is None else {names[j]: [names[k] for k in of] for j, of in found.items()}
        )

    @property
    def _taking_part(self) -> list[str]:
        return [self._names[j] for j in self._training.taking_part]

    @property
    def _largest(self) -> list[str]:
        """Names of the features whose parts are as large as the largest.

        They are compared for one standard deviation more of each feature, and, as far as they are
        more than half of the largest so, also for one unit more.
        """
        training, names = self._training, self._taking_part
        direction = training.watch.direction(len(names))
        if direction is None or not self._separating:
            return []
        scale = np.array(training.scale)[training.taking_part] if training.scale else 1.0
        sizes = separation.loadings(direction, np.ones(len(names)))[:-1]
        by_deviation, by_unit = sizes * training.watch.deviation(len(names)), sizes / scale
        first = int(np.argmax(by_deviation))
        tied = (by_deviation > 0.5 * by_deviation[first]) & (
            np.abs(by_unit - by_unit[first]) <= _TIED * by_unit[first]
        )
        tied |= by_deviation >= (1.0 - _TIED) * by_deviation[first]
        return [name for name in self._separating if tied[names.index(name)]]

    @property
    def _separating(self) -> list[str]:
        """Names of the features by which the classes may be separated, the largest part first."""
        names = self._taking_part
        return [names[j] for j in self._training.watch.columns(len(names))]
