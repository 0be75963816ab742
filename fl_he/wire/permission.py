"""Question to company X, without the sum, whether it would open the total of a set of hospitals.

The last total and the train config go with the question as with the sum. Company X answers with no
records, or refuses as it would refuse the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from fl_he.crypto.encoding.fields import Natural, Whole
from fl_he.crypto.schemes import PAILLIER, Scheme
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import SPARSE, Message, blobs

PERMIT = "query.permit"
#: The same for a sealed chain, whose tickets the coordinator has not seen.
PERMIT_SEALED = "query.permit_sealed"

_Tickets = Annotated[Mapping[str, bytes], blobs("fl-he.tickets", "fl-he.ticket", "ticket")]


@dataclass(frozen=True, slots=True)
class PermitRequest(Message):
    """Ask by the tickets of a sum.

    Attributes
    ----------
    session : str
    purpose : Purpose
    round : int
    tickets : mapping of str to bytes
        Of the contributors, by their names.
    length : int
        How many numbers the sum holds.
    metric_values : int
        See `DecryptRequest`.
    scheme : Scheme
        Encryption of the sum.
    """

    session: str
    purpose: Purpose
    round: Natural
    tickets: _Tickets = field(repr=False)
    length: Natural
    metric_values: Annotated[Whole, SPARSE] = 0
    scheme: Annotated[Scheme, SPARSE] = PAILLIER

    @property
    def contributors(self) -> int:
        """Number of hospitals in the sum."""
        return len(self.tickets)


@dataclass(frozen=True, slots=True)
class SealedPermitRequest(Message):
    """Ask by the names of the contributors.

    Attributes
    ----------
    session : str
    round : int
    names : tuple of str
    alone : tuple of str
        Those that have told the coordinator that they allow being singled out. Nobody has signed
        that: for the sum itself its tickets count.
    """

    session: str
    round: Natural
    names: tuple[str, ...]
    alone: Annotated[tuple[str, ...], SPARSE] = ()
    purpose: ClassVar[Purpose] = "train"
    metric_values: ClassVar[int] = 0

    @property
    def contributors(self) -> int:
        """Number of hospitals in the sum."""
        return len(self.names)
