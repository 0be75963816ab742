"""The coordinator's part in CaPC: carry each step's parts from node to node.

All queries of a batch and all answering parties take a step together, so a batch takes the same
number of hops, however many they are: 12 without a threshold test, 14 with one, and 4 for each
hidden layer of the deepest model. Only a chain of votes takes a hop for each party.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fl_he.capc import protocol
from fl_he.capc.coordinator.roster import GUARDIAN, CapcRoster
from fl_he.capc.messages import NO_SESSION, CapcRequest
from fl_he.capc.protocol import CapcRole, CapcStep, Places, Row
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.encoding.fields import Kind, Place, mapped
from fl_he.crypto.encoding.strict_json import parse
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.strategies.update_sum import TOPOLOGIES
from fl_he.wire.records import ProtocolError, refused_as

_LARGEST_REPORT = 1 << 20


class CaPC:
    """Lets parties label each other's queries.

    Parameters
    ----------
    roster : CapcRoster
    topology : {"fold", "chain"}
        How the votes are summed: by the coordinator, or from party to party.
    segments : int
        ``chain`` only: how many chains run side by side.

    Raises
    ------
    ProtocolError
        If deployed nodes are not to sum in one chain.
    """

    def __init__(self, roster: CapcRoster, *, topology: str = "fold", segments: int = 1) -> None:
        if topology not in TOPOLOGIES:
            raise ProtocolError(f"topology must be one of {list(TOPOLOGIES)}, got {topology!r}")
        self._topology, self._segments = topology, segments
        self._keys: dict[str, Mapping[str, str]] = {}
        self._answered: Counter[str] = Counter()  # queries
        self._asked: Counter[str] = Counter()  # queries, by who asked
        self._roster = roster
        self._deployed = roster.agreement is not None
        if self._deployed and (topology, segments) != ("chain", 1):
            raise ProtocolError(
                "topology must be chain, and segments 1, with deployed nodes, got "
                f"{topology} and {segments}: in a fold the coordinator would see each "
                "vote, and could leave the guardian's noise out"
            )

    @property
    def fingerprints(self) -> list[dict[str, str]]:
        """``owner``, ``paillier`` and ``dgk``: fingerprints of the keys that were used so far.

        They are public keys of the privacy guardian and of each party that has asked.
        """
        return [
            {
                "owner": owner,
                "paillier": PublicKey.from_json(keys["paillier"]).fingerprint,
                "dgk": DgkPublicKey.from_json(keys["dgk"]).fingerprint,
            }
            for owner, keys in self._keys.items()
        ]

    def askable(self, querying: str) -> int:
        """Return how many queries a deployed party has, as far as all others may answer them."""
        parties = self._roster.parties
        answering = [(name, parties[name]) for name in self._roster.answering(querying)]
        budgets = [one.affordable - self._answered[name] for name, one in answering]
        limits = [one.left.get(querying, 0) - self._asked[querying] for _, one in answering]
        return min([parties[querying].open_cases, *budgets, *limits])

    def ask(self, querying: str, queries: int, label: int = 0) -> dict[str, Any]:
        """Have one party's batch of queries answered by all others; return the party's report.

        Parameters
        ----------
        querying : str
            Name of the querying party.
        queries : int
            How many, at least 1.
        label : int
            See `CapcRequest`.

        Raises
        ------
        ProtocolError, CryptoError
            If a node refused.
        """
        answering = self._roster.answering(querying)
        places = Places(querying, answering, GUARDIAN)
        keys = self._public_keys(querying)
        call = CapcRequest(NO_SESSION, queries, querying, answering, keys, label=label)
        mail, report = Mail(places, in_turn=self._deployed), ""
        while (due := mail.due()) is not None:
            row, taken = due
            requests = {name: replace(call, parts=parts) for name, parts in taken.items()}
            if row.in_turn and not self._deployed:
                mail.post(row, answering[-1], self._noisy_counts(requests), {})
                continue
            for name, reply in self._roster.take(row.step, requests).items():
                mail.post(row, name, reply.parts, requests[name].parts)
                if row.in_turn:
                    self._answered[name] += queries
                if row.step is CapcStep.ASK:
                    self._asked[querying] += queries
                    call = replace(call, session=reply.session)
                report = reply.report
        at = Place("a report", ProtocolError)
        found: dict[str, Any] = mapped(Kind()).read(parse(report, at, _LARGEST_REPORT), at)
        return found

    def _public_keys(self, querying: str) -> dict[str, str]:
        owners = {CapcRole.QUERYING: querying, CapcRole.GUARDIAN: GUARDIAN}
        request = CapcRequest(NO_SESSION, 1)
        if missing := {name: request for name in owners.values() if name not in self._keys}:
            replies = self._roster.take(CapcStep.KEYS, missing)
            self._keys |= {name: reply.keys for name, reply in replies.items()}
        return {
            f"{role}-{kind}": text
            for role, name in owners.items()
            for kind, text in self._keys[name].items()
        }

    def _noisy_counts(self, requests: Mapping[str, CapcRequest]) -> dict[str, bytes]:
        """Have the votes of a simulation summed, and add the guardian's noise.

        In a chain each party adds its votes to the sum that it is handed, with several segments in
        as many chains side by side. A fold is a segment for each party.
        """
        key = PublicKey.from_json(self._keys[GUARDIAN]["paillier"])
        names, noise = list(requests), list(requests.values())[-1].parts
        segments = len(names) if self._topology == "fold" else self._segments
        sums: dict[int, EncryptedVector] = {}
        for start in range(0, len(names), segments):
            hop = {}
            for segment, name in enumerate(names[start : start + segments]):
                parts = {protocol.POSITIONS.name: requests[name].part(protocol.POSITIONS.name)}
                if segment in sums:
                    parts[protocol.SUM.name] = sums[segment].to_bytes()
                hop[name] = replace(requests[name], parts=parts)
            replies = self._roster.take(CapcStep.COLLECT, hop)
            for segment, name in enumerate(hop):
                with refused_as(f"{name} sent no usable votes:"):
                    data = replies[name].part(protocol.SUM.name)
                    sums[segment] = EncryptedVector.from_bytes(data, key)
        votes, *others = sums.values()
        for other in others:
            votes.add_in_place(other, key)
        return {
            counts.name: votes.add(EncryptedVector.from_bytes(drawn, key), key).to_bytes()
            for counts, part in protocol.NOISE_IN.items()
            if (drawn := noise.get(part.name)) is not None
        }


class Mail:
    """Parts on their way between the nodes of one batch.

    A part waits for the step that takes it. The steps come in the order of the table, so answering
    parties whose models have fewer layers wait for those with more.

    Parameters
    ----------
    places : Places
    in_turn : bool
        Whether the votes go from party to party; else the coordinator sums them.
    """

    def __init__(self, places: Places, *, in_turn: bool) -> None:
        self._places = places
        self._in_turn = in_turn
        self._waiting: dict[CapcStep, dict[str, dict[str, bytes]]] = {}
        owners = {CapcRole.QUERYING: places.querying, CapcRole.GUARDIAN: places.guardian}
        for row in protocol.OPENING:
            self._waiting[row.step] = {owners[row.role]: {}}

    def due(self) -> tuple[Row, dict[str, dict[str, bytes]]] | None:
        """Return the next step, and what each node takes of it; None at the end of the batch."""
        for row in protocol.TABLE:
            if waiting := self._waiting.pop(row.step, None):
                nodes = (self._places.querying, *self._places.answering, self._places.guardian)
                taken = {name: waiting.pop(name) for name in nodes if name in waiting}
                if row.in_turn and self._in_turn:
                    later = list(taken)[1:]
                    self._waiting[row.step] = {name: taken.pop(name) for name in later}
                return row, taken
        return None

    def post(
        self, row: Row, name: str, given: Mapping[str, bytes], taken: Mapping[str, bytes]
    ) -> None:
        """Put what a node gave in reply to what it took where it is taken next.

        Raises
        ------
        ProtocolError
            If the step gives something else.
        """
        wanted = set(taken or self._places.answering) if row.by_party else set(given)
        if wanted != set(given) or (row.gives and not given):
            raise ProtocolError(f"{name} replied to {row.step} with the parts {sorted(given)}")
        for key, part, peer in self._places.handed(row, given, name, incoming=False):
            taker = protocol.TAKER[part]
            box = self._waiting.setdefault(taker.step, {}).setdefault(peer, {})
            box[name if taker.by_party else part.name] = given[key]
