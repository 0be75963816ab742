"""CaPC's parties in one process, with models and queries of a test's choice."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from flwr.app import Context
from flwr.clientapp import ClientApp
from integer_scores import integer_scores
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray

from fl_he.capc.coordinator.roster import CapcRoster
from fl_he.capc.coordinator.rounds import CaPC
from fl_he.capc.messages import CapcRequest
from fl_he.capc.node.app import Capc
from fl_he.capc.node.keys import KeyPair, own_keys
from fl_he.capc.node.party import Party
from fl_he.capc.protocol import CapcStep
from fl_he.capc.terms import Terms
from fl_he.clients.node.app import NodeApp, read_node
from fl_he.clients.node.node import SimulatedNode
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.integer_model import IntegerModel, fixed_point

KEY_BITS = 1024


def constant_model(label: int, classes: int, features: int) -> AnsweringModel:
    """Return a model that always votes for one class."""
    return AnsweringModel((Layer(np.zeros((classes, features)), np.eye(classes)[label]),))


class MaskingNode(SimulatedNode):
    """A simulated node that masks pairwise."""

    resistant = True


class Parties:
    """One querying party, the first, answering parties with these models, and the guardian.

    ``labels`` are the querying party's last labels. With ``masked`` votes have pairwise masks.
    ``settings`` are those of `CaPC`. With `of_labels` the models are those of several labels, each
    of which has a vote.
    """

    def __init__(
        self,
        terms: Terms,
        queries: NDArray[np.float64],
        models: Sequence[AnsweringModel],
        *,
        masked: bool = False,
        **settings: Any,
    ) -> None:
        self.terms = terms
        self.models = [terms.in_integers(model, terms.integer_bits) for model in models]
        self.queries = fixed_point(queries, terms.fraction_bits, terms.integer_bits)
        self.labels: list[int] = []
        self.label, self.views = 0, {0: self}
        self.grid = LocalGrid(
            NodeApp(ClientApp(), [Capc(self._party)], MaskingNode if masked else SimulatedNode),
            simulated_nodes(1 + len(models)),
        )
        self.roster = CapcRoster(self.grid, 1 + len(models))
        self.protocol = CaPC(self.roster, **settings)
        self.querying, *self.answering, self.guardian = self.grid.contexts

    def of_labels(self, models: Sequence[Sequence[AnsweringModel]]) -> list[Parties]:
        """Return the same parties in the votes for several labels, each with its models."""
        for label, own in enumerate(models, start=1):
            view = self.views[label] = copy(self)
            view.label = label
            view.models = [self.terms.in_integers(one, self.terms.integer_bits) for one in own]
        return [view for view in self.views.values() if view.label]

    def ask(self) -> list[int]:
        """Have all queries answered and return their labels."""
        self.protocol.ask("hospital-1", len(self.queries), self.label)
        return self.labels

    def keys(self, node: int) -> KeyPair:
        """Return a node's private keys."""
        node_of = read_node(self.grid.contexts[node])
        return own_keys(node_of, self.terms.key_bits, kind=self.terms.key_kind)

    def sent(self, step: CapcStep) -> list[CapcRequest]:
        """Return all requests of a step."""
        return [
            CapcRequest.from_content(message.content)
            for message in self.grid.sent
            if message.metadata.message_type == step
        ]

    def votes(self) -> NDArray[np.int64]:
        """Return the votes of the integer models, shape (queries, classes)."""
        votes = np.zeros((len(self.queries), self.terms.classes), dtype=np.int64)
        for model in self.models:
            chosen = integer_scores(model, self.queries).astype(np.int64).argmax(axis=1)
            votes[np.arange(len(votes)), chosen] += 1
        return votes

    def _party(self, context: Context) -> Party:
        return _One(self, context)


class _One(Party):
    def __init__(self, parties: Parties, context: Context) -> None:
        self._parties, self._context = parties, context

    @property
    def terms(self) -> Terms:
        return self._parties.terms

    def about(self, label: int) -> Party:
        return _One(self._parties.views[label], self._context)

    def queries(self, count: int) -> NDArray[np.int64]:
        return self._parties.queries[:count]

    def model(self) -> IntegerModel:
        return self._parties.models[int(self._context.node_config["partition-id"]) - 1]

    def learn(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        self._parties.labels = labels.tolist()
        return {"party": self._context.node_id}
