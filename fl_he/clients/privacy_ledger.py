"""A hospital's releases under differential privacy, so that its budget is spent once.

A release is noted, with its noise, before it leaves. Asked the same question again, for the same
model in the same round of the same session, a hospital gives the same integers again, which tells
nobody anything new: so a reply that was lost, or a run that is resumed, costs no budget. Any other
question, another round over the same model too, is a release of its own.
A ledger belongs to one budget, in all runs that spend it. Other terms need a new ledger: a
further promise, which adds to the old one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fl_he.clients.stores import Store, ledger_document
from fl_he.crypto.encoding.fields import Limit, matching
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice
from fl_he.wire.records import ProtocolError

#: Longest line, its end included: room for a hundred thousand numbers.
LONGEST_LINE = 1 << 21
_OTHER_BUDGET = (
    "a privacy ledger must be of one budget, and this node's has releases under other terms: give "
    "it a new one if its patients are promised another epsilon in addition to the old one"
)


class Kind(StrEnum):
    """Kind of a release."""

    gradient = "gradient"
    scaling = "scaling"


@dataclass(frozen=True, slots=True)
class _Release:
    """One release: for which budget and question, with which noise, and what was said."""

    terms: str
    kind: Kind
    lattice: str
    # Python reads no more digits than 4300 by default.
    variance: Annotated[str, matching("[1-9][0-9]{0,999}", "be a number")]
    question: str
    answer: list[Annotated[int, Limit("fit 64 bits", lambda number: abs(number) < 1 << 63)]]


_LINES = ledger_document(_Release, LONGEST_LINE)


class PrivacyLedger:
    """The releases of one hospital's patients.

    Parameters
    ----------
    store : Store
        Where they are noted; takes lines of `LONGEST_LINE`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def release(
        self,
        terms: GaussianPrivacy,
        kind: Kind,
        lattice: Lattice,
        question: bytes,
        *,
        variance: Callable[[], int],
        answer: Callable[[int], NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """Return the answer to a question: the one that was given before, or a new one.

        Parameters
        ----------
        terms : GaussianPrivacy
            The budget.
        kind : Kind
            Gradients are released once for each round of the terms, sums for the scaling once if
            they have a share of the budget.
        lattice : Lattice
            Of all releases of this kind.
        question : bytes
            Digest of all that the answer depends on, without the data and the noise.
        variance : callable
            Returns that of this hospital's noise; asked at the first release of a kind only.
        answer : callable
            Makes the answer with noise of a variance; called if there is none yet.

        Raises
        ------
        ProtocolError
            If the budget is spent, or the ledger is another budget's.
        LedgerError
            If the ledger cannot be trusted.
        """
        budget, numbers = _text(terms), _text(lattice)
        allowed = _most(terms, kind)
        with self._store.exclusively() as lines:
            spent, noise = 0, None
            for line in lines:
                if line is None:
                    spent += 1  # a line that was cut off may have been a release of either kind
                    continue
                entry = _LINES.loads(line, _Release)
                of_kind = entry.kind == kind
                if entry.terms != budget or (of_kind and entry.lattice != numbers):
                    raise ProtocolError(_OTHER_BUDGET)
                if not of_kind:
                    continue
                if entry.question == question.hex():
                    return np.array(entry.answer, dtype=np.int64)
                spent += 1
                noise = int(entry.variance)
            if spent >= allowed:
                raise ProtocolError(
                    f"a hospital must make at most {allowed} releases of {kind} sums under this "
                    "privacy budget, and it has: the budget is spent"
                )
            noise = variance() if noise is None else noise
            made = answer(noise)
            note = _Release(budget, kind, numbers, str(noise), question.hex(), made.tolist())
            line = _LINES.dumps(note)
            if len(line) >= LONGEST_LINE:
                raise ProtocolError("a private release must have fewer numbers")
            lines.append(line)
        return made


def releases(lines: Iterable[str | None], terms: GaussianPrivacy) -> dict[Kind, tuple[int, int]]:
    """Return, for each kind, how many releases are noted and how many the budget allows.

    Raises
    ------
    LedgerError
        If the ledger cannot be trusted.
    ProtocolError
        If the ledger is another budget's.
    """
    entries = [None if line is None else _LINES.loads(line, _Release) for line in lines]
    if any(entry is not None and entry.terms != _text(terms) for entry in entries):
        raise ProtocolError(_OTHER_BUDGET)
    # A line that was cut off may have been a release of either kind.
    return {
        kind: (sum(entry is None or entry.kind == kind for entry in entries), _most(terms, kind))
        for kind in Kind
    }


def _most(terms: GaussianPrivacy, kind: Kind) -> int:
    return terms.rounds if kind is Kind.gradient else int(terms.scaling > 0.0)


def _text(members: GaussianPrivacy | Lattice) -> str:
    return json.dumps(asdict(members), sort_keys=True)
