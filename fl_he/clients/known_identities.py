"""Identities of the hospitals in opened sets: whether the manifest's names are the same hospitals.

The set rule judges by names. A hospital that enrols again under another name would begin a new
pattern, and another hospital under an old name would continue the old one's. So company X notes
the identities of its manifest whenever they change. The manifest is *doubted* if a hospital of
opened sets has another identity now, or if some are missing while there are hospitals that are in
no opened set. Then no total is opened, until the operator begins an epoch: it names all hospitals,
since any of them may be exposed. Two names of one hospital within a manifest raise no doubt: they
look like two hospitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from fl_he.clients.set_rule import Epoch, Hospitals, OpenedSet
from fl_he.crypto.encoding.fields import Fingerprint, Key


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Ledger line: the fingerprints of all hospitals' identities in the manifest, by name."""

    identities: Annotated[Mapping[str, Fingerprint], Key("enrolled")]


@dataclass(frozen=True, slots=True)
class KnownIdentities:
    """Identities as far as lines of a ledger tell.

    Attributes
    ----------
    known : mapping of str to str
        Fingerprints of hospitals in opened sets; empty in files of earlier versions.
    enrolled : mapping of str to str
        The last manifest's.
    gone : frozenset of str
        Hospitals that were missing when the operator began an epoch in doubt.

    Examples
    --------
    >>> before = KnownIdentities({"A": "1", "B": "2"}, {"A": "1", "B": "2"})
    >>> [sorted(before.after(Enrolled(now)).doubted) for now in ({"A": "1"}, {"A": "1", "C": "2"})]
    [[], ['B', 'C']]
    """

    known: Mapping[str, str] = field(default_factory=dict)
    enrolled: Mapping[str, str] = field(default_factory=dict)
    gone: Hospitals = frozenset()

    def after(self, entry: Enrolled | OpenedSet | Epoch) -> KnownIdentities:
        """Return the identities after one more line."""
        if isinstance(entry, Enrolled):
            now = entry.identities
            known = {name: of or now.get(name, "") for name, of in self.known.items()}
            return KnownIdentities(known, now, self.gone - now.keys())
        if isinstance(entry, OpenedSet):
            new = entry.hospitals - self.known.keys()
            found = {name: self.enrolled.get(name, "") for name in new}
            return replace(self, known={**self.known, **found})
        if not self.doubted:
            return self
        known = {name: self.enrolled.get(name, of) for name, of in self.known.items()}
        return replace(self, known=known, gone=frozenset(known.keys() - self.enrolled.keys()))

    @property
    def doubted(self) -> Hospitals:
        """Hospitals that may be others, or others' successors; see the module."""
        known, enrolled = self.known, self.enrolled
        if not enrolled:
            return frozenset()
        changed = {name for name in known.keys() & enrolled if known[name] != enrolled[name]}
        missing, new = known.keys() - enrolled.keys() - self.gone, enrolled.keys() - known.keys()
        return frozenset(changed | (missing | new if missing and new else set()))

    @property
    def everyone(self) -> Hospitals:
        """All hospitals of opened sets and of the manifest."""
        return frozenset(self.known.keys() | self.enrolled.keys())
