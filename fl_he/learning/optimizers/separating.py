"""The watch for a direction that separates the classes, during a training without a penalty.

See :mod:`fl_he.learning.regression.separation`: from round to round the information along such a
direction vanishes. All matrices and parameters here are of the features that take part.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import read, read_flag
from fl_he.learning.regression import separation
from fl_he.learning.regression.inference import have_settled
from fl_he.learning.regression.likelihood import from_upper_triangle, upper_triangle
from fl_he.learning.tables.arrays import Array, finite_array

Kind = Literal["complete", "quasi-complete", "not proved"]
_KINDS: tuple[Kind, ...] = ("complete", "quasi-complete", "not proved")


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A direction that may separate the classes.

    Attributes
    ----------
    number
        Of vanishing directions; 0 if none is known.
    parameters
        Its part of each parameter, shape (p,).
    gone
        Whether more rounds would not make it more exact.
    """

    number: int
    parameters: Array = field(repr=False)
    gone: bool


@dataclass(slots=True, eq=False)
class Watch:
    """Findings about separation from the evaluations so far.

    Attributes
    ----------
    first
        Information of one row at a model of zeros, shape (d + 1, d + 1); ``None`` before it is
        known.
    candidate
        After the last evaluation; ``None`` if no information vanishes.
    settled
        Whether the last evaluation left the information of all directions, and the standard errors,
        about as they were.
    proof
        What the examples on either side of the candidate have proved; ``None`` if nobody has
        counted them.
    """

    first: Array | None = None
    candidate: Candidate | None = None
    settled: bool = True
    proof: Kind | None = None

    @property
    def is_proof(self) -> bool:
        """Whether the classes are proved to be separated."""
        return self.proof not in (None, "not proved")

    def compare(
        self, theta: Array, before: separation.Information, now: separation.Information, rows: int
    ) -> None:
        """Compare the information of an evaluation with that of the evaluation before.

        Parameters
        ----------
        theta
            The evaluated model, shape (p,).
        before, now
        rows
            Of coefficients.
        """
        first = self.first
        self.settled, self.candidate = have_settled(before.mean, now.mean, rows), None
        if first is None or len(first) == 1:
            return
        # A first information that is not positive definite within rounding tells nothing.
        with suppress(np.linalg.LinAlgError):
            found = separation.vanishing(first, before, now, theta)
            self.settled = self.settled and found is None
            if found is not None and found.number:
                self.candidate = Candidate(found.number, found.candidate, found.gone)

    def predicts_all(self, theta: Array) -> None:
        """Take a model that predicts every label as the candidate."""
        before = self.candidate or Candidate(0, theta, gone=False)
        self.candidate = replace(before, parameters=theta)

    def direction(self, features: int) -> Array | None:
        """Return the candidate, scaled for the proof; ``None`` if there is nothing to prove.

        Parameters
        ----------
        features
            How many take part.
        """
        if self.candidate is None:
            return None
        found = self.candidate.parameters
        largest = float(separation.loadings(found, self.deviation(features)).max())
        return found / largest if largest > 0.0 else None

    def columns(self, features: int) -> tuple[int, ...]:
        """Return the features by which the candidate separates, the largest part first."""
        found = self.direction(features)
        if found is None:
            return ()
        return separation.taking_part(found, self.deviation(features))

    def prove(self, features: int, sides: Array) -> None:
        """Judge the candidate by the examples against it and on it.

        Parameters
        ----------
        features
            How many take part.
        sides
            See :func:`fl_he.learning.regression.separation.sides`.
        """
        found = self.direction(features)
        if found is None or sides.shape != (2,):
            raise DataError("two sides of a candidate must be counted, and they are not")
        against, on = (sides > 0.0).tolist()
        kind = separation.kind_of(found, self.first, against=against, on=on)
        self.proof = kind or "not proved"

    def deviation(self, features: int) -> Array:
        """Return the standard deviations of the features that take part, or ones."""
        return np.ones(features) if self.first is None else separation.deviations(self.first)

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        found = self.candidate
        return {
            "first": None if self.first is None else upper_triangle(self.first).tolist(),
            "candidate": found
            and {
                "number": found.number,
                "parameters": found.parameters.tolist(),
                "gone": found.gone,
            },
            "settled": self.settled,
            "proof": self.proof,
        }

    @classmethod
    def from_members(cls, members: object, features: int, rows: int) -> Watch:
        """Read what `to_members` returned.

        Parameters
        ----------
        members
        features, rows
            Of the model, as far as they take part.

        Raises
        ------
        DataError
            If it is not that, or of other parameters.
        """
        if not isinstance(members, Mapping):
            raise DataError("what is known of separation must be an object")
        result = cls(settled=read_flag(members, "settled"))
        if members.get("first") is not None:
            values = finite_array(members["first"], "the first information", dimensions=1)
            result.first = from_upper_triangle(values, features + 1)
        if (candidate := members.get("candidate")) is not None:
            if not isinstance(candidate, Mapping):
                raise DataError("a candidate must be an object")
            found = finite_array(candidate.get("parameters"), "a candidate", dimensions=1)
            if len(found) != rows * (features + 1):
                raise DataError(
                    f"a candidate must have {rows * (features + 1)} parameters, got {len(found)}"
                )
            number = int(read(candidate, "number"))
            result.candidate = Candidate(number, found, read_flag(candidate, "gone"))
        if (proof := members.get("proof")) is not None:
            if proof not in _KINDS:
                raise DataError(f"a proof must be one of {', '.join(_KINDS)}")
            result.proof = _KINDS[_KINDS.index(proof)]
        return result
