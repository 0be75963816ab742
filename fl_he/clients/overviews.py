"""Sessions as company X's ledger tells of them, for its operator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fl_he.clients.ledger import KeyDeleted, KeyMade, Opening, Session, discarded_sums, entries
from fl_he.wire.encrypted_sum import Purpose


@dataclass(frozen=True, slots=True)
class SessionOverview:
    """A session as its ledger tells of it.

    Attributes
    ----------
    session : str
    key : str
        Fingerprint of the key with which the session began.
    last : mapping of Purpose to int
        The last round that was opened and not discarded.
    closed : bool
        Whether a line behind the session's begin was cut off, so that nothing more is opened.
    made : KeyMade or None
        ``None`` for a session under a key file.
    deleted : KeyDeleted or None
    """

    session: str
    key: str
    last: dict[Purpose, int] = field(default_factory=dict)
    closed: bool = False
    made: KeyMade | None = None
    deleted: KeyDeleted | None = None


def session_overviews(lines: Iterable[str | None]) -> list[SessionOverview]:
    """Return the sessions of a ledger in the order of their begin; LedgerError if it has others."""
    found: dict[str, SessionOverview] = {}
    made: dict[str, KeyMade] = {}  # noted before the session
    noted = list(lines)
    discarded = discarded_sums(noted)
    for entry in entries(noted):
        if entry is None:
            found = {name: replace(session, closed=True) for name, session in found.items()}
        elif isinstance(entry, Session):
            name = entry.session
            found[name] = SessionOverview(name, entry.key, made=made.get(name))
        elif isinstance(entry, KeyMade):
            made[entry.session] = entry
        elif isinstance(entry, KeyDeleted) and entry.session in found:
            found[entry.session] = replace(found[entry.session], deleted=entry)
        elif isinstance(entry, Opening) and entry.session in found and entry.sum not in discarded:
            last = found[entry.session].last
            last[entry.purpose] = max(entry.round, last.get(entry.purpose, 0))
    return list(found.values())
