"""The rounds of CaPC: the coordinator carries each step's parts from node to node.

All queries of a batch and all answering parties take a step together, so a batch takes the same
number of hops whatever their number: 12 without a threshold test, 14 with one, and 4 for each
hidden layer of the deepest model.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter, sleep
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.capc_messages import CapcReply, CapcRequest, CapcStep
from fl_he.crypto.encrypted_vector import EncryptedVector
from fl_he.crypto.public_key import PublicKey
from fl_he.messages import ProtocolError, Role, content_bytes, printable
from fl_he.strategies.exchange import error_reason, exchange

_LARGEST_REPORT = 1 << 20
_POLL_SECONDS = 0.2


@dataclass(slots=True)
class StepCost:
    """What one step has cost.

    Attributes
    ----------
    step : str
    hops : int
        How often messages went out and came back for it.
    seconds : float
        Wall time from sending to the last reply.
    node_seconds : float
        CPU time of all nodes.
    bytes_sent : int
        Both ways.
    """

    step: str
    hops: int = 0
    seconds: float = 0.0
    node_seconds: float = 0.0
    bytes_sent: int = 0


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
        timeout: float = 600.0,
        node_timeout: float = 120.0,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._grid = grid
        self._threshold = threshold
        self._timeout = timeout
        self._on_step = on_step
        self._keys: dict[int, dict[str, str]] = {}
        self.costs: dict[CapcStep, StepCost] = {}
        self._parties: dict[int, str] = {}
        self._guardian = self._call_roll(parties, node_timeout)

    @property
    def parties(self) -> dict[str, int]:
        """Node ids of the parties by their names."""
        return {name: node for node, name in self._parties.items()}

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
        answering = [node for node in self._parties if node != querying]
        keys = self._public_keys(querying)
        session = secrets.token_hex(16)

        def one(step: CapcStep, node: int, parts: Mapping[str, bytes]) -> CapcReply:
            request = CapcRequest(session, queries, keys, parts)
            return self._take(step, {node: request})[node]

        def each(step: CapcStep, parts: Mapping[int, Mapping[str, bytes]]) -> dict[int, CapcReply]:
            requests = {n: CapcRequest(session, queries, keys, p) for n, p in parts.items()}
            return self._take(step, requests)

        features = one(CapcStep.ASK, querying, {}).part("features")
        logits = each(CapcStep.EVALUATE, {node: {"features": features} for node in answering})
        # Hidden layers: parties with fewer of them wait for those with more.
        while hidden := {node: reply for node, reply in logits.items() if "units" in reply.parts}:
            bits = one(CapcStep.UNIT_BITS, querying, _named(hidden, "units"))
            compared = each(
                CapcStep.COMPARE_UNITS, {node: {"bits": bits.part(str(node))} for node in hidden}
            )
            factors = one(CapcStep.PRODUCTS, querying, _named(compared, "compared"))
            logits |= each(
                CapcStep.RECTIFY, {node: {"products": factors.part(str(node))} for node in hidden}
            )
        bits = one(CapcStep.LOGIT_BITS, querying, _named(logits, "blinded"))
        compared = each(
            CapcStep.COMPARE, {node: {"bits": bits.part(str(node))} for node in answering}
        )
        positions = one(CapcStep.VOTE, querying, _named(compared, "compared"))
        votes = each(
            CapcStep.COLLECT, {node: {"positions": positions.part(str(node))} for node in answering}
        )
        noise = one(CapcStep.NOISE, self._guardian, {})
        counts = self._noisy_counts([votes[node].part("votes") for node in answering], noise)
        blinded = one(CapcStep.COUNT, querying, counts)
        count_bits = one(CapcStep.COUNT_BITS, self._guardian, blinded.parts)
        decided = one(CapcStep.COMPARE_COUNTS, querying, count_bits.parts)
        answers = one(CapcStep.DECIDE, self._guardian, decided.parts)
        if self._threshold:
            under_coins = one(CapcStep.ANY, querying, answers.parts)
            answers = one(CapcStep.RELEASE, self._guardian, under_coins.parts)
        return Batch(queries, _report(one(CapcStep.LEARN, querying, answers.parts).report))

    def _call_roll(self, parties: int, node_timeout: float) -> int:
        """Ask all nodes for name and role; return the guardian's node id."""
        deadline = monotonic() + node_timeout
        while len(nodes := list(self._grid.get_node_ids())) < parties + 1:
            if monotonic() > deadline:
                raise ProtocolError(
                    f"CaPC must have {parties} parties and a guardian, got {len(nodes)} nodes"
                )
            sleep(_POLL_SECONDS)
        replies = self._take(CapcStep.DESCRIBE, dict.fromkeys(nodes, CapcRequest("0" * 32, 1)))
        guardians = [n for n, reply in replies.items() if reply.role == Role.KEY_HOLDER]
        self._parties = {
            node: printable(reply.name)
            for node, reply in sorted(replies.items())
            if reply.role == Role.HOSPITAL
        }
        names = set(self._parties.values())
        if len(guardians) != 1 or not len(names) == len(self._parties) == parties:
            raise ProtocolError(
                f"CaPC must have {parties} parties of different names and a guardian, got "
                f"{len(names)} and {len(guardians)}"
            )
        return guardians[0]

    def _public_keys(self, querying: int) -> dict[str, str]:
        missing = [node for node in (querying, self._guardian) if node not in self._keys]
        if missing:
            request = CapcRequest("0" * 32, 1)
            for node, reply in self._take(CapcStep.KEYS, dict.fromkeys(missing, request)).items():
                self._keys[node] = dict(reply.keys)
        owners = {"querying": querying, "guardian": self._guardian}
        return {
            f"{owner}-{name}": text
            for owner, node in owners.items()
            for name, text in self._keys[node].items()
        }

    def _noisy_counts(self, votes: Sequence[bytes], noise: CapcReply) -> dict[str, bytes]:
        """Add the votes one after another, then the guardian's noise."""
        key = PublicKey.from_json(self._keys[self._guardian]["paillier"])
        total = EncryptedVector.from_bytes(votes[0], key)
        for data in votes[1:]:
            total.add_in_place(EncryptedVector.from_bytes(data, key), key)
        names = {"noisy-counts": "noise"}
        if self._threshold:
            names["tested-counts"] = "test-noise"
        return {
            name: total.add(EncryptedVector.from_bytes(noise.part(part), key), key).to_bytes()
            for name, part in names.items()
        }

    def _take(self, step: CapcStep, requests: Mapping[int, CapcRequest]) -> dict[int, CapcReply]:
        """Send a step to nodes and return their replies."""
        start = perf_counter()
        messages = [
            Message(request.to_content(), node, step.value) for node, request in requests.items()
        ]
        cost = self.costs.setdefault(step, StepCost(step.value))
        cost.hops += 1
        cost.bytes_sent += sum(content_bytes(message) for message in messages)
        replies: dict[int, CapcReply] = {}
        for message in exchange(self._grid, messages, self._timeout):
            node = message.metadata.src_node_id
            if message.has_error():
                raise ProtocolError(f"{self._name(node)}: {error_reason(message)}")
            cost.bytes_sent += content_bytes(message)
            replies[node] = CapcReply.from_content(message.content)
            cost.node_seconds += replies[node].seconds
        cost.seconds += perf_counter() - start
        self._on_step(step.value)
        return replies

    def _name(self, node: int) -> str:
        return self._parties.get(node, "the privacy guardian")


def _named(replies: Mapping[int, CapcReply], part: str) -> dict[str, bytes]:
    return {str(node): reply.part(part) for node, reply in replies.items()}


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
