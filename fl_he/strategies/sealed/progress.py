"""Where a sealed chain stands, in a form that outlives the coordinator.

It holds envelopes and names alone: what the coordinator cannot read, its disk cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fl_he.crypto.encoding.fields import Form, Number, Whole, form_of, kind_of, within
from fl_he.crypto.encoding.strict_json import Base64
from fl_he.wire.records import KEPT
from fl_he.wire.sealed_messages import OpenRequest


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """A round's total, sealed to each hospital.

    Attributes
    ----------
    number : int
        Of the round as nodes know it: a sum that was lost has used up its number.
    contributors : tuple of str
    totals : mapping of str to bytes
        Envelopes by the hospitals' names.
    """

    number: int
    contributors: tuple[str, ...]
    totals: Mapping[str, Base64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnopenedRound:
    """A finished sum before company X has opened it, and what it has cost so far.

    A coordinator that dies meanwhile must ask for the very same sum again: its round may be open.

    Attributes
    ----------
    request : OpenRequest
    skipped : tuple of str
        The hospitals that were asked and are not in it.
    update_bytes, bytes_sent : int
    seconds, encrypt_seconds, add_seconds : float
    """

    request: OpenRequest
    skipped: tuple[str, ...]
    update_bytes: Whole
    bytes_sent: Whole
    seconds: Number
    encrypt_seconds: Number
    add_seconds: Number


# The same checks as company X's, so that a damaged file is found here.
_REQUEST = {**form_of(OpenRequest).members, "envelope": kind_of(Base64)}
_SUM = form_of(UnopenedRound).members
_UNOPENED = Form(
    {
        **{("number" if n == "round" else n): k for n, k in within("request", _REQUEST).items()},
        **{name: kind for name, kind in _SUM.items() if name != "request"},
    },
    lambda *members: UnopenedRound(OpenRequest(*members[:4]), *members[4:]),
)


@dataclass(frozen=True, slots=True)
class SealedProgress:
    """A sealed chain between two rounds, or between a sum and its total.

    Attributes
    ----------
    session : str
    opened : tuple of OpenedRound
        Oldest first.
    unopened : UnopenedRound or None
    """

    session: str = ""
    opened: tuple[OpenedRound, ...] = ()
    unopened: Annotated[UnopenedRound, _UNOPENED.kind] | None = None

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return form_of(SealedProgress).write(self)

    @classmethod
    def from_members(cls, members: object) -> SealedProgress:
        """Read what `to_members` returned; raises ProtocolError."""
        return form_of(cls).read(members, KEPT)
