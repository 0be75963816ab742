"""CaPC's protocol as one table: each step, who takes it, the parts that it takes and gives.

Choquette-Choo et al., "CaPC Learning: Confidential and Private Collaborative Learning", ICLR 2021;
docs/capc.md has the steps in words. Nodes, coordinator and envelopes read this table: a part goes
from whoever takes a step that gives it to whoever takes the step that takes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from fl_he.wire.records import ProtocolError


class CapcStep(StrEnum):
    """The actions: four that belong to no batch, then those of `TABLE`."""

    DESCRIBE = "query.capc_describe"
    SEEDS = "query.capc_seeds"
    PAIR = "query.capc_pair"
    KEYS = "query.capc_keys"
    ASK = "query.capc_ask"
    EVALUATE = "query.capc_evaluate"
    UNIT_BITS = "query.capc_unit_bits"
    COMPARE_UNITS = "query.capc_compare_units"
    PRODUCTS = "query.capc_products"
    RECTIFY = "query.capc_rectify"
    LOGIT_BITS = "query.capc_logit_bits"
    COMPARE = "query.capc_compare"
    VOTE = "query.capc_vote"
    NOISE = "query.capc_noise"
    COLLECT = "query.capc_collect"
    COUNT = "query.capc_count"
    COUNT_BITS = "query.capc_count_bits"
    COMPARE_COUNTS = "query.capc_compare_counts"
    DECIDE = "query.capc_decide"
    ANY = "query.capc_any"
    RELEASE = "query.capc_release"
    LEARN = "query.capc_learn"


class CapcRole(StrEnum):
    """The roles in one batch; a hospital may query in one batch and answer in another."""

    QUERYING = "querying"
    ANSWERING = "answering"
    GUARDIAN = "guardian"


class End(Enum):
    """Answering party at one end of a part."""

    #: Each one has its own part, which the querying party names after that answering party.
    EACH = "each"
    #: One answering party gives the part, the next one of the chain takes it.
    NEXT = "next"
    #: The last answering party of the chain.
    LAST = "last"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Message part that one node sends another.

    Attributes
    ----------
    name : str
        In messages. Two parts that no step takes or gives together may have the same name.
    end : End or None
        None: the part goes between the querying party and the guardian.
    tested : bool or None
        True: there with a threshold test only; False: without one only.
    """

    name: str
    end: End | None = None
    tested: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One step of the table.

    Attributes
    ----------
    step : CapcStep
    role : CapcRole
        Who takes the step.
    takes, gives : tuple of Part
        A step of the first network layers gives one of two parts: a deeper model needs more steps.
    layered : bool
        Whether the step comes once for each hidden layer, instead of once.
    """

    step: CapcStep
    role: CapcRole
    takes: tuple[Part, ...]
    gives: tuple[Part, ...]
    layered: bool = False

    @property
    def by_party(self) -> bool:
        """Whether messages name the step's parts after answering parties."""
        ends = {part.end for part in (*self.takes, *self.gives)}
        return self.role is CapcRole.QUERYING and End.EACH in ends

    @property
    def in_turn(self) -> bool:
        """Whether answering parties take the step one after another."""
        return any(part.end is End.NEXT for part in self.gives)


FEATURES = Part("features", End.EACH)
UNITS, UNIT_BITS = Part("units", End.EACH), Part("bits", End.EACH)
COMPARED_UNITS, PRODUCTS = Part("compared", End.EACH), Part("products", End.EACH)
LOGITS, LOGIT_BITS = Part("blinded", End.EACH), Part("bits", End.EACH)
COMPARED_LOGITS, POSITIONS = Part("compared", End.EACH), Part("positions", End.EACH)
#: The guardian's noise on the counts, and that of the threshold test.
NOISE, TEST_NOISE = Part("noise", End.LAST), Part("test-noise", End.LAST, tested=True)
#: The encrypted sum of the votes so far; the whole sum with either noise.
SUM = Part("sum", End.NEXT)
COUNTS, TESTED_COUNTS = Part("noisy-counts", End.LAST), Part("tested-counts", End.LAST, tested=True)
NOISE_IN = {COUNTS: NOISE, TESTED_COUNTS: TEST_NOISE}
BLINDED_COUNTS, BLINDED_DISTANCES = Part("blinded"), Part("reached", tested=True)
COUNT_BITS, DISTANCE_BITS = Part("bits"), Part("reached-bits", tested=True)
COMPARED_COUNTS, COMPARED_DISTANCES = Part("compared"), Part("reached", tested=True)
WINNERS, SHARES = Part("winners", tested=False), Part("shares", tested=True)
ANY_REACHED, COINS = Part("compared", tested=True), Part("coins", tested=True)
ANSWERS = Part("answers", tested=True)

_S = CapcStep
_Q, _A, _G = CapcRole.QUERYING, CapcRole.ANSWERING, CapcRole.GUARDIAN
TABLE = (
    Row(_S.ASK, _Q, (), (FEATURES,)),
    Row(_S.EVALUATE, _A, (FEATURES,), (UNITS, LOGITS)),
    Row(_S.UNIT_BITS, _Q, (UNITS,), (UNIT_BITS,), layered=True),
    Row(_S.COMPARE_UNITS, _A, (UNIT_BITS,), (COMPARED_UNITS,), layered=True),
    Row(_S.PRODUCTS, _Q, (COMPARED_UNITS,), (PRODUCTS,), layered=True),
    Row(_S.RECTIFY, _A, (PRODUCTS,), (UNITS, LOGITS), layered=True),
    Row(_S.LOGIT_BITS, _Q, (LOGITS,), (LOGIT_BITS,)),
    Row(_S.COMPARE, _A, (LOGIT_BITS,), (COMPARED_LOGITS,)),
    Row(_S.VOTE, _Q, (COMPARED_LOGITS,), (POSITIONS,)),
    Row(_S.NOISE, _G, (), (NOISE, TEST_NOISE)),
    Row(_S.COLLECT, _A, (POSITIONS, SUM, NOISE, TEST_NOISE), (SUM, COUNTS, TESTED_COUNTS)),
    Row(_S.COUNT, _Q, (COUNTS, TESTED_COUNTS), (BLINDED_COUNTS, BLINDED_DISTANCES)),
    Row(_S.COUNT_BITS, _G, (BLINDED_COUNTS, BLINDED_DISTANCES), (COUNT_BITS, DISTANCE_BITS)),
    Row(_S.COMPARE_COUNTS, _Q, (COUNT_BITS, DISTANCE_BITS), (COMPARED_COUNTS, COMPARED_DISTANCES)),
    Row(_S.DECIDE, _G, (COMPARED_COUNTS, COMPARED_DISTANCES), (WINNERS, SHARES)),
    Row(_S.ANY, _Q, (SHARES,), (ANY_REACHED, COINS)),
    Row(_S.RELEASE, _G, (ANY_REACHED, COINS), (ANSWERS,)),
    Row(_S.LEARN, _Q, (WINNERS, ANSWERS), ()),
)
STEPS = {row.step: row for row in TABLE}
#: The steps without parts to wait for: a batch starts with them.
OPENING = tuple(row for row in TABLE if not row.takes)
#: The first step of each role. On a node it forgets all other batches.
FIRST = {row.role: row.step for row in reversed(TABLE)}
TAKER = {part: row for row in TABLE for part in row.takes}
_GIVER = {part: row for row in TABLE for part in row.gives}


@dataclass(frozen=True, slots=True)
class Places:
    """Names of the nodes of one batch.

    Attributes
    ----------
    querying : str
    answering : tuple of str
        In the order of the chain.
    guardian : str
    """

    querying: str
    answering: tuple[str, ...]
    guardian: str

    def role(self, name: str) -> CapcRole | None:
        """Return the role of a node; None if the node takes no part."""
        answering = dict.fromkeys(self.answering, CapcRole.ANSWERING)
        owners = {self.guardian: CapcRole.GUARDIAN, self.querying: CapcRole.QUERYING}
        return (answering | owners).get(name)

    def handed(
        self, row: Row, names: Iterable[str], own: str, *, incoming: bool
    ) -> list[tuple[str, Part, str]]:
        """Return a message's parts in order of their names, each with the node at its other end.

        Parameters
        ----------
        row : Row
        names : iterable of str
            Of the parts in the message.
        own : str
            The node that takes the step.
        incoming : bool
            True for a request, False for a reply.

        Raises
        ------
        ProtocolError
            If the step has no such part, or nobody is at the other end.
        """
        parts = {part.name: part for part in (row.takes if incoming else row.gives)}
        if row.by_party:
            parts = {name: part for part in parts.values() for name in self.answering}
        found = []
        for name in sorted(names):
            if name not in parts:
                raise ProtocolError(f"{row.step} has no part {name!r:.80} for {own}")
            part = parts[name]
            found.append((name, part, name if row.by_party else self._peer(part, own, incoming)))
        return found

    def missing(self, row: Row, names: Iterable[str], own: str, *, tested: bool) -> list[str]:
        """Return the parts that a request in a chain must have and does not have.

        None for parts that are named after answering parties: the step checks those itself.
        """
        absent: set[End | None] = {End.NEXT} if own == self.answering[0] else set()
        if row.role is CapcRole.ANSWERING and own != self.answering[-1]:
            absent.add(End.LAST)
        wanted = [p for p in row.takes if p.tested in (None, tested) and p.end not in absent]
        return [p.name for p in wanted if p.name not in names and not row.by_party]

    def _peer(self, part: Part, own: str, incoming: bool) -> str:
        if part.end is End.NEXT:
            place = self.answering.index(own) + (-1 if incoming else 1)
            if not 0 <= place < len(self.answering):
                raise ProtocolError(
                    "the first answering party is handed no sum, and the last one's must have the "
                    "guardian's noise added"
                )
            return self.answering[place]
        role = (_GIVER if incoming else TAKER)[part].role
        if role is CapcRole.ANSWERING:
            return self.answering[-1]
        return self.querying if role is CapcRole.QUERYING else self.guardian
