"""One encrypted sum: finished, opened by company X, and read as a mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from time import perf_counter
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Form, Kind, Number, Whole, form_of, kind_of, within
from fl_he.crypto.tickets.ticketed_sum import scheme_and_tickets, vector_bytes
from fl_he.learning.describing.statistics import Table
from fl_he.learning.regression.disclosure import Figures
from fl_he.strategies.dropouts import ResumableError
from fl_he.strategies.roster import Roster
from fl_he.strategies.skipping import Skipped, error_reason, nobody_answered
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DecryptReply,
    DecryptRequest,
    FiguresReply,
    MisfitReply,
    Purpose,
    content_bytes,
)
from fl_he.wire.permission import PERMIT, PermitRequest
from fl_he.wire.records import KEPT, ProtocolError
from fl_he.wire.table import TableReply
from fl_he.wire.update_layout import CONTRIBUTORS, EXAMPLES, INTEGERS, UpdateLayout

_FLOATS, _TEXT = kind_of(tuple[float, ...]), kind_of(str)
_VECTOR = Kind(lambda value, at: np.array(_FLOATS.read(value, at), np.float64), np.ndarray.tolist)
_MISFIT = "at some hospitals the app failed, or a value did not fit"
_LAYOUT = Kind(
    lambda value, at: UpdateLayout.from_json(_TEXT.read(value, at)), UpdateLayout.to_json
)


@dataclass(slots=True)
class Cost:
    """Cost of a sum so far.

    Attributes
    ----------
    seconds : float
        Wall time, from the first message on.
    bytes_sent : int
        Size of all messages, both ways.
    encrypt_seconds, add_seconds : float
        Summed over all who encrypted and added, deployed nodes apart, which do not say.
    decrypt_seconds : float
        At a simulated company X.
    """

    seconds: Number = 0.0
    bytes_sent: Whole = 0
    encrypt_seconds: Number = 0.0
    add_seconds: Number = 0.0
    decrypt_seconds: Number = 0.0

    def opened(self, start: float, bytes_sent: int, decrypt_seconds: float = 0.0) -> Cost:
        """Return the cost with that of an opening, begun at `start` by ``perf_counter``."""
        seconds, size = self.seconds + perf_counter() - start, self.bytes_sent + bytes_sent
        return Cost(seconds, size, self.encrypt_seconds, self.add_seconds, decrypt_seconds)

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of two sums."""
        names = (field.name for field in fields(self))
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in names})


#: Members of a checkpoint that say what a sum had cost before it was opened.
COST_MEMBERS = within("cost", form_of(Cost).members)
del COST_MEMBERS["decrypt_seconds"]


class Kept:
    """An object in the checkpoint, with the members of ``FORM`` or else one for each field."""

    __slots__ = ()
    FORM: ClassVar[Form[Any] | None] = None

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return (self.FORM or form_of(type(self))).write(self)

    @classmethod
    def from_members(cls, members: object) -> Self:
        """Read what `to_members` returned; raises ProtocolError."""
        found: Self = (cls.FORM or form_of(cls)).read(members, KEPT)
        return found


@dataclass(frozen=True, slots=True)
class UnopenedSum(Kept):
    """A finished sum before company X has opened it, in a form that outlives the coordinator.

    A coordinator that dies while the sum is with company X must ask for the very same sum again,
    and for no other: the round is opened once, and a second sum of other hospitals on the same
    model would show, by subtraction, what the hospitals have sent in which the two differ.

    Attributes
    ----------
    request : DecryptRequest
        The message to company X.
    cost : Cost
    layout : UpdateLayout
        What the slots hold.
    plain : ndarray
        The sum of what was not encrypted; empty as a rule.
    skipped : tuple of Skipped
    ciphertexts, update_bytes : int
        Of one hospital's encrypted update.
    simulated_logs : tuple of str
        What did not fit at simulated hospitals; in no checkpoint.
    """

    request: DecryptRequest
    cost: Cost
    layout: Annotated[UpdateLayout, _LAYOUT]
    plain: Annotated[NDArray[np.float64], _VECTOR] = field(repr=False)
    skipped: tuple[Skipped, ...]
    ciphertexts: Whole
    update_bytes: Whole
    simulated_logs: tuple[str, ...] = field(default=(), repr=False)


UnopenedSum.FORM = Form(
    {
        # The same checks as company X's, so that a damaged file is found here.
        **{
            name: kind
            for name, kind in within("request", form_of(DecryptRequest).members).items()
            if name != "metric_values"
        },
        **{
            name: kind
            for name, kind in form_of(UnopenedSum).members.items()
            if name not in ("request", "cost", "simulated_logs")
        },
        **COST_MEMBERS,
    },
    lambda *members: UnopenedSum(DecryptRequest(*members[:5]), Cost(*members[10:]), *members[5:10]),
)


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """Result and cost of one encrypted sum.

    Attributes
    ----------
    purpose : Purpose
    round : int
    contributors, examples : int, float
        As company X has opened them.
    metrics : dict of str to float
        The weighted means of the hospitals' metrics; empty for figures.
    ciphertexts, update_bytes : int
        Of one hospital's encrypted update, without its ticket.
    ticket_bytes : int
        Of one hospital's ticket: mean of all, rounded up.
    skipped : tuple of Skipped
        The hospitals that were asked and did not contribute.
    cost : Cost
    signed : bytes or None
        The total as company X tells it hospitals; ``None`` where they are told a model.
    """

    purpose: Purpose
    round: int
    contributors: int
    examples: float
    metrics: dict[str, float]
    ciphertexts: int
    update_bytes: int
    ticket_bytes: int
    skipped: tuple[Skipped, ...]
    cost: Cost
    signed: bytes | None = field(default=None, repr=False)


class AwayError(ResumableError):
    """Company X does not answer; it can be asked again, by resuming the run."""


class RefusedError(ProtocolError):
    """Company X does not open this sum; a resumed run may have another one for it."""


class NotPermittedError(RefusedError):
    """Company X would not open this sum, and was not sent it; a resumed run makes another."""


class MisfitError(ProtocolError):
    """At some hospitals the app failed, or a value did not fit: nothing of the sum was given out.

    Parameters
    ----------
    logs : sequence of str
        Of simulated hospitals, whose logs nobody sees.

    Attributes
    ----------
    simulated : bool
        Whether a resumed run would have the same values: it has the same table and settings.
    """

    def __init__(self, logs: Sequence[str] = ()) -> None:
        self.simulated = bool(logs)
        told = (
            f"{'; '.join(logs)}; so the sum is discarded" if logs else f"{_MISFIT}; see their logs"
        )
        super().__init__(told)


def open_sum(
    unopened: UnopenedSum,
    roster: Roster,
    local: Mapping[str, ArrayRecord] | None = None,
    extra: RecordDict | None = None,
) -> tuple[OpenedSum, RecordDict, list[str]]:
    """Have company X open a sum.

    While it is away it is asked again. It answers the same request with the same total however
    often it is asked, and opens no other sum for the round.

    Parameters
    ----------
    unopened : UnopenedSum
    roster : Roster
    local : mapping of str to ArrayRecord, optional
        Records with arrays in the place of those that stay at the hospitals.
    extra : RecordDict or None
        Further records for company X, where it computes the model.

    Returns
    -------
    OpenedSum
    RecordDict
        The weighted mean, in the form of one hospital's reply.
    list of str
        What is to be told of it; see :meth:`UpdateLayout.remarks`.

    Raises
    ------
    AwayError
        If company X does not answer.
    MisfitError
        If at some hospitals the app failed, or a value did not fit.
    NoMeanError
        If no contributor has an example.
    ProtocolError
        If company X refuses, or answers with another total than it was asked for.
    """
    start, layout = perf_counter(), unopened.layout
    request = replace(unopened.request, metric_values=layout.metric_values)
    content, size = _asked(replace(unopened, request=request), roster, extra or RecordDict())
    answer = DecryptReply.from_content(content)
    mean = layout.mean(answer.total, unopened.plain, local)
    if answer.total[CONTRIBUTORS] != request.contributors:
        raise ProtocolError(f"the total is not of {request.contributors} contributors")
    metrics = next(iter(mean.metric_records.values()))
    cost = unopened.cost.opened(start, size, answer.decrypt_seconds)
    means = {k: float(v) for k, v in metrics.items() if not isinstance(v, list)}
    remarks = list(layout.remarks(answer.total, unopened.plain))
    done = _done(unopened, cost, float(answer.total[EXAMPLES]), means)
    return replace(done, signed=answer.signed), mean, remarks


def open_figures(
    unopened: UnopenedSum, roster: Roster, extra: RecordDict | None = None
) -> tuple[OpenedSum, Figures]:
    """Have company X open a sum of counts and give out their figures; raises as `open_sum`."""
    start = perf_counter()
    content, size = _asked(unopened, roster, extra or RecordDict())
    answer = FiguresReply.from_content(content)
    cost = unopened.cost.opened(start, size, answer.decrypt_seconds)
    return _done(unopened, cost, answer.figures.examples, {}), answer.figures


def open_table(
    unopened: UnopenedSum, roster: Roster, extra: RecordDict | None = None
) -> tuple[OpenedSum, Table]:
    """Have company X open the cells of a table by its form; raises as `open_sum`."""
    start = perf_counter()
    content, size = _asked(unopened, roster, extra or RecordDict())
    answer = TableReply.from_content(content)
    cost = unopened.cost.opened(start, size, answer.decrypt_seconds)
    return _done(unopened, cost, answer.table.rows, {}), answer.table


def require_permission(
    unopened: UnopenedSum, roster: Roster, extra: RecordDict | None = None
) -> None:
    """Ask company X without the sum whether it would open the sum; raises as `open_sum`.

    A sum that company X is handed and refuses would stay with it. The difference to the sum that
    it opens later in the place of the refused one is single hospitals' updates.
    """
    request = unopened.request
    scheme, tickets = scheme_and_tickets(request.encrypted_sum)
    asked = PermitRequest(
        *(request.session, request.purpose, request.round),
        {ticket.hospital: ticket.to_bytes() for ticket in tickets},
        *(len(unopened.layout), unopened.layout.metric_values, scheme),
    )
    ask_permission(roster, PERMIT, asked.add_to(extra or RecordDict()))


def ask_permission(roster: Roster, action: str, content: RecordDict) -> None:
    """Ask company X whether it may open a sum; raises AwayError and NotPermittedError."""
    try:
        _reply(roster, action, content)
    except RefusedError as error:
        raise NotPermittedError(str(error)) from None


def _asked(unopened: UnopenedSum, roster: Roster, extra: RecordDict) -> tuple[RecordDict, int]:
    """Return what company X answers, and the bytes of question and answer."""
    content = unopened.request.add_to(extra)
    reply = _reply(roster, DECRYPT, content)
    if MisfitReply.is_in(reply.content):
        MisfitReply.from_content(reply.content)
        raise MisfitError(unopened.simulated_logs)
    asked = Message(content, reply.metadata.src_node_id, DECRYPT)
    return reply.content, content_bytes(asked) + content_bytes(reply)


def _reply(roster: Roster, action: str, content: RecordDict) -> Message:
    reply = roster.ask_company_x(action, content)
    if nobody_answered(reply):
        raise AwayError(
            f"company X must open a sum within {roster.waiting.key_holder_timeout:g} s, it "
            f"did not: {error_reason(reply)}; see whether it is up, or raise key_holder_timeout"
        )
    if reply.has_error():
        raise RefusedError(f"company X refused to open the sum: {error_reason(reply)}")
    return reply


def _done(
    unopened: UnopenedSum, cost: Cost, examples: float, metrics: dict[str, float]
) -> OpenedSum:
    request, summed = unopened.request, unopened.request.encrypted_sum
    return OpenedSum(
        purpose=request.purpose,
        round=request.round,
        contributors=request.contributors,
        examples=examples,
        metrics=metrics,
        ciphertexts=unopened.ciphertexts,
        update_bytes=unopened.update_bytes,
        ticket_bytes=-(-(len(summed) - vector_bytes(summed)) // request.contributors),
        skipped=unopened.skipped,
        cost=cost,
    )


def with_types(arrays: ArrayRecord, mean: RecordDict) -> ArrayRecord:
    """Return the arrays with integers where a strategy has returned the mean's as floats.

    Flower's strategies multiply each array by a float.
    """
    means = {name: a for record in mean.array_records.values() for name, a in record.items()}
    return ArrayRecord({name: _typed(array, means.get(name)) for name, array in arrays.items()})


def _typed(array: Array, mean: Array | None) -> Array:
    if mean is None or mean.dtype == array.dtype or mean.dtype not in INTEGERS:
        return array
    return mean if np.array_equal(array.numpy(), mean.numpy()) else array
