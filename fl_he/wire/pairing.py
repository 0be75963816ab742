"""Exchange of the seeds of pairwise masks, in two messages to each hospital of a set.

The first names the set and is answered with the hospital's halves of seeds, each sealed to the
other hospital of its pair. The second brings a hospital the halves that are for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fl_he.crypto.encoding.fields import Limit
from fl_he.wire.encrypted_sum import SignedKey
from fl_he.wire.records import ENVELOPE_STYPE, SPARSE, Message, blobs

SEEDS = "query.seeds"
PAIR = "query.pair"

_Session = Annotated[str, Limit("name company X's session", len)]
_Halves = Annotated[Mapping[str, bytes], blobs("fl-he.halves", ENVELOPE_STYPE, "envelope")]


@dataclass(frozen=True, slots=True)
class SeedsRequest(Message):
    """Ask a hospital for its halves.

    Attributes
    ----------
    session : str
    hospitals : tuple of str
        Names of the set, this hospital's too.
    run_key : bytes or None
        Company X's signed statement of its key, by which a hospital knows the session.
    manifest : str
        In a simulation, whose nodes have no manifest, JSON of the one that they share.
    """

    session: _Session
    hospitals: tuple[str, ...]
    run_key: SignedKey | None = field(default=None, repr=False)
    manifest: Annotated[str, SPARSE] = ""


@dataclass(frozen=True, slots=True)
class Halves(Message):
    """Halves of seeds: a hospital's own by their receivers, or others' by their senders."""

    session: _Session
    halves: _Halves = field(repr=False)
    manifest: Annotated[str, SPARSE] = ""
