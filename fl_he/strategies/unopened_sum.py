"""A finished sum before company X has opened it, in a form that outlives the coordinator.

A coordinator that dies while the sum is with company X must ask for the very same sum again, and
for no other: the round is opened once, and a second sum of other hospitals on the same model would
show, by subtraction, what the hospitals have sent in which the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Form, Kind, Number, Whole, form_of, kind_of, within
from fl_he.crypto.encoding.strict_json import Base64
from fl_he.strategies.exchange import Skipped
from fl_he.wire.encrypted_sum import DecryptRequest
from fl_he.wire.records import KEPT
from fl_he.wire.update import UpdateLayout

_FLOATS, _TEXT = kind_of(tuple[float, ...]), kind_of(str)
_VECTOR = Kind(lambda value, at: np.array(_FLOATS.read(value, at), np.float64), np.ndarray.tolist)
_LAYOUT = Kind(
    lambda value, at: UpdateLayout.from_json(_TEXT.read(value, at)), UpdateLayout.to_json
)


@dataclass(frozen=True, slots=True)
class UnopenedSum:
    """What is to be opened, and what it has cost so far.

    Attributes
    ----------
    request : DecryptRequest
        The message to company X.
    layout : UpdateLayout
        What the slots hold.
    plain : ndarray
        The sum of what was not encrypted; empty as a rule.
    skipped : tuple of Skipped
    ciphertexts, update_bytes : int
        Of one hospital's encrypted update.
    bytes_sent : int
        All messages with hospitals, both ways.
    seconds, encrypt_seconds, add_seconds : float
        Wall time, and what hospitals and strategy have spent.
    """

    request: DecryptRequest
    layout: Annotated[UpdateLayout, _LAYOUT]
    plain: Annotated[NDArray[np.float64], _VECTOR] = field(repr=False)
    skipped: tuple[Skipped, ...]
    ciphertexts: Whole
    update_bytes: Whole
    bytes_sent: Whole
    seconds: Number
    encrypt_seconds: Number
    add_seconds: Number

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold, the request's records included."""
        return _FORM.write(self)

    @classmethod
    def from_members(cls, members: object) -> UnopenedSum:
        """Read what `to_members` returned; raises ProtocolError."""
        return _FORM.read(members, KEPT)


_FORM = Form(
    {
        # The same checks as company X's, so that a damaged file is found here.
        **within("request", {**form_of(DecryptRequest).members, "encrypted_sum": kind_of(Base64)}),
        **{name: kind for name, kind in form_of(UnopenedSum).members.items() if name != "request"},
    },
    lambda *members: UnopenedSum(DecryptRequest(*members[:5]), *members[5:]),
)
