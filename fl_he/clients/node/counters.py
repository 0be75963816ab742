"""How many sums company X says it has opened, as a hospital remembers it over sessions.

Company X counts its openings (see :mod:`fl_he.clients.ledger`), and signs the counter with each
total and with each key of a session. If an older copy replaces its ledger, it has forgotten which
sums it has opened, and counts again from there. A hospital notices:

- a key of a session that is new to the hospital must be signed after all totals and keys that the
  hospital knows. Company X signs anew whenever it describes itself;
- two different totals must not have the same counter;
- totals of one session come with growing counters.

A hospital that catches up meets totals that it knows, or totals of another session's time: neither
is a sign.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fl_he.clients.ledger import Lines, Store, ledger_document
from fl_he.crypto.encoding.fields import Whole
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey

_logger = logging.getLogger(__name__)

_ROLLED_BACK = "company X's ledger was rolled back: ask its operator"


@dataclass(frozen=True, slots=True)
class _Heard:
    """A counter that company X has signed, with a total's digest; with none for a key."""

    counter: Whole
    session: str
    total: str


_LINES = ledger_document(_Heard)


class Counters:
    """Company X's counters on a hospital's own disk; LedgerError if the file cannot be trusted.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def hear_key(self, key: RunKey) -> None:
        """Note a key's counter; raises ProtocolError if company X has signed a later one before.

        A session that the hospital knows may bring an older statement: the coordinator keeps it.
        """
        with self._store.exclusively() as lines:
            heard = _read(lines)
            largest = max((one.counter for one in heard), default=-1)
            known = any(one.session == key.session for one in heard)
            if not known and key.counter < largest:
                raise _refusal(
                    f"company X's key of a session must be signed after all that this hospital has "
                    f"of company X: it says {key.counter} opened sums, and {largest} are known. "
                    f"Begin a new run; if that is refused as well, {_ROLLED_BACK}"
                )
            if not known or key.counter > largest:
                lines.append(_LINES.dumps(_Heard(key.counter, key.session, "")))

    @contextmanager
    def hearing_total(self, session: str, counter: int, digest: bytes) -> Iterator[None]:
        """Note a total if nothing is raised within.

        Raises
        ------
        ProtocolError
            If company X has signed another total in this one's place.
        """
        total = _Heard(counter, session, digest.hex())
        with self._store.exclusively() as lines:
            totals = [one for one in _read(lines) if one.total]
            if total in totals:
                yield
                return
            same = [one for one in totals if one.counter == counter]
            if same or any(one.counter > counter for one in totals if one.session == session):
                raise _refusal(
                    f"company X must count each opened sum once, and has signed another total as "
                    f"number {counter} or as a later one before: {_ROLLED_BACK}"
                )
            yield
            lines.append(_LINES.dumps(total))


def _read(lines: Lines) -> list[_Heard]:
    # A line that was cut off is of a message that was not answered.
    return [_LINES.loads(line, _Heard) for line in lines if line is not None]


def _refusal(words: str) -> ProtocolError:
    _logger.error("%s", words)
    return ProtocolError(words)
