"""What an answering party has answered, so that its patients' budget is spent once.

A batch is noted before the party's votes leave. It counts as tested and answered in full, since
who got no answer only the querying party knows. A ledger belongs to one promise and one noise,
whatever runs it is spent in, and whoever asked: others need a new ledger, which is a promise of its
own that adds to the old one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from fl_he.capc.agreement import Agreement
from fl_he.clients.ledger import Lines, Store, ledger_document
from fl_he.crypto.encoding.fields import Natural
from fl_he.learning.errors import PrivacyError
from fl_he.learning.voting.gnmax import VotingBudget
from fl_he.wire.records import ProtocolError

#: What the patients are promised, and the noise by which that is kept: members of the agreement.
_PROMISE = ("delta", "epsilon", "sigma_gnmax", "sigma_threshold")


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch was answered."""

    promise: str
    session: str
    queries: Natural


_LINES = ledger_document(_Batch)


class VotingLedger:
    """The batches that one party has answered.

    Parameters
    ----------
    store : Store
        Where they are noted.
    agreement : Agreement
        Has the promise.
    """

    def __init__(self, store: Store, agreement: Agreement) -> None:
        self._store, self._agreement = store, agreement
        self._promise = json.dumps({name: getattr(agreement, name) for name in _PROMISE})

    def budget(self) -> VotingBudget:
        """Return what is left of the budget."""
        with self._store.exclusively() as lines:
            return self._left(lines)

    def spend(self, session: str, queries: int) -> None:
        """Note a batch.

        Parameters
        ----------
        session : str
            Names the batch.
        queries : int

        Raises
        ------
        ProtocolError
            If the budget does not allow it, the batch is there already, or the ledger is another
            promise's; nothing is noted.
        LedgerError
            If the ledger cannot be trusted.
        """
        with self._store.exclusively() as lines:
            spend(self._left(lines, session), queries)
            lines.append(_LINES.dumps(_Batch(self._promise, session, queries)))

    def _left(self, lines: Lines, session: str | None = None) -> VotingBudget:
        """Return the budget without what is spent, which must not be in the session."""
        budget = self._agreement.budget()
        for line in lines:
            if line is None:
                # its batch was not answered: the line had to be whole first
                continue
            batch = _LINES.loads(line, _Batch)
            if batch.promise != self._promise:
                raise ProtocolError(
                    "a voting ledger must be of one promise, and this node's has batches under "
                    "another epsilon, delta or noise: give it a new one if its patients are "
                    "promised that beside the old one"
                )
            if batch.session == session:
                # else noise could be used twice
                raise ProtocolError("a batch must be answered once, got one that was before")
            spend(budget, batch.queries)
        return budget


def spend(budget: VotingBudget, queries: int) -> None:
    """Count queries as tested and answered; ProtocolError if that is more than what is left."""
    try:
        budget.spend(queries)
    except PrivacyError as error:
        raise ProtocolError(str(error)) from None
