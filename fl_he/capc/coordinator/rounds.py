"""The coordinator's part in CaPC: carry each step's parts from node to node.

All queries of a batch and all answering parties take a step together, so a batch takes the same
number of hops whatever their number: 12 without a threshold test, 14 with one, and 4 for each
hidden layer of the deepest model. Only a chain of votes takes a hop for each party.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fl_he.capc.coordinator.mail import Mail
from fl_he.capc.coordinator.roster import GUARDIAN, CapcRoster
from fl_he.capc.messages import NO_SESSION, CapcRequest
from fl_he.capc.protocol import NOISE_IN, POSITIONS, SUM, CapcRole, CapcStep, Places
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.encoding.fields import Kind, Place, mapped
from fl_he.crypto.encoding.strict_json import parse
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.strategies.update_sum import TOPOLOGIES
from fl_he.wire.records import ProtocolError

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

    Attributes
    ----------
    roster : CapcRoster
    parties : dict of str to int
        Node ids of the parties by their names.

    Raises
    ------
    ProtocolError
        If deployed nodes are not to sum in one chain.
    """

    def __init__(self, roster: CapcRoster, *, topology: str = "fold", segments: int = 1) -> None:
        if topology not in TOPOLOGIES:
            raise ProtocolError(f"topology must be one of {list(TOPOLOGIES)}, got {topology!r}")
        self._topology, self._segments = topology, segments
        self._keys: dict[int, dict[str, str]] = {}
        self._answered: dict[int, int] = {}  # queries by node id
        self.roster = roster
        self.parties = {name: node for node, name in roster.parties.items()}
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
                "owner": self.roster.name(node),
                "paillier": PublicKey.from_json(keys["paillier"]).fingerprint,
                "dgk": DgkPublicKey.from_json(keys["dgk"]).fingerprint,
            }
            for node, keys in self._keys.items()
        ]

    def askable(self, querying: int) -> int:
        """Return how many queries a deployed party has, as far as all others may answer them."""
        budgets = [
            reply.affordable - self._answered.get(node, 0)
            for node, reply in self.roster.described.items()
            if reply.answers and node != querying
        ]
        return min([self.roster.described[querying].open_cases, *budgets])

    def ask(self, querying: int, queries: int) -> dict[str, Any]:
        """Have one party's batch of queries answered by all others; return the party's report.

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
        answering = self.roster.answering(querying)
        nodes = {name: node for node, name in answering.items()}
        nodes |= {GUARDIAN: self.roster.guardian, self.roster.name(querying): querying}
        places = Places(self.roster.name(querying), tuple(answering.values()), GUARDIAN)
        call = CapcRequest(
            NO_SESSION, queries, places.querying, places.answering, self._public_keys(querying)
        )
        mail, report = Mail(places, in_turn=self._deployed), ""
        while (due := mail.due()) is not None:
            row, taken = due
            requests = {nodes[name]: replace(call, parts=parts) for name, parts in taken.items()}
            if row.in_turn and not self._deployed:
                mail.post(row, places.answering[-1], self._noisy_counts(requests), {})
                continue
            for node, reply in self.roster.take(row.step, requests).items():
                mail.post(row, self.roster.name(node), reply.parts, requests[node].parts)
                if row.in_turn:
                    self._answered[node] = self._answered.get(node, 0) + queries
                if row.step is CapcStep.ASK:
                    call = replace(call, session=reply.session)
                report = reply.report
        at = Place("a report", ProtocolError)
        found: dict[str, Any] = mapped(Kind()).read(parse(report, at, _LARGEST_REPORT), at)
        return found

    def _public_keys(self, querying: int) -> dict[str, str]:
        owners = {CapcRole.QUERYING: querying, CapcRole.GUARDIAN: self.roster.guardian}
        request = CapcRequest(NO_SESSION, 1)
        missing = {node: request for node in owners.values() if node not in self._keys}
        if missing:
            replies = self.roster.take(CapcStep.KEYS, missing)
            self._keys |= {node: dict(reply.keys) for node, reply in replies.items()}
        return {
            f"{role}-{name}": text
            for role, node in owners.items()
            for name, text in self._keys[node].items()
        }

    def _noisy_counts(self, requests: Mapping[int, CapcRequest]) -> dict[str, bytes]:
        """Have the votes of a simulation summed, and add the guardian's noise.

        In a chain each party adds its votes to the sum that it is handed, with several segments in
        as many chains side by side. A fold is a segment for each party.
        """
        key = PublicKey.from_json(self._keys[self.roster.guardian]["paillier"])
        nodes, noise = list(requests), list(requests.values())[-1].parts
        segments = len(nodes) if self._topology == "fold" else self._segments
        sums: dict[int, EncryptedVector] = {}
        for start in range(0, len(nodes), segments):
            hop = {}
            for segment, node in enumerate(nodes[start : start + segments]):
                parts = {POSITIONS.name: requests[node].part(POSITIONS.name)}
                if segment in sums:
                    parts[SUM.name] = sums[segment].to_bytes()
                hop[node] = replace(requests[node], parts=parts)
            replies = self.roster.take(CapcStep.COLLECT, hop)
            for segment, node in enumerate(hop):
                try:
                    data = replies[node].part(SUM.name)
                    sums[segment] = EncryptedVector.from_bytes(data, key)
                except (ProtocolError, CryptoError) as error:
                    name = self.roster.name(node)
                    raise ProtocolError(f"{name} sent no usable votes: {error}") from error
        votes, *others = sums.values()
        for other in others:
            votes.add_in_place(other, key)
        return {
            counts.name: votes.add(EncryptedVector.from_bytes(drawn, key), key).to_bytes()
            for counts, part in NOISE_IN.items()
            if (drawn := noise.get(part.name)) is not None
        }
