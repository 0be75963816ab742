"""What is inside the envelopes of a sealed chain, and how each envelope is bound.

Only hospitals and company X see these bytes. They come from a node of the manifest, and are
checked all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fl_he.clients.node.enrolment import Enrolment
from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.envelopes.sealing import Binding, unseal
from fl_he.crypto.errors import CryptoError
from fl_he.wire.records import ProtocolError

_RUNNING_SUM = b"fl-he running sum 1"
_TOTAL = b"fl-he total 2"
_NUMBER_BYTES = 8
_DIGEST_BYTES = 32


def session_binding(session: str) -> Binding:
    """Return what company X's statement of a session is bound to."""
    return Binding(session, "session", 0, 0, ())


def running_sum_binding(session: str, round_: int, contributors: Sequence[str]) -> Binding:
    """Return what a running sum is bound to; its place in the chain is how many are in it."""
    return Binding(session, "running-sum", round_, len(contributors), tuple(contributors))


def total_binding(session: str, round_: int, contributors: Sequence[str]) -> Binding:
    """Return what a sealed total is bound to."""
    return Binding(session, "total", round_, len(contributors), tuple(contributors))


@dataclass(frozen=True, slots=True)
class RunningSum:
    """What hospitals hand on, and what company X is handed at the end.

    Attributes
    ----------
    after : int
        The round whose total the contributors' model includes last, 0 for the initial model.
    terms : bytes of length 32
        Digest of the initial model and the train config, which all contributors must share.
    layout : str
        JSON of what the slots hold.
    vector : bytes
        The encrypted vector.
    """

    after: int
    terms: bytes
    layout: str
    vector: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the payload."""
        return encode_fields(
            _RUNNING_SUM,
            self.after.to_bytes(_NUMBER_BYTES, "big"),
            self.terms,
            self.layout.encode(),
            self.vector,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> RunningSum:
        """Read a payload; raises CryptoError if it is none."""
        after, terms, layout, vector = _fields(data, _RUNNING_SUM, 4, "a running sum")
        if len(after) != _NUMBER_BYTES or len(terms) != _DIGEST_BYTES:
            raise CryptoError("a running sum must have a round and terms of their lengths")
        return cls(int.from_bytes(after, "big"), terms, _text(layout), vector)


def unseal_sum(
    envelope: bytes, session: str, round_: int, contributors: Sequence[str], enrolment: Enrolment
) -> RunningSum:
    """Open a running sum of hospitals, the last of whom must have sealed it for this node."""
    hospitals = {node.name for node in enrolment.manifest.hospitals}
    if strangers := sorted(set(contributors) - hospitals):
        raise ProtocolError(f"contributors must be hospitals of the manifest, got {strangers}")
    sender = enrolment.manifest.node(contributors[-1])
    binding = running_sum_binding(session, round_, contributors)
    return RunningSum.from_bytes(unseal(envelope, enrolment.identity, sender, binding))


@dataclass(frozen=True, slots=True)
class Total:
    """What company X tells every hospital.

    Attributes
    ----------
    after : int
        The round that was opened before this one, 0 if none: the total is applied to the model
        after that round.
    layout : str
        JSON of what the values are.
    values : ndarray, shape (len(layout),)
        The sum of all updates.
    previous : bytes of length 32
        Digest of the total before it; of the terms, for the first one.
    memory : str
        What company X's learner has come to with this total; empty if it takes no step itself.
    """

    after: int
    layout: str
    values: NDArray[np.float64] = field(repr=False)
    previous: bytes
    memory: str = field(default="", repr=False)

    def to_bytes(self) -> bytes:
        """Return the payload."""
        return encode_fields(
            _TOTAL,
            self.after.to_bytes(_NUMBER_BYTES, "big"),
            self.layout.encode(),
            np.ascontiguousarray(self.values, dtype="<f8").tobytes(),
            self.previous,
            self.memory.encode(),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Total:
        """Read a payload; raises CryptoError if it is none."""
        after, layout, values, previous, memory = _fields(data, _TOTAL, 5, "a total")
        if len(after) != _NUMBER_BYTES or len(values) % 8 or len(previous) != _DIGEST_BYTES:
            raise CryptoError(
                "a total must have a round, float64 values and a digest of their lengths"
            )
        numbers = np.frombuffer(values, dtype="<f8").astype(np.float64)
        if not np.isfinite(numbers).all():
            raise CryptoError("a total must hold finite numbers only")
        number = int.from_bytes(after, "big")
        return cls(number, _text(layout), numbers, previous, _text(memory))


def _fields(data: bytes, label: bytes, count: int, what: str) -> list[bytes]:
    fields = decode_fields(data, what)
    if len(fields) != count + 1 or fields[0] != label:
        raise CryptoError(f"{what} must be {count} fields behind {label!r}")
    return fields[1:]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CryptoError("the texts of an envelope must be UTF-8") from None
