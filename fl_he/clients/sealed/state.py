"""What a hospital remembers of a sealed chain between two messages of a run."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, cast

from flwr.app import ConfigRecord, Context

from fl_he.clients.sealed.learner import Learnt
from fl_he.clients.sealed.payload import RunningSum
from fl_he.crypto.encoding.fields import Key, Kind, Place, form_of, kind_of
from fl_he.wire.records import ProtocolError

_STATE = "fl-he.chain"
_MODEL = "fl-he.chain-model"
_CHALLENGE = "challenge"
_SESSION = "session"
_AFTER = "after"
_TERMS = "terms"
_CONFIG = "config"
_CHAIN = "chain"
_MEMORY = "memory"
_BYTES = kind_of(bytes)
_RUNNING_SUM = Kind(
    lambda value, at: RunningSum.from_bytes(_BYTES.read(value, at)), RunningSum.to_bytes
)


@dataclass(frozen=True, slots=True)
class Contribution:
    """The last sum to which this hospital has added its update.

    Attributes
    ----------
    round : int
    request : str
        Digest of the request that it answered.
    contributors : tuple of str
        Whose updates are in the sum, this hospital the last.
    running_sum : RunningSum
    """

    round: int
    request: str
    contributors: tuple[str, ...]
    running_sum: Annotated[RunningSum, Key("sum"), _RUNNING_SUM]


class ChainState:
    """A view of a node's state in Flower's context: what it sets is kept for the next message."""

    def __init__(self, context: Context) -> None:
        records = context.state.config_records
        if _STATE not in records:
            records[_STATE] = ConfigRecord({_AFTER: 0})
        self._record = records[_STATE]
        self._arrays = context.state.array_records

    @staticmethod
    def is_begun(context: Context) -> bool:
        """Tell whether the node has taken a step into a sealed chain in this run."""
        return _STATE in context.state.config_records

    @property
    def session(self) -> str:
        """The session that this node takes part in, empty as long as it knows none."""
        return str(self._record.get(_SESSION, ""))

    def challenge(self) -> str:
        """Return what company X must answer before this node believes in a session."""
        if _CHALLENGE not in self._record:
            self._record[_CHALLENGE] = secrets.token_hex(16)
        return str(self._record[_CHALLENGE])

    def pin_session(self, session: str) -> None:
        """Take part in this session for the rest of the run."""
        self._record[_SESSION] = session
        self._record.pop(_CHALLENGE, None)

    @property
    def after(self) -> int:
        """The last round whose total the model includes, 0 if none."""
        return cast(int, self._record[_AFTER])

    @property
    def terms(self) -> bytes:
        """Digest of the initial model and the train config."""
        return bytes.fromhex(str(self._record[_TERMS]))

    @property
    def config(self) -> str | None:
        """The train config of the run as text, ``None`` as long as there is none."""
        value = self._record.get(_CONFIG)
        return None if value is None else str(value)

    @property
    def chain(self) -> bytes:
        """Digest of the last total that the model includes; of the terms, if it includes none."""
        return bytes.fromhex(str(self._record[_CHAIN]))

    def begin(self, config: str, terms: bytes, learnt: Learnt) -> None:
        """Fix the train config and the initial model for the rest of the run."""
        self._record[_CONFIG] = config
        self._record[_TERMS] = terms.hex()
        self.advance(0, learnt, terms)

    @property
    def learnt(self) -> Learnt:
        """The model after round ``after``; raises ProtocolError before there is one."""
        if _MODEL not in self._arrays:
            raise ProtocolError("a hospital must be given a train message before it has a model")
        return Learnt(self._arrays[_MODEL], str(self._record[_MEMORY]))

    def advance(self, round_: int, learnt: Learnt, chain: bytes) -> None:
        """Keep the model that includes one more total, and that total's digest."""
        self._arrays[_MODEL] = learnt.model
        self._record[_MEMORY] = learnt.memory
        self._record[_CHAIN] = chain.hex()
        self._record[_AFTER] = round_

    @property
    def contribution(self) -> Contribution | None:
        """The last contribution, ``None`` if there is none."""
        form = form_of(Contribution)
        if not form.members.keys() <= self._record.keys():
            return None
        return form.read(
            {key: self._record[key] for key in form.members}, Place(_STATE, ProtocolError)
        )

    @contribution.setter
    def contribution(self, contribution: Contribution) -> None:
        self._record.update(form_of(Contribution).write(contribution))
