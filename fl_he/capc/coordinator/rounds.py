"""The rounds of CaPC: the coordinator carries each step's parts from node to node.

All queries of a batch and all answering parties take a step together, so a batch takes the same
number of hops whatever their number: 12 without a threshold test, 14 with one, and 4 for each
hidden layer of the deepest model. Only a chain of votes takes a hop for each party.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.capc.agreement import Agreement
from fl_he.capc.coordinator.roster import call_roll
from fl_he.capc.coordinator.steps import StepCost, Steps
from fl_he.capc.coordinator.votes import VoteSum
from fl_he.capc.messages import (
    COUNTS,
    NO_SESSION,
    NOISE,
    TEST_NOISE,
    TESTED_COUNTS,
    CapcReply,
    CapcRequest,
    CapcStep,
)
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.strategies.topologies import TOPOLOGIES, Order
from fl_he.wire.records import ProtocolError

_LARGEST_REPORT = 1 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of one querying party's batch.

    Attributes
    ----------
    queries : int
    report : dict
        What the querying party says of itself.
    """

    queries: int
    report: dict[str, Any] = field(repr=False)


class CaPC:
    """Lets parties label each other's queries.

    Parameters
    ----------
    grid : Grid
    parties : int
        How many parties take part, beside the privacy guardian.
    threshold : bool
        Whether there is a threshold test.
    topology : {"fold", "chain"}
        How the votes are summed: by the coordinator, or from party to party.
    segments : int
        ``chain`` only: how many chains run side by side.
    timeout : float
        Seconds that a node has for one step.
    node_timeout : float
        Seconds to wait for nodes to connect.
    on_step : callable
        Called with each step's name when it is done.

    Raises
    ------
    ProtocolError
        If there are not exactly so many parties and one guardian.
    """

    def __init__(
        self,
        grid: Grid,
        parties: int,
        *,
        threshold: bool,
        topology: str = "fold",
        segments: int = 1,
        timeout: float = 600.0,
        node_timeout: float = 120.0,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        if topology not in TOPOLOGIES:
            raise ProtocolError(f"topology must be one of {list(TOPOLOGIES)}, got {topology!r}")
        self._steps = Steps(grid, timeout, on_step)
        self._threshold = threshold
        self._topology = topology
        self._segments = segments
        self._keys: dict[int, dict[str, str]] = {}
        self._answered: dict[int, int] = {}  # queries by node id
        self._roster = call_roll(self._steps, parties, node_timeout)
        if self.agreement is not None:
            self._threshold = self.agreement.threshold is not None
            self._require_chain()

    @property
    def parties(self) -> dict[str, int]:
        """Node ids of the parties by their names."""
        return {name: node for node, name in self._roster.parties.items()}

    @property
    def agreement(self) -> Agreement | None:
        """What deployed nodes have agreed on; None in a simulation."""
        return self._roster.agreement

    @property
    def costs(self) -> dict[CapcStep, StepCost]:
        """What each step has cost so far."""
        return self._steps.costs

    @property
    def fingerprints(self) -> list[dict[str, str]]:
        """Return ``owner``, ``paillier`` and ``dgk`` of the keys that were used so far.

        Fingerprints of the public keys of the privacy guardian and of each party that has asked.
        """
        return [
            {
                "owner": self._roster.name(node),
                "paillier": PublicKey.from_json(keys["paillier"]).fingerprint,
                "dgk": DgkPublicKey.from_json(keys["dgk"]).fingerprint,
            }
            for node, keys in self._keys.items()
        ]

    def askable(self, querying: int) -> int:
        """Return how many queries a deployed party has, as far as all others may answer them."""
        budgets = [
            reply.affordable - self._answered.get(node, 0)
            for node, reply in self._roster.described.items()
            if reply.answers and node != querying
        ]
        return min([self._roster.described[querying].open_cases, *budgets])

    def ask(self, querying: int, queries: int) -> Batch:
        """Have one party's batch of queries answered by all others.

        Parameters
        ----------
        querying : int
            Node id of the querying party.
        queries : int
            How many, at least 1.

        Raises
        ------
        ProtocolError, CryptoError
            Whatever a node refused.
        """
        answering, guardian = self._roster.answering(querying), self._roster.guardian
        call = CapcRequest(
            NO_SESSION,
            queries,
            self._roster.name(querying),
            tuple(answering.values()),
            self._public_keys(querying),
        )

        def one(step: CapcStep, node: int, parts: Mapping[str, bytes]) -> CapcReply:
            return self._take(step, {node: replace(call, parts=parts)})[node]

        def each(step: CapcStep, part: str, given: CapcReply, to: Iterable[int]) -> _Replies:
            requests = {n: replace(call, parts={part: given.part(answering[n])}) for n in to}
            return {answering[n]: reply for n, reply in self._take(step, requests).items()}

        asked = one(CapcStep.ASK, querying, {})
        call = replace(call, session=asked.session)
        logits = each(CapcStep.EVALUATE, "features", asked, answering)
        # Hidden layers: parties with fewer of them wait for those with more.
        while hidden := {name: reply for name, reply in logits.items() if "units" in reply.parts}:
            deep = [node for node, name in answering.items() if name in hidden]
            bits = one(CapcStep.UNIT_BITS, querying, _parts(hidden, "units"))
            compared = each(CapcStep.COMPARE_UNITS, "bits", bits, deep)
            factors = one(CapcStep.PRODUCTS, querying, _parts(compared, "compared"))
            logits |= each(CapcStep.RECTIFY, "products", factors, deep)
        bits = one(CapcStep.LOGIT_BITS, querying, _parts(logits, "blinded"))
        compared = each(CapcStep.COMPARE, "bits", bits, answering)
        positions = one(CapcStep.VOTE, querying, _parts(compared, "compared"))
        noise = one(CapcStep.NOISE, guardian, {})
        if self.agreement is None:
            counts = self._noisy_counts(self._votes(call, answering, positions), noise)
        else:
            counts = self._handed_on(call, answering, positions, noise)
            for node in answering:
                self._answered[node] = self._answered.get(node, 0) + queries
        blinded = one(CapcStep.COUNT, querying, counts)
        count_bits = one(CapcStep.COUNT_BITS, guardian, blinded.parts)
        decided = one(CapcStep.COMPARE_COUNTS, querying, count_bits.parts)
        answers = one(CapcStep.DECIDE, guardian, decided.parts)
        if self._threshold:
            under_coins = one(CapcStep.ANY, querying, answers.parts)
            answers = one(CapcStep.RELEASE, guardian, under_coins.parts)
        return Batch(queries, _report(one(CapcStep.LEARN, querying, answers.parts).report))

    def _require_chain(self) -> None:
        """Refuse a way of summing votes that deployed nodes would not go along with."""
        if (self._topology, self._segments) != ("chain", 1):
            raise ProtocolError(
                "topology must be chain, and segments 1, with deployed nodes, got "
                f"{self._topology} and {self._segments}: in a fold the coordinator would see each "
                "vote, and could leave the guardian's noise out"
            )

    def _public_keys(self, querying: int) -> dict[str, str]:
        missing = [node for node in (querying, self._roster.guardian) if node not in self._keys]
        if missing:
            request = CapcRequest(NO_SESSION, 1)
            for node, reply in self._take(CapcStep.KEYS, dict.fromkeys(missing, request)).items():
                self._keys[node] = dict(reply.keys)
        owners = {"querying": querying, "guardian": self._roster.guardian}
        return {
            f"{owner}-{name}": text
            for owner, node in owners.items()
            for name, text in self._keys[node].items()
        }

    def _votes(
        self, call: CapcRequest, answering: Mapping[int, str], positions: CapcReply
    ) -> EncryptedVector:
        """Have the votes summed as gradients are."""
        messages = [
            Message(
                replace(call, parts={"positions": positions.part(name)}).to_content(),
                node,
                CapcStep.COLLECT.value,
            )
            for node, name in answering.items()
        ]
        running = VoteSum(self._guardians_key, answering)
        with self._steps.counted(CapcStep.COLLECT) as cost:
            order = Order(messages, self._steps.timeout, self._segments)
            TOPOLOGIES[self._topology](self._steps.grid, order, running)
            cost.hops += 1 if self._topology == "fold" else ceil(len(messages) / self._segments)
            cost.node_seconds += running.node_seconds
            cost.bytes_sent += running.bytes_sent
        if running.vector is None:
            raise ProtocolError("CaPC must have at least one answering party, got none")
        return running.vector

    def _handed_on(
        self,
        call: CapcRequest,
        answering: Mapping[int, str],
        positions: CapcReply,
        noise: CapcReply,
    ) -> dict[str, bytes]:
        """Have the votes summed in a chain of envelopes; the last party adds the noise."""
        handed: dict[str, bytes] = {}
        last = list(answering)[-1]
        for node, name in answering.items():
            own = {"positions": positions.part(name), **handed}
            parts = {**own, **noise.parts} if node == last else own
            reply = self._take(CapcStep.COLLECT, {node: replace(call, parts=parts)})[node]
            handed = dict(reply.parts)
        return handed

    def _noisy_counts(self, votes: EncryptedVector, noise: CapcReply) -> dict[str, bytes]:
        """Add the guardian's noise."""
        key = self._guardians_key
        names = {COUNTS: NOISE}
        if self._threshold:
            names[TESTED_COUNTS] = TEST_NOISE
        return {
            name: votes.add(EncryptedVector.from_bytes(noise.part(part), key), key).to_bytes()
            for name, part in names.items()
        }

    @property
    def _guardians_key(self) -> PublicKey:
        return PublicKey.from_json(self._keys[self._roster.guardian]["paillier"])

    def _take(self, step: CapcStep, requests: Mapping[int, CapcRequest]) -> dict[int, CapcReply]:
        return self._steps.take(step, requests, self._roster.name)


_Replies = dict[str, CapcReply]


def _parts(replies: Mapping[str, CapcReply], part: str) -> dict[str, bytes]:
    return {name: reply.part(part) for name, reply in replies.items()}


def _report(text: str) -> dict[str, Any]:
    if len(text) > _LARGEST_REPORT:
        raise ProtocolError(f"a report must have at most {_LARGEST_REPORT} characters, got more")
    try:
        report = json.loads(text)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        raise ProtocolError("a report must be a JSON object")
    return report
