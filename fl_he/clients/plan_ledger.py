"""Sums that a node has given under its study plans, counted by session.

A sum is noted before its answer leaves, in a file on the node's own disk, so that neither a crash
nor a coordinator that begins new runs makes a node forget. In a session a round of a purpose
counts once: it may come again, since an answer may have been lost. What a session computes with
stays as it was when the session began.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from fl_he.clients.stores import Store, ledger_document
from fl_he.wire.planned_messages import Asked
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan

_LINES = ledger_document(Asked)


class PlanLedger:
    """Sums under study plans, by the rules of this module.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def require_begun(self, plan: str, session: str) -> None:
        """Refuse the end of a session that has had no sum under a plan, such as a made-up one.

        Parameters
        ----------
        plan : str
            The plan's digest.
        session : str
        """
        with self._store.exclusively() as lines:
            entries = _entries(lines)
        if not any(entry.plan == plan and entry.session == session for entry in entries):
            raise ProtocolError(
                "a model is saved at the end of a session, and this node has had no sum in this one"
            )

    def note(self, plan: StudyPlan, asked: Asked) -> None:
        """Note a sum before it is given; a sum that is noted already may be given again.

        Raises
        ------
        ProtocolError
            If the plan has no further sessions or sums of this purpose, or if the session began
            with another train config.
        LedgerError
            If the file cannot be trusted.
        """
        if not asked.session:
            raise ProtocolError("a message under a study plan must name company X's session")
        with self._store.exclusively() as lines:
            entries = _entries(lines)
            if not _is_noted(plan, asked, entries):
                lines.append(_LINES.dumps(asked))


def sessions_by_plan(lines: Iterable[str | None]) -> dict[str, dict[str, dict[str, int]]]:
    """Return, for each plan's digest and session, the number of sums by purpose."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for entry in _entries(lines):
        counts = found.setdefault(entry.plan, {}).setdefault(entry.session, {})
        counts[entry.purpose] = counts.get(entry.purpose, 0) + 1
    return found


def _entries(lines: Iterable[str | None]) -> list[Asked]:
    # A line that was cut off is of a message that was not answered.
    return [_entry(line) for line in lines if line is not None]


def _is_noted(plan: StudyPlan, asked: Asked, entries: list[Asked]) -> bool:
    session = [entry for entry in entries if entry.session == asked.session]
    if not session:
        begun = {entry.session for entry in entries if entry.plan == asked.plan}
        if len(begun) >= plan.most_sessions:
            raise ProtocolError(
                f"the study plan has {plan.most_sessions} sessions, and this node has taken part "
                "in as many: further ones need a new plan"
            )
    if any(entry.plan != asked.plan for entry in session):
        raise ProtocolError("a session must be of one study plan, and it began under another")
    if any(entry.terms != asked.terms for entry in session):
        raise ProtocolError("the train config must stay as the session began, and it has changed")
    rounds = {entry.round for entry in session if entry.purpose == asked.purpose}
    if asked.round in rounds:
        return True
    most = plan.most(asked.purpose)
    if len(rounds) >= most:
        raise ProtocolError(
            f"a session under the study plan has {most} sums for {asked.purpose}, and this one has "
            "had them"
        )
    return False


# A process that answers many requests meets the same lines again with each of them.
@lru_cache(maxsize=10_000)
def _entry(line: str) -> Asked:
    return _LINES.loads(line, Asked)
