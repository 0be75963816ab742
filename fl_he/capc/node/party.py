"""One step at one CaPC node: the node's own part, its memory of the batch, and the request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from fl_he.capc.messages import CapcRequest
from fl_he.capc.node.keys import KeyPair, PublicKeys
from fl_he.capc.node.vote_pairs import VotePairs
from fl_he.capc.protocol import FIRST, TABLE, CapcRole, Part, Row
from fl_he.capc.terms import Terms
from fl_he.errors import kind_in_words
from fl_he.learning.voting.integer_model import IntegerModel
from fl_he.wire.records import ProtocolError, kept_config


class Party(Protocol):
    """One node's part in CaPC: what its steps compute with."""

    @property
    def terms(self) -> Terms:
        """Terms that the parties have agreed on."""

    def queries(self, count: int) -> NDArray[np.int64]:
        """Return the features of this many queries, shape (queries, features), in fixed point."""

    def model(self) -> IntegerModel:
        """Return the model with which this party answers."""

    def learn(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        """Take the labels, -1 for "no answer"; return what the party says of itself then."""

    def about(self, label: int) -> Party:
        """Return the party's part in a vote for one of several labels, from 1.

        Raises
        ------
        ProtocolError
            Unless the label is 0, where the party has agreed on one vote for a case.
        """
        if label:
            raise ProtocolError(
                f"label must be 0: this node has agreed on one vote for each case, got {label}"
            )
        return self

    def require_budget(self, queries: int) -> None:
        """Refuse noise for more queries than a budget allows; a simulation has no budget."""
        return

    def begin(self, session: str, querying: str, queries: int) -> None:
        """Refuse a batch that was begun before, or more queries than may still be asked."""
        return

    def spend(self, session: str, queries: int) -> None:
        """Count a batch as answered."""
        return


_STATE = "fl-he.capc-memory"


class Memory:
    """The entries of one batch on one node.

    An entry is taken once: whoever asks for a step a second time would get masks and permutations
    used twice.

    Parameters
    ----------
    context : Context
        The node's.
    session : str
        Names the batch.
    """

    def __init__(self, context: Context, session: str) -> None:
        self._record = kept_config(context.state, _STATE)
        self._session = session

    def begin(self) -> None:
        """Forget what is left of all other batches: nobody may come back to them."""
        for key in list(self._record):
            if not key.startswith(f"{self._session}/"):
                del self._record[key]

    def advance(self, row: Row) -> None:
        """Note that this node takes a step.

        Raises
        ------
        ProtocolError
            Unless the step comes after those of the same role that stand before it in the table,
            and once; those of a hidden layer may come again for the next one.
        """
        key, place = f"{self._session}/step-{row.role}", TABLE.index(row)
        last = self._number(key, -1)
        again = last >= 0 and row.layered and TABLE[last].layered and place < last
        first = row.step is FIRST[row.role]
        if (last < 0) != first or not (place > last or again):
            raise ProtocolError(f"step out of order: {row.step} must come once, in its place")
        self._record[key] = place

    def count(self, name: str) -> int:
        """Return how often this was called before with the name, in this batch."""
        key = f"{self._session}/{name}"
        number = self._number(key, 0)
        self._record[key] = number + 1
        return number

    def _number(self, key: str, default: int) -> int:
        number = self._record.get(key, default)
        if not isinstance(number, int):
            raise ProtocolError(f"{key} must be a number in the memory")
        return number

    def keep(self, name: str, value: Any) -> None:
        """Remember integers, texts and lists of them.

        Raises
        ------
        ProtocolError
            If this batch has such an entry already.
        """
        key = f"{self._session}/{name}"
        if key in self._record:
            raise ProtocolError(f"step out of order: {name} is there already")
        self._record[key] = json.dumps(value).encode()

    def take(self, name: str) -> Any:
        """Return an entry and forget it.

        Raises
        ------
        ProtocolError
            If it is not there.
        """
        key = f"{self._session}/{name}"
        if key not in self._record:
            raise ProtocolError(f"step out of order: {name} is missing or was already used")
        value = self._record.pop(key)
        if not isinstance(value, bytes):
            raise ProtocolError(f"{name} must be kept as bytes, got {kind_in_words(value)}")
        return json.loads(value)


#: What a step gives, by part.
Parts = dict[Part, bytes]


@dataclass(frozen=True, slots=True, repr=False)
class Turn:
    """All that the function of one step has to work with.

    Attributes
    ----------
    request : CapcRequest
    party : Party
    memory : Memory
    read_keys : callable
        Returns the node's own keys; answering parties have none.
    read_pairs : callable
        Returns an answering party's seeds of pairwise masks; None where votes have no masks.
    answering : str
        Steps by party only: the answering party that this call is about.
    """

    request: CapcRequest
    party: Party
    memory: Memory
    read_keys: Callable[[], KeyPair]
    read_pairs: Callable[[], VotePairs | None]
    answering: str = ""

    @property
    def terms(self) -> Terms:
        """Terms that the parties have agreed on."""
        return self.party.terms

    @property
    def queries(self) -> int:
        """Size of the batch."""
        return self.request.queries

    @property
    def own(self) -> KeyPair:
        """The keys of this node, which is the querying party or the guardian."""
        return self.read_keys()

    @property
    def querying(self) -> PublicKeys:
        """The querying party's keys."""
        return PublicKeys.from_texts(self.request.keys, CapcRole.QUERYING, self.terms.key_bits)

    @property
    def guardian(self) -> PublicKeys:
        """The guardian's keys."""
        return PublicKeys.from_texts(self.request.keys, CapcRole.GUARDIAN, self.terms.key_bits)

    def has(self, part: Part) -> bool:
        """Tell whether the request holds a part."""
        return part.name in self.request.parts

    def part(self, part: Part) -> bytes:
        """Return a part of the request; ProtocolError if it is not there."""
        return self.request.part(self.answering or part.name)
