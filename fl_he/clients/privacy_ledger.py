"""What a hospital has released under differential privacy, so that its budget is spent once.

A release is noted, with its noise, before it leaves. Asked the same question again, for the same
model in the same session, a hospital gives the same integers again, which tells nobody anything
new: so a reply that was lost, or a run that is resumed, costs no budget. Any other question is a
release of its own.
A ledger belongs to one budget, whatever runs it is spent in: other terms need a new ledger, which
is a promise of its own that adds to the old one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fl_he.clients.ledger import LedgerError, Lines, Store
from fl_he.crypto.encoding.strict_json import parse_object
from fl_he.crypto.errors import CryptoError
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice
from fl_he.wire.encrypted_sum import ProtocolError

#: Longest line, its end included: room for a hundred thousand numbers.
LONGEST_LINE = 1 << 21


class Kind(StrEnum):
    """What is released."""

    gradient = "gradient"
    scaling = "scaling"


@dataclass(frozen=True, slots=True)
class _Release:
    """One release: for which budget and question, with which noise, and what was said."""

    terms: str
    kind: str
    lattice: str
    variance: str
    question: str
    answer: list[int]


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
            Digest of all that the answer depends on, beside the data and the noise.
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
        allowed = terms.rounds if kind is Kind.gradient else int(terms.scaling > 0.0)
        with self._store.exclusively() as lines:
            spent, noise = 0, None
            for entry in _entries(lines):
                if entry is None:
                    spent += 1  # a line that was cut off may have been a release of either kind
                    continue
                of_kind = entry.kind == kind
                if entry.terms != budget or (of_kind and entry.lattice != numbers):
                    raise ProtocolError(
                        "a privacy ledger must be of one budget, and this node's has releases "
                        "under other terms: give it a new one if its patients are promised "
                        "another epsilon beside the old one"
                    )
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
            line = json.dumps(asdict(note), separators=(",", ":"))
            if len(line) >= LONGEST_LINE:
                raise ProtocolError("a private release must have fewer numbers")
            lines.append(line)
        return made


def _text(members: GaussianPrivacy | Lattice) -> str:
    return json.dumps(asdict(members), sort_keys=True)


def _entries(lines: Lines) -> Iterator[_Release | None]:
    for line in lines:
        yield None if line is None else _entry(line)


def _entry(line: str) -> _Release:
    try:
        members = parse_object(
            line, "a privacy ledger's line", [f.name for f in fields(_Release)], LONGEST_LINE
        )
    except CryptoError as error:
        raise LedgerError(str(error)) from None
    answer, variance = members["answer"], members["variance"]
    if not isinstance(answer, list) or not all(
        type(number) is int and abs(number) < 1 << 63 for number in answer
    ):
        raise LedgerError("answer in a privacy ledger must be integers")
    # Python reads no more digits than 4300 by default.
    if not isinstance(variance, str) or not re.fullmatch("[1-9][0-9]{0,999}", variance):
        raise LedgerError("variance in a privacy ledger must be a number")
    if members["kind"] not in list(Kind):
        raise LedgerError("kind in a privacy ledger must be one that is counted")
    terms, lattice, question = (members[name] for name in ("terms", "lattice", "question"))
    if not (isinstance(terms, str) and isinstance(lattice, str) and isinstance(question, str)):
        raise LedgerError("terms, lattice and question in a privacy ledger must be text")
    return _Release(terms, str(members["kind"]), lattice, variance, question, answer)
