"""Where a sealed chain stands, in a form that outlives the coordinator.

It holds envelopes and names alone: what the coordinator cannot read, its disk cannot show.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OpenRequest

_COSTS = ("seconds", "encrypt_seconds", "add_seconds")


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
    totals: Mapping[str, bytes] = field(repr=False)


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
    update_bytes: int
    bytes_sent: int
    seconds: float
    encrypt_seconds: float
    add_seconds: float


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
    unopened: UnopenedRound | None = None

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "session": self.session,
            "opened": [
                {
                    "number": one.number,
                    "contributors": list(one.contributors),
                    "totals": {name: _text(data) for name, data in one.totals.items()},
                }
                for one in self.opened
            ],
            "unopened": None if self.unopened is None else _unopened_members(self.unopened),
        }

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> SealedProgress:
        """Read what `to_members` returned; raises ProtocolError."""
        try:
            unopened = members["unopened"]
            return cls(
                session=str(members["session"]),
                opened=tuple(
                    OpenedRound(
                        int(one["number"]),
                        tuple(map(str, one["contributors"])),
                        {str(name): _bytes(text) for name, text in one["totals"].items()},
                    )
                    for one in members["opened"]
                ),
                unopened=None if unopened is None else _read_unopened(unopened),
            )
        except ProtocolError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ProtocolError(
                f"the progress of a sealed chain must be whole, got {type(error).__name__}"
            ) from error


def _unopened_members(unopened: UnopenedRound) -> dict[str, Any]:
    request = unopened.request
    return {
        "session": request.session,
        "number": request.round,
        "contributors": list(request.contributors),
        "envelope": _text(request.envelope),
        "skipped": list(unopened.skipped),
        "update_bytes": unopened.update_bytes,
        "bytes_sent": unopened.bytes_sent,
        **{name: getattr(unopened, name) for name in _COSTS},
    }


def _read_unopened(members: Mapping[str, Any]) -> UnopenedRound:
    request = OpenRequest(
        session=str(members["session"]),
        round=int(members["number"]),
        contributors=tuple(map(str, members["contributors"])),
        envelope=_bytes(members["envelope"]),
    )
    return UnopenedRound(
        # The same checks as company X's, so that a damaged file is found here.
        request=OpenRequest.from_content(request.to_content()),
        skipped=tuple(map(str, members["skipped"])),
        update_bytes=int(members["update_bytes"]),
        bytes_sent=int(members["bytes_sent"]),
        **{name: float(members[name]) for name in _COSTS},
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
