"""A hospital's progress in the training of a session, on its own disk.

Flower's context, which the coordinator can reset, holds none of it. A hospital that has lost its
file computes the model again from all totals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

from flwr.app import Array, ArrayRecord

from fl_he.clients.node.node import Node
from fl_he.clients.stores import LedgerError
from fl_he.clients.totals.learner import Learnt
from fl_he.clients.totals.payload import RunningSum
from fl_he.crypto.encoding.fields import Kind, Place, Whole, constant, form_of, kind_of
from fl_he.crypto.encoding.strict_json import Base64, Document, Documented
from fl_he.crypto.errors import CryptoError
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import ProtocolError

_FORMAT = "fl-he training 1"
#: A text of a model of hundreds of millions of parameters has this many characters.
_LIMIT = 1 << 34


@dataclass(frozen=True, slots=True)
class _Array:
    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: Base64


_ARRAYS, _BYTES = kind_of(Mapping[str, _Array]), kind_of(Base64)


def _read_arrays(value: object, at: Place) -> ArrayRecord:
    found: Mapping[str, _Array] = _ARRAYS.read(value, at)
    return ArrayRecord(
        {name: Array(one.dtype, one.shape, one.stype, one.data) for name, one in found.items()}
    )


_MODEL = Kind(_read_arrays, _ARRAYS.write)


def _read_running_sum(value: object, at: Place) -> RunningSum:
    try:
        return RunningSum.from_bytes(_BYTES.read(value, at))
    except CryptoError:
        raise at.wrong("be a running sum") from None


_RUNNING_SUM = Kind(_read_running_sum, lambda summed: _BYTES.write(summed.to_bytes()))


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
    running_sum: Annotated[RunningSum, _RUNNING_SUM]


@dataclass(frozen=True, slots=True)
class _Kept(Documented):
    """The members of `ChainState`, where training has begun."""

    after: Whole
    terms: Base64
    config: str
    chain: Base64
    memory: str
    model: Annotated[ArrayRecord, _MODEL]
    contribution: Contribution | None
    asked: Mapping[str, tuple[int, int]]


_Kept.DOCUMENT = Document(
    "a hospital's training",
    {"format": constant(_FORMAT), **form_of(_Kept).members},
    _LIMIT,
    LedgerError,
)


class ChainState:
    """A hospital's progress in a session.

    Parameters
    ----------
    session : str
    text : str or None
        What `to_text` returned; ``None`` before the first message about a model.
    """

    def __init__(self, session: str, text: str | None) -> None:
        self.session = session
        self._kept = None if text is None else _Kept.from_json(text)

    def to_text(self) -> str | None:
        """Return all that must be kept."""
        return None if self._kept is None else self._kept.to_json()

    @property
    def has_begun(self) -> bool:
        """Whether the hospital has the initial model, and the train config."""
        return self._kept is not None

    @property
    def after(self) -> int:
        """The last total that the model includes, by `Link.number`; 0 if none."""
        return 0 if self._kept is None else self._kept.after

    @property
    def terms(self) -> bytes:
        """Digest of the initial model and the train config."""
        return self._begun.terms

    @property
    def config(self) -> str:
        """The train config of the session as text."""
        return self._begun.config

    @property
    def chain(self) -> bytes:
        """Digest of the last total that the model includes; of the terms, if it includes none."""
        return self._begun.chain

    @property
    def learnt(self) -> Learnt:
        """The model after total ``after``."""
        return Learnt(self._begun.model, self._begun.memory)

    @property
    def contribution(self) -> Contribution | None:
        """The last contribution, ``None`` if there is none."""
        return None if self._kept is None else self._kept.contribution

    def begin(self, config: str, terms: bytes, learnt: Learnt) -> None:
        """Fix the train config and the initial model for the rest of the session."""
        self._kept = _Kept(0, terms, config, terms, learnt.memory, learnt.model, None, {})

    def advance(self, round_: int, learnt: Learnt, chain: bytes) -> None:
        """Keep the model that includes one more total, and that total's digest."""
        model, memory = learnt.model, learnt.memory
        self._kept = replace(self._begun, after=round_, chain=chain, memory=memory, model=model)

    def contribute(self, contribution: Contribution) -> None:
        """Keep the last contribution."""
        self._kept = replace(self._begun, contribution=contribution)

    def ask(self, purpose: Purpose, round_: int) -> None:
        """Keep that the model is asked about, in the open: in one round, and that a later one.

        Two sums over one model would show, by subtraction, in whom they differ.
        """
        kept = self._begun
        after, before = kept.asked.get(purpose, (kept.after, round_))
        if (after == kept.after and round_ != before) or (after < kept.after and round_ <= before):
            raise ProtocolError(
                f"a model is asked about in one round of {purpose}, later than the model before: "
                f"the last was {before}, after total {after}, got {round_}, after total "
                f"{kept.after}"
            )
        self._kept = replace(kept, asked={**kept.asked, purpose: (kept.after, round_)})

    @property
    def _begun(self) -> _Kept:
        if self._kept is None:
            raise ProtocolError("a hospital must be given a train message before it has a model")
        return self._kept


@contextmanager
def chain_state(node: Node, session: str) -> Iterator[ChainState]:
    """Give access to how far a node is in a session; all that changes is kept, in any case.

    Raises
    ------
    LedgerError
        If the file cannot be trusted.
    ProtocolError
        If it cannot be written.
    """
    with node.training(session).exclusively() as text:
        before = text.read()
        state = ChainState(session, before)
        try:
            yield state
        finally:
            after = state.to_text()
            if after is not None and after != before:
                text.write(after)
