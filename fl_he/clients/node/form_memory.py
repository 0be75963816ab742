"""Forms of the replies of an app that declares none: that of its first reply, fixed from then on.

A form is which arrays and metrics a reply has. It is known by the action, in the Flower run and in
company X's session of the first reply. An app that fails at its first reply has no form: its node
takes no further part. All of it is in a file on the hospital's own disk, not in Flower's context,
which the coordinator can reset.
"""

from __future__ import annotations

from dataclasses import dataclass

from fl_he.clients.stores import Store, ledger_document
from fl_he.wire.update_layout import UpdateLayout

#: Longest line, its end included: room for the layout of a large model, twice escaped.
LONGEST_LINE = 1 << 22


@dataclass(frozen=True, slots=True)
class _Form:
    """The form of the replies to an action; empty for the kind of an action that failed."""

    run: str
    session: str
    action: str
    layout: str


_LINES = ledger_document(_Form, LONGEST_LINE)


class FormMemory:
    """Forms in a Flower run and a session.

    Parameters
    ----------
    store : Store
        Takes lines of `LONGEST_LINE`.
    run_id : int
        Of the Flower run.
    session : str
        Company X's, as the message names it.
    """

    def __init__(self, store: Store, run_id: int, session: str) -> None:
        self._store, self._run, self._session = store, str(run_id), session

    def form(self, action: str) -> UpdateLayout | None:
        """Return the form of the replies to an action, ``None`` as long as there is none."""
        found = self._find(action)
        return None if found is None else UpdateLayout.from_json(found)

    def has_failed(self, kind: str) -> bool:
        """Tell whether the app failed at a first reply, to a message of a kind of action."""
        return self._find(kind, failed=True) is not None

    def fix(self, action: str, layout: UpdateLayout) -> None:
        """Fix the form of the replies to an action."""
        self._note(_Form(self._run, self._session, action, layout.to_json()))

    def fail(self, kind: str) -> None:
        """Note that the app failed at its first reply."""
        self._note(_Form(self._run, self._session, kind, ""))

    def _find(self, action: str, *, failed: bool = False) -> str | None:
        with self._store.exclusively() as lines:
            for line in lines:
                entry = None if line is None else _LINES.loads(line, _Form)
                if entry is None or entry.action != action or failed is bool(entry.layout):
                    continue
                if entry.run == self._run or entry.session == self._session:
                    return entry.layout
        return None

    def _note(self, form: _Form) -> None:
        with self._store.exclusively() as lines:
            lines.append(_LINES.dumps(form))
