"""A finished sum before company X has opened it, in a form that outlives the coordinator.

A coordinator that dies while the sum is with company X must ask for the very same sum again, and
for no other: the round is opened once, and a second sum of other hospitals on the same model would
show, by subtraction, what the hospitals have sent in which the two differ.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.errors import CryptoError
from fl_he.strategies.exchange import Skipped
from fl_he.wire.encrypted_sum import DecryptRequest
from fl_he.wire.records import ProtocolError
from fl_he.wire.update_layout import UpdateLayout


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
    layout: UpdateLayout
    plain: NDArray[np.float64] = field(repr=False)
    skipped: tuple[Skipped, ...]
    ciphertexts: int
    update_bytes: int
    bytes_sent: int
    seconds: float
    encrypt_seconds: float
    add_seconds: float

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold, the request's records included."""
        return {
            "session": self.request.session,
            "purpose": self.request.purpose,
            "round": self.request.round,
            "contributors": self.request.contributors,
            "encrypted_sum": base64.b64encode(self.request.encrypted_sum).decode("ascii"),
            "layout": self.layout.to_json(),
            "plain": self.plain.tolist(),
            "skipped": [asdict(one) for one in self.skipped],
            "ciphertexts": self.ciphertexts,
            "update_bytes": self.update_bytes,
            "bytes_sent": self.bytes_sent,
            "seconds": self.seconds,
            "encrypt_seconds": self.encrypt_seconds,
            "add_seconds": self.add_seconds,
        }

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> UnopenedSum:
        """Read what `to_members` returned; raises ProtocolError or CryptoError."""
        try:
            request = DecryptRequest(
                session=str(members["session"]),
                purpose=members["purpose"],
                round=int(members["round"]),
                contributors=int(members["contributors"]),
                encrypted_sum=base64.b64decode(members["encrypted_sum"], validate=True),
            )
            # The same checks as company X's, so that a damaged file is found here.
            request = DecryptRequest.from_content(request.to_content())
            return cls(
                request=request,
                layout=UpdateLayout.from_json(members["layout"]),
                plain=np.asarray(members["plain"], dtype=np.float64),
                skipped=tuple(Skipped(one["name"], one["reason"]) for one in members["skipped"]),
                ciphertexts=int(members["ciphertexts"]),
                update_bytes=int(members["update_bytes"]),
                bytes_sent=int(members["bytes_sent"]),
                seconds=float(members["seconds"]),
                encrypt_seconds=float(members["encrypt_seconds"]),
                add_seconds=float(members["add_seconds"]),
            )
        except (ProtocolError, CryptoError):
            raise
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ProtocolError(
                f"an unopened sum must be whole, got {type(error).__name__}"
            ) from error
