"""The set rule: a set of hospitals whose total may be opened after all earlier ones.

Two totals that differ by one hospital give that hospital's update. So a node that opens totals
keeps the sets of their contributors, over sessions and purposes, and asks `SetRule.judge` first.

**Rule.** A hospital's pattern is the list of opened sets that contain it. Hospitals with one
pattern form a *class*. A set is opened only if afterwards each class has at least
``min_contributors`` hospitals. Hospitals in no opened set form no class, as no total holds
anything of theirs. Newcomers are hospitals that enter their first set: they form a class, so fewer
than ``min_contributors`` cannot enter together.

**Argument.** Each opened set is a union of classes, so each total is the sum of its classes' sums,
and everything that totals show can be computed from these class sums, by any method. A class
sum adds the updates of a whole class for one occasion. In a linear combination ``sum_j c_j T_j`` of
totals, hospital h has the part ``sum_{j: h in S_j} c_j x_j(data of h)``, where x_j is the update as
a function of data. A total is for one occasion, so x_j and thus this part are the same function for
a whole class: the combination involves all hospitals of a class or none. This holds for any models,
terms and rounds, because c_j may be matrices and x_j may differ between totals, also between totals
of one set. If the x_j differ, combinations only cancel less: the worst case is that all totals ask
for the same, and there only the sets count.

**Hospitals that allow being singled out.** A class of such hospitals alone may be smaller: its sum
shows nothing about others. This holds only of a hospital that has allowed it in all of its totals:
whoever has an earlier one, made without a permission, could subtract from it. So a hospital that is
in a total without its permission is *bound*: a later permission of its does not count, until an
epoch exposes the hospital. A class with any other hospital needs ``min_contributors`` hospitals,
whether these allow it or not: no total separates the hospitals of a class, so one that allows being
singled out covers the others as well as any hospital. When it leaves their sets, it leaves their
class, and the others must be enough. After a permission is withdrawn, the hospital's small class
stops everything until the operator decides, or the hospital allows it again in a new session: no
total without the permission was opened in between. `opened_sets` says when a permission begins.

**Smaller minimums.** Each set is kept with the ``min_contributors`` under which it was opened. A
class needs as many hospitals as the largest of its sets, if that is more than now.

**Epochs.** An operator may open a set although it exposes hospitals: an `Epoch` names both. The
history stays. If it started anew, sets of the new epoch could be combined with earlier totals and
expose hospitals that nobody named: A B C and D E F before, A D E and B C F afterwards. A named
hospital may then be left out of any set, but its further updates are opened in the named set only.

The rule is sufficient, not necessary: A B C and C D E with ``min_contributors=3`` are refused,
although every linear combination involves three hospitals. In 10,000 random histories of 3 to 7
hospitals, 6,360 of the 43,336 sets that it refused were safe against all linear combinations. That
exact condition is not the rule: its cost grows exponentially with ``min_contributors``, and the
condition does not cover other inference, such as from bounds of C in both totals.

The number of contributors of one total, the order of rounds and repeated requests are checked
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, TypeAlias

from fl_he.crypto.encoding.fields import Key, Kind, Limit, Natural, Whole, limited, listed
from fl_he.crypto.envelopes.public_identity import NAME

Hospitals: TypeAlias = frozenset[str]

#: Longest line of an `OpenedSet` or `Epoch`, its end included: all hospitals of any manifest twice.
LONGEST_SET_LINE = 2**18
_SHOWN_NAMES = 10
_LIST = limited(
    listed(NAME),
    Limit("be a list of names in order, none twice", lambda names: [*names] == sorted(set(names))),
)
#: A set of hospitals by name, written in one way only.
_ANY_HOSPITALS = Kind(lambda value, at: frozenset(_LIST.read(value, at)), sorted)
_HOSPITALS = limited(_ANY_HOSPITALS, Limit("hold a name", len))


@dataclass(frozen=True, slots=True)
class OpenedSet:
    """Ledger line: a set that changes the history, noted before its total is decrypted.

    Lines of earlier versions have the hospitals only.
    """

    hospitals: Annotated[Hospitals, Key("opened"), _HOSPITALS]
    alone: Annotated[Hospitals, _ANY_HOSPITALS] = frozenset()
    least: Whole = 0


@dataclass(frozen=True, slots=True)
class TrainedSet:
    """Ledger line: the set of a training total that was given out, by its session's place."""

    hospitals: Annotated[Hospitals, Key("trained"), _HOSPITALS]
    session: Natural


@dataclass(frozen=True, slots=True)
class AloneAllowed:
    """Ledger line: all hospitals that by now have signed that they may be singled out."""

    hospitals: Annotated[Hospitals, Key("alone"), _ANY_HOSPITALS]


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """Ledger line: hospitals that signed no permission, when this many sessions had begun."""

    hospitals: Annotated[Hospitals, Key("not_alone"), _HOSPITALS]
    sessions: Whole


@dataclass(frozen=True, slots=True)
class Epoch:
    """Ledger line: an operator's decision to open a set although it exposes these hospitals."""

    hospitals: Annotated[Hospitals, Key("epoch"), _HOSPITALS]
    exposed: Annotated[Hospitals, Key("exposes"), _HOSPITALS]


#: Entries that make a history. Of files of earlier versions `NotAllowed` counts as well.
Judged: TypeAlias = OpenedSet | Epoch | NotAllowed


@dataclass(frozen=True, slots=True)
class SetHistory:
    """Opened sets, as far as later decisions depend on them.

    Attributes
    ----------
    classes : tuple of frozenset of str
        Hospitals by pattern, see the module.
    epochs : tuple of Epoch
        The operator's decisions.
    bound : frozenset of str
        Hospitals in totals without their permission, since the last epoch that exposes them.
    least : mapping of str to int
        The largest ``min_contributors`` of each hospital's sets.

    Examples
    --------
    >>> history = SetHistory.of([OpenedSet(frozenset("ABCDEF")), OpenedSet(frozenset("ABC"))])
    >>> [sorted(group) for group in history.classes]
    [['A', 'B', 'C'], ['D', 'E', 'F']]
    """

    classes: tuple[Hospitals, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    bound: Hospitals = frozenset()
    least: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Judged]) -> SetHistory:
        """Return the history that a ledger's entries tell, in their order."""
        history = cls()
        for entry in entries:
            if isinstance(entry, Epoch):
                bound, epochs = history.bound - entry.exposed, (*history.epochs, entry)
                history = replace(history, epochs=epochs, bound=bound)
            elif isinstance(entry, NotAllowed):
                again = entry.hospitals & frozenset[str]().union(*history.classes)
                history = replace(history, bound=history.bound | again)
            else:
                history = history.after(entry)
        return history

    def after(self, opened: OpenedSet) -> SetHistory:
        """Return the history after a set is opened.

        A set that is a union of classes, such as a repeated one, returns an equal history unless
        its permissions or its minimum are other ones: it need not be kept.
        """
        parts: list[Hospitals] = []
        known = 0
        for group in self.classes:
            inside = group & opened.hospitals
            known += len(inside)
            whole = len(inside) in (0, len(group))
            parts += (group,) if whole else (inside, group - inside)
        if known < len(opened.hospitals):
            parts.append(opened.hospitals.difference(*self.classes))
        least = {name: max(opened.least, self.least.get(name, 0)) for name in opened.hospitals}
        bound = self.bound | opened.hospitals - opened.alone
        return SetHistory(tuple(parts), self.epochs, bound, {**self.least, **least})

    def accepted(self, hospitals: Hospitals) -> Hospitals:
        """Return the hospitals that epochs let a set expose: see the module."""
        return frozenset[str]().union(
            *(
                epoch.exposed if epoch.hospitals == hospitals else epoch.exposed - hospitals
                for epoch in self.epochs
            )
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer of the set rule for one set.

    Attributes
    ----------
    hospitals : frozenset of str
        The set.
    exposed : frozenset of str
        Hospitals whose class would be too small; empty if the set may be opened.
    opened : OpenedSet or None
        The set as it must be kept in the history; ``None`` if it changes nothing there.
    min_contributors : int
        As company X has it.
    least : int
        How many hospitals must share the same totals: the largest number that applies.
    doubted : frozenset of str
        See `known_identities`. With any, all hospitals are exposed.
    """

    hospitals: Hospitals
    exposed: Hospitals
    opened: OpenedSet | None
    min_contributors: int
    least: int
    doubted: Hospitals = frozenset()

    def __str__(self) -> str:
        """Return one sentence for a coordinator: names are the manifest's, so they are public."""
        total = f"the total of these {len(self.hospitals)} hospitals"
        if not self.exposed:
            return f"{total} may be opened"
        if self.doubted:
            return (
                f"no total is opened: {_some(self.doubted)} may be other hospitals than in opened "
                "totals, or the same under other names (company X's manifest has changed); go back "
                "to the earlier manifest, or let company X's operator begin a new epoch with "
                "`fl-he ledger FILE --open NAME,...`"
            )
        return (
            f"{total} would expose {_some(self.exposed)}: fewer than {self.least} "
            "hospitals (min_contributors) would share the same totals; ask the hospitals of an "
            "earlier total again, or let company X's operator begin a new epoch"
        )


def _some(hospitals: Hospitals) -> str:
    names = sorted(hospitals)
    more = len(names) - _SHOWN_NAMES
    return f"{', '.join(names[:_SHOWN_NAMES])}{f' and {more} more' if more > 0 else ''}"


@dataclass(frozen=True, slots=True)
class SetRule:
    """The rule of this module under the settings of a manifest.

    Parameters
    ----------
    min_contributors : int
    alone_allowed : frozenset of str
        Hospitals that have signed that they may be singled out.

    Examples
    --------
    Two sets that differ by one hospital, first without its permission and then with it:

    >>> history = SetHistory.of([OpenedSet(frozenset("ABCD"))])
    >>> sorted(SetRule(3).judge(history, frozenset("ABC")).exposed)
    ['D']
    >>> history = SetHistory.of([OpenedSet(frozenset("ABCD"), frozenset("D"))])
    >>> sorted(SetRule(3, frozenset("D")).judge(history, frozenset("ABC")).exposed)
    []
    """

    min_contributors: int
    alone_allowed: Hospitals = frozenset()

    def judge(self, history: SetHistory, hospitals: Hospitals) -> Verdict:
        """Tell whether the total of a set may be opened, and whom it would expose."""
        alone = self.alone_allowed & hospitals
        opened = OpenedSet(hospitals, alone, self.min_contributors)
        after = history.after(opened)
        least = {group: self._least(after, group) for group in after.classes}
        small = [group for group in after.classes if len(group) < least[group]]
        exposed = frozenset[str]().union(*small) - (self.alone_allowed - after.bound)
        return Verdict(
            hospitals,
            exposed - history.accepted(hospitals),
            opened if after != history else None,
            self.min_contributors,
            max((least[group] for group in small), default=self.min_contributors),
        )

    def _least(self, history: SetHistory, group: Hospitals) -> int:
        return max(self.min_contributors, *(history.least.get(name, 0) for name in group))
