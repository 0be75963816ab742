"""Company X's signed counters of its openings, as a hospital remembers them over sessions.

Company X counts its openings (see :mod:`fl_he.clients.ledger`), and signs the counter with each
total and with each key of a session, together with the head of its ledger: a digest of all openings
up to there. If an older copy replaces its ledger, it has forgotten which sums it has opened, and
counts again from there. A hospital notices:

- a key of a session that is new to the hospital must be signed after all totals and keys that the
  hospital knows. Company X signs anew whenever it describes itself;
- a counter that the hospital knows must come with the head that the hospital knows;
- totals of one session come with growing counters.

A hospital that catches up meets totals that it knows, or totals of another session's time: neither
is a sign. Each identity of company X has counters of its ledger: a hospital compares only those of
the identity that its manifest has now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.stores import Lines, Store, ledger_document
from fl_he.crypto.encoding.fields import Whole
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey
from fl_he.wire.totals import Total

_logger = logging.getLogger(__name__)

_ROLLED_BACK = "company X's ledger was rolled back: ask its operator"


@dataclass(frozen=True, slots=True)
class _Heard:
    """A counter and a head that company X has signed, with a total's digest or none for a key."""

    company_x: str
    counter: Whole
    head: str
    session: str
    total: str


_LINES = ledger_document(_Heard)


class Counters:
    """Company X's counters on a hospital's own disk; LedgerError if the file cannot be trusted.

    Parameters
    ----------
    store : Store
    company_x : str
        Fingerprint of the public identity of company X that signs.
    """

    def __init__(self, store: Store, company_x: str) -> None:
        self._store = store
        self._company_x = company_x

    @classmethod
    def of(cls, node: Node, enrolment: Enrolment) -> Counters:
        """Return a hospital's counters of the company X of its manifest."""
        return cls(node.counters(), enrolment.manifest.key_holder.fingerprint)

    def hear_key(self, key: RunKey) -> None:
        """Note a key's counter; raises ProtocolError if company X has signed a later one before.

        A session that the hospital knows may bring an older statement: the coordinator keeps it.
        No statement may come with another head than was heard with its counter.
        """
        with self._store.exclusively() as lines:
            heard = self._read(lines)
            new = _Heard(self._company_x, key.counter, key.head.hex(), key.session, "")
            _require_same_head(new, heard)
            largest = max((one.counter for one in heard), default=-1)
            known = any(one.session == key.session for one in heard)
            if not known and key.counter < largest:
                raise _refusal(
                    f"company X's key of a session must be signed after all that this hospital has "
                    f"of company X: it says {key.counter} opened sums, and {largest} are known. "
                    f"Begin a new run; if that is refused as well, {_ROLLED_BACK}"
                )
            if not known or key.counter > largest:
                lines.append(_LINES.dumps(new))

    @contextmanager
    def hearing_total(self, session: str, total: Total, digest: bytes) -> Iterator[None]:
        """Note a total if nothing is raised within.

        Raises
        ------
        ProtocolError
            If company X has signed another total in this one's place, or another ledger.
        """
        new = _Heard(self._company_x, total.counter, total.head.hex(), session, digest.hex())
        with self._store.exclusively() as lines:
            heard = self._read(lines)
            if new in heard:
                yield
                return
            _require_same_head(new, heard)
            totals = [one for one in heard if one.total]
            same = any(one.counter == new.counter for one in totals)
            if same or any(one.counter > new.counter for one in totals if one.session == session):
                raise _refusal(
                    f"company X must count each opened sum once, and has signed another total as "
                    f"number {new.counter} or as a later one before: {_ROLLED_BACK}"
                )
            yield
            lines.append(_LINES.dumps(new))

    def _read(self, lines: Lines) -> list[_Heard]:
        # A line that was cut off is of a message that was not answered.
        heard = [_LINES.loads(line, _Heard) for line in lines if line is not None]
        return [one for one in heard if one.company_x == self._company_x]


def _require_same_head(new: _Heard, heard: list[_Heard]) -> None:
    if any(one.counter == new.counter and one.head != new.head for one in heard):
        raise _refusal(
            f"company X must have one ledger, and has signed {new.counter} opened sums of another "
            f"one before: {_ROLLED_BACK}"
        )


def _refusal(words: str) -> ProtocolError:
    _logger.error("%s", words)
    return ProtocolError(words)
