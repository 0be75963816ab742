"""Progress of a sealed chain, in a form that outlives the coordinator.

It holds envelopes and names alone: what the coordinator cannot read, its disk cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from fl_he.crypto.encoding.fields import Form, Whole, form_of, kind_of, within
from fl_he.crypto.encoding.strict_json import Base64
from fl_he.strategies.opened_sum import COST_MEMBERS, Cost, Kept
from fl_he.wire.sealed_messages import OpenRequest


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """A round's total, sealed to each node.

    Attributes
    ----------
    number : int
        Of the round as nodes know it: a sum that was lost has used up its number.
    contributors : tuple of str
    totals : mapping of str to bytes
        Envelopes by the nodes' names.
    """

    number: int
    contributors: tuple[str, ...]
    totals: Mapping[str, Base64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedSum:
    """A finished sum, as far as the coordinator knows it.

    A coordinator that dies before company X has opened the sum must ask for the very same one
    again: its round may be open.

    Attributes
    ----------
    request : OpenRequest
        With the contributors in the order of the chain.
    cost : Cost
    skipped : tuple of str
        The hospitals that were asked and are not in it.
    update_bytes : int
        Of one hospital's encrypted update.
    prepares, over : bool
        Of an opened sum; see `OpenReply`.
    """

    request: OpenRequest
    cost: Cost
    skipped: tuple[str, ...]
    update_bytes: Whole
    prepares: bool = False
    over: bool = False
    #: Tickets are sealed from the coordinator, like everything in the envelope.
    ticket_bytes: ClassVar[None] = None


# The same checks as company X's, so that a damaged file is found here.
_REQUEST = form_of(OpenRequest).members
_UNOPENED = Form(
    {
        **{("number" if n == "round" else n): k for n, k in within("request", _REQUEST).items()},
        "skipped": kind_of(tuple[str, ...]),
        "update_bytes": kind_of(Whole),
        **COST_MEMBERS,
    },
    lambda *members: SealedSum(OpenRequest(*members[:4]), Cost(*members[6:]), *members[4:6]),
)


@dataclass(frozen=True, slots=True)
class SealedProgress(Kept):
    """A sealed chain between two rounds, or between a sum and its total.

    Attributes
    ----------
    session : str
    opened : tuple of OpenedRound
        Oldest first.
    unopened : SealedSum or None
    """

    session: str = ""
    opened: tuple[OpenedRound, ...] = ()
    unopened: Annotated[SealedSum, _UNOPENED.kind] | None = None
