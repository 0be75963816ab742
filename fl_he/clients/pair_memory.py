"""A hospital's memory of pairwise masks: its set, its seeds, and what it has answered.

A vote of CaPC is an update here, too: what a hospital gives to one sum.

**The set.** A hospital masks its updates for one set of hospitals, for good. Were it to mask for
two, a total of one less a total of the other would be a sum over their difference. To look at its
own sets, as company X looks at all sets by `fl_he.clients.set_rule`, is not enough: let B mask for
S and T, C for S and U, and A, B', C' for S alone, with B in T only and C in U only. S holds at
least three hospitals of each pattern that B sees, and that C sees, and yet the total of S less
those of T and U may hold A alone. So the operator, who knows whom that exposes, deletes the file of
the set before a new one begins.

**Answers.** Pairs' streams are of a question, so two updates under the same streams would show
their difference. A hospital notes a keyed digest of its update for each question before a reply
leaves, and answers again for the same update alone. If its files are put back to an older copy, it
has forgotten that: a changed table, or an app with randomness, then shows a difference.

**Lost files.** A hospital that has lost its seeds in a session makes new ones, which the others
refuse in that session: see `fl_he.crypto.tickets.pairs`. So seeds may go as soon as the session is
over: a hospital answers none whose key is over, and deletes its seeds then. The set stays.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Annotated

from fl_he.clients.stores import Store, ledger_document
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import Fingerprint, Whole
from fl_he.crypto.encoding.streams import KEY_BYTES, KeyStream, Stream
from fl_he.crypto.encoding.strict_json import base64url
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.pairs import PairMasks, half_for, set_digest
from fl_he.wire.records import PrivateReasonError, ProtocolError

#: Longest line, its end included: room for the names of 300 hospitals.
LONGEST_PAIR_LINE = 1 << 17

_RANDOM = b"fl-he random update 1"
_Secret = Annotated[bytes, base64url(KEY_BYTES)]


@dataclass(frozen=True, slots=True)
class _Set:
    """The set for which the hospital masks."""

    hospitals: tuple[str, ...]
    digest: Fingerprint


@dataclass(frozen=True, slots=True)
class _Began:
    """The hospital's secret of a session; over at a time in seconds since 1970, if not 0."""

    digest: Fingerprint
    secret: _Secret = field(repr=False)
    until: Whole = 0


@dataclass(frozen=True, slots=True)
class _Half:
    """Another hospital's half of the seed of its pair with this one."""

    hospital: str
    half: _Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Answered:
    """The update with which a question was answered."""

    question: Fingerprint
    update: Fingerprint


_SETS = ledger_document(_Set, LONGEST_PAIR_LINE)
_BEGAN, _HALVES, _ANSWERED = map(ledger_document, (_Began, _Half, _Answered))


@dataclass
class _Seeds:
    """All that a session's file holds."""

    began: _Began | None = None
    halves: dict[str, bytes] = field(default_factory=dict, repr=False)
    answered: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, lines: Iterable[str | None]) -> _Seeds:
        """Read the lines; what was cut off has not been answered."""
        found = cls()
        for line in lines:
            if line is None:
                continue
            if line.startswith('{"digest":'):
                found.began = _BEGAN.loads(line, _Began)
            elif line.startswith('{"hospital":'):
                half = _HALVES.loads(line, _Half)
                found.halves[half.hospital] = half.half
            else:
                answered = _ANSWERED.loads(line, _Answered)
                found.answered[answered.question] = answered.update
        return found


def masked_for(lines: Iterable[str | None]) -> tuple[str, ...]:
    """Return the names of the set in the lines of its file; none before there is one."""
    known = (_SETS.loads(line, _Set) for line in lines if line is not None)
    return tuple(name for one in known for name in one.hospitals)


def are_over(lines: Iterable[str | None], now: int) -> bool:
    """Tell from the lines of a session's file whether the session is over."""
    began = _Seeds.read(lines).began
    return began is not None and 0 < began.until <= now


class PairMemory:
    """A hospital's set, and its seeds in a session.

    Parameters
    ----------
    sets, session : Store
        Where the set is kept, for good, and the seeds of one session.
    hospital : str
        This hospital's name.
    """

    def __init__(self, sets: Store, session: Store, hospital: str) -> None:
        self._sets, self._session, self._hospital = sets, session, hospital

    def begin(self, hospitals: Mapping[str, bytes], until: int = 0) -> dict[str, bytes]:
        """Return this hospital's halves for the others of a set, the same each time in a session.

        Parameters
        ----------
        hospitals : mapping of str to bytes
            Names of the set, each with the digest of its identity.
        until : int
            When the session is over, in whole seconds since 1970; 0 if nobody knows.

        Raises
        ------
        ProtocolError
            If the hospital has masked for another set before, in the session or ever.
        """
        digest, names = set_digest(hospitals).hex(), tuple(sorted(hospitals))
        with self._session.exclusively() as session, self._sets.exclusively() as sets:
            began = _Seeds.read(session).began
            if began is not None and began.digest != digest:
                raise ProtocolError("a session must have one set of hospitals: begin a new run")
            known = [_SETS.loads(line, _Set) for line in sets if line is not None]
            if any(one.digest != digest for one in known):
                raise ProtocolError(
                    "a hospital must mask for one set of hospitals, for good, and this is "
                    "another than before: ask the hospitals of the manifest of then, or let this "
                    "hospital's operator delete the file of the set (docs/deployment.md says whom "
                    "that exposes)"
                )
            if not known:
                sets.append(_SETS.dumps(_Set(names, digest)))
            if began is None:
                began = _Began(digest, secrets.token_bytes(KEY_BYTES), until)
                session.append(_BEGAN.dumps(began))
        return {name: half_for(began.secret, name) for name in names if name != self._hospital}

    def keep(self, halves: Mapping[str, bytes]) -> None:
        """Keep the others' halves.

        Raises
        ------
        ProtocolError
            If this hospital has not begun, a hospital of the set is missing or another one there,
            or one gives another half than before.
        """
        with self._session.exclusively() as lines:
            seeds = _Seeds.read(lines)
            _require_begun(seeds)
            if set(halves) != self._others():
                raise ProtocolError("halves of seeds must be those of the other hospitals of a set")
            if any(seeds.halves.get(name, half) != half for name, half in halves.items()):
                raise ProtocolError(
                    "a hospital must give one half of a seed in a session, and one has lost its "
                    "own: begin a new run"
                )
            for name, half in halves.items():
                if name not in seeds.halves:
                    lines.append(_HALVES.dumps(_Half(name, half)))

    def random_stream(self, occasion: Occasion) -> Stream:
        """Return a stream for an update of random numbers: for one question always the same."""
        with self._session.exclusively() as lines:
            began = _require_begun(_Seeds.read(lines))
        question = occasion.pair_info(bytes.fromhex(began.digest), None)
        return KeyStream(began.secret, encode_fields(_RANDOM, question))

    def masks(
        self,
        occasion: Occasion,
        update: bytes,
        value_key: bytes | None = None,
        *,
        absent: str = "",
    ) -> PairMasks:
        """Return the masks of an update, after it is noted.

        Parameters
        ----------
        occasion : Occasion
        update : bytes
            All that decides about the update.
        value_key : bytes or None
            As company X has given it.
        absent : str
            A hospital of the set that is not in the sum, if there is one; part of `occasion.asked`.

        Raises
        ------
        ProtocolError
            If seeds are missing.
        PrivateReasonError
            If the same question was answered with another update.
        """
        with self._session.exclusively() as lines:
            seeds = _Seeds.read(lines)
            began = _require_begun(seeds)
            if set(seeds.halves) != self._others():
                raise ProtocolError("seeds of masks must be exchanged before an update is asked")
            digest = blake2b(update, key=began.secret, digest_size=32).hexdigest()
            info = occasion.pair_info(bytes.fromhex(began.digest), value_key)
            answered = _Answered(sha256(info).hexdigest(), digest)
            known = seeds.answered.get(answered.question)
            if known is None:
                lines.append(_ANSWERED.dumps(answered))
            elif known != answered.update:
                raise PrivateReasonError(
                    "an update must be the same whenever a sum asks for it again, and this one "
                    "differs from the first: begin a new run"
                )
        halves = {name: half for name, half in seeds.halves.items() if name != absent}
        return PairMasks(self._hospital, began.secret, halves, info)

    def _others(self) -> set[str]:
        with self._sets.exclusively() as lines:
            return {*masked_for(lines)} - {self._hospital}


def _require_begun(seeds: _Seeds) -> _Began:
    if seeds.began is None:
        raise ProtocolError("seeds of masks must be exchanged before an update is asked")
    return seeds.began
