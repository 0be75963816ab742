"""One simulated node's part in CaPC, from the configuration and the data of the simulation."""

from __future__ import annotations

from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc.data import Examples, capc_data, fitted_model, public_map
from fl_he.capc.node.party import Party
from fl_he.capc.terms import Terms, variance_of
from fl_he.config.run import Config
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.integer_model import IntegerModel, fixed_point
from fl_he.learning.voting.party_models import class_accuracy, probabilities
from fl_he.learning.voting.query_selection import select_queries


class SimulatedParty(Party):
    """A party, or the guardian, which needs the terms only.

    Parameters
    ----------
    config : Config
    index : int
        From 0; the guardian has one beyond all parties.
    """

    def __init__(self, config: Config, index: int) -> None:
        self._config, self._index = config, index
        self._data = capc_data(config)
        self._map = public_map(config, self._data)
        self._bits = self._map.integer_bits(config.capc.feature_integer_bits)

    @cached_property
    def terms(self) -> Terms:
        """See Party."""
        capc = self._config.capc
        return Terms(
            classes=self._data.classes,
            features=self._map.size,
            fraction_bits=capc.feature_fraction_bits,
            integer_bits=capc.feature_integer_bits,
            value_bits=capc.value_bits,
            # counts are whole numbers: one that reaches the threshold reaches the next whole one
            threshold=None if capc.threshold is None else ceil(capc.threshold),
            variance_gnmax=variance_of(capc.sigma_gnmax),
            variance_threshold=variance_of(capc.sigma_threshold),
            key_bits=self._config.crypto.key_bits,
            key_kind=KeyKind(self._config.crypto.key_kind),
        )

    def queries(self, count: int) -> NDArray[np.int64]:
        """See Party; the queries are on the public map."""
        mapped = self._map.apply(self._chosen(count).features)
        return fixed_point(mapped, self.terms.fraction_bits, self._bits)

    def model(self) -> IntegerModel:
        """See Party."""
        model = answering_model(self._fitted(), self._data.classes, self._map)
        return self.terms.in_integers(model, self._bits)

    def plain_votes(self, count: int) -> NDArray[np.int64]:
        """Return the votes on the party's queries without noise, shape (count, classes).

        They are those of the other parties' own ``predict``, without fixed point or encryption.
        """
        asked = self._chosen(count)
        votes = np.zeros((count, self._data.classes), dtype=np.int64)
        for other in range(self._config.hospitals):
            if other != self._index:
                labels = fitted_model(self._data, self._config, other).predict(asked.features)
                votes[np.arange(count), labels.astype(np.int64)] += 1
        return votes

    def learn(
        self, labels: NDArray[np.int64], votes: NDArray[np.int64] | None = None
    ) -> dict[str, Any]:
        """Learn from the answers; return how good they are, and what they were good for.

        `votes` are `plain_votes` if they are there already.

        Only a simulation can say most of it: it knows the true labels and everybody's votes.
        """
        data, asked = self._data, self._chosen(len(labels))
        answered = np.flatnonzero(labels >= 0)  # the others got no answer
        given = labels[answered]
        votes = (self.plain_votes(len(labels)) if votes is None else votes)[answered]
        top = votes.max(axis=1, initial=0) == votes[np.arange(len(given)), given]
        right = given == asked.labels[answered]
        learned = Examples(asked.features[answered], given)
        return {
            "party": f"hospital-{self._index + 1}",
            "queries": len(labels),
            "answered": len(given),
            "refused": len(labels) - len(given),
            "label_accuracy": float(right.mean()) if len(right) else None,
            "equal_to_plain_majority": int(top.sum()),
            "examples": len(data.parties[self._index]),
            "before": self._quality(self._fitted()),
            "after": self._quality(self._fitted(learned)),
        }

    def _fitted(self, extra: Examples | None = None) -> Any:
        return fitted_model(self._data, self._config, self._index, extra)

    def _quality(self, model: Any) -> dict[str, Any]:
        test = self._data.test
        return class_accuracy(model.predict(test.features), test.labels, self._data.classes)

    def _chosen(self, count: int) -> Examples:
        """Return the cases that the party asks about."""
        pool, own = self._data.pools[self._index], self._data.parties[self._index]
        rows = select_queries(
            self._config.capc.selection,
            pool.features,
            probabilities(self._fitted(), pool.features, self._data.classes),
            own.features,
            count=count,
            seed=self._config.seed + self._index,
        )
        return pool.take(rows)
