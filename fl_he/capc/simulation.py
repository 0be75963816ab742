"""One simulated node's part in CaPC, from the configuration and the data of the simulation."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc.all_labels import LABELS, of_all_labels, write_labels
from fl_he.capc.data import Examples, capc_data, fitted_model, public_map
from fl_he.capc.node.party import Party
from fl_he.capc.terms import Terms, variance_of
from fl_he.config.capc import Voting
from fl_he.config.run import Config
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.learning.voting.case_files import LABEL
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.integer_model import IntegerModel, fixed_point
from fl_he.learning.voting.many_labels import ClippedVotes, LabelModels, having_label, subset_model
from fl_he.learning.voting.party_models import class_accuracy, label_auc, probabilities
from fl_he.learning.voting.query_selection import select_queries
from fl_he.wire.records import ProtocolError


class SimulatedParty(Party):
    """A party, or the guardian, which needs the terms only.

    Parameters
    ----------
    config : Config
    index : int
        From 0; the guardian has one beyond all parties.
    label : int
        Of ``capc.labels`` the one that is voted for, from 1; 0 for one vote for each case.

    Raises
    ------
    DataError
        If the data cannot be used.
    ProtocolError
        If there is no such label.
    """

    def __init__(self, config: Config, index: int, label: int = 0) -> None:
        self._config, self._index = config, index
        self._data, names = capc_data(config), config.capc.labels
        if label > len(names):
            raise ProtocolError(f"label must be at most {len(names)}, got {label}")
        if label:
            self._data = self._data.of_label(label - 1, names[label - 1])
        self._map = public_map(config, self._data)
        self._bits = self._map.integer_bits(config.capc.feature_integer_bits)

    def about(self, label: int) -> SimulatedParty:
        """See Party."""
        return SimulatedParty(self._config, self._index, label)

    @cached_property
    def terms(self) -> Terms:
        """See Party."""
        capc = self._config.capc
        subsets = not capc.labels or capc.voting is Voting.powerset
        return Terms(
            classes=self._data.classes if subsets else 2,
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
        fitted, classes = self._fitted(), self._data.classes
        if isinstance(fitted, LabelModels):
            model = subset_model([answering_model(one, 2, self._map) for one in fitted.models])
        else:
            model = answering_model(fitted, classes, self._map)
        return self.terms.in_integers(model, self._bits)

    def plain_classes(self, count: int) -> NDArray[np.int64]:
        """Return the class that each other party votes for on the party's queries.

        They are those of the parties' own ``predict``, without fixed point or encryption, of shape
        (answering parties, count).
        """
        asked = self._chosen(count)
        others = (other for other in range(self._config.hospitals) if other != self._index)
        fitted = (fitted_model(self._data, self._config, other) for other in others)
        return np.array([model.predict(asked.features) for model in fitted], dtype=np.int64)

    def plain_votes(self, count: int) -> NDArray[np.int64]:
        """Return the votes on the party's queries without noise, shape (count, classes)."""
        return _counted(self.plain_classes(count), self._data.classes)

    def learn(
        self, labels: NDArray[np.int64], votes: NDArray[np.int64] | None = None
    ) -> dict[str, Any]:
        """Learn from the answers; return how good they are, and what they were good for.

        `votes` are `plain_votes` if they are there already.

        Only a simulation can say most of it: it knows the true labels and everybody's votes.
        """
        if self._config.capc.labels and not self._data.label:
            return self._learn_subsets(labels)
        data, asked = self._data, self._chosen(len(labels))
        answered = np.flatnonzero(labels >= 0)  # the others got no answer
        given = labels[answered]
        votes = (self.plain_votes(len(labels)) if votes is None else votes)[answered]
        top = votes.max(axis=1, initial=0) == votes[np.arange(len(given)), given]
        right = given == asked.labels[answered]
        learned = replace(asked.take(answered), labels=given)
        self._note(asked, labels)
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

    def _note(self, asked: Examples, labels: NDArray[np.int64]) -> None:
        """Write the answers into the party's folder, if the run has a folder."""
        if self._config.output_dir is None:
            return
        name, first = self._data.label, self._config.capc.labels[:1]
        folder = Path(self._config.output_dir) / "hospitals" / f"hospital-{self._index + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        path, more = folder / LABELS, name not in ("", *first)
        column = ["" if label < 0 else str(label) for label in labels.tolist()]
        write_labels(path, asked.rows.tolist(), name or LABEL, column, more=more)

    def _learn_subsets(self, found: NDArray[np.int64]) -> dict[str, Any]:
        """Learn each label from the subsets; count queries by their whole subsets."""
        names, tau = self._config.capc.labels, self._config.capc.tau
        voted = self.plain_classes(len(found))
        learned = []
        for at in range(len(names)):
            votes = _counted(having_label(voted, at), 2)
            learned.append(self.about(at + 1).learn(having_label(found, at), votes))
        answered = np.flatnonzero(found >= 0)
        if tau is None:
            counts = _counted(voted, self._data.classes)[answered]
            top = counts.max(axis=1, initial=0) == counts[np.arange(len(counts)), found[answered]]
        else:
            top = ClippedVotes(len(names), tau, None).answers(voted) == found
        return of_all_labels(learned, names) | {
            "queries": len(found),
            "answered": len(answered),
            "refused": len(found) - len(answered),
            "equal_to_plain_majority": int(top.sum()),
        }

    def _fitted(self, extra: Examples | None = None) -> Any:
        return fitted_model(self._data, self._config, self._index, extra)

    def _quality(self, model: Any) -> dict[str, Any]:
        test, classes = self._data.test, self._data.classes
        found = class_accuracy(model.predict(test.features), test.labels, classes)
        if self._data.label:
            chances = probabilities(model, test.features, classes)[:, 1]
            found["roc_auc"] = label_auc(chances, test.labels)
        return found

    def _chosen(self, count: int) -> Examples:
        """Return the cases that the party asks about."""
        pool, own = self._data.pools[self._index], self._data.parties[self._index]
        rows = select_queries(
            self._config.capc.selection,
            pool.features,
            self._chances(pool.features),
            own.features,
            count=count,
            seed=self._config.seed + self._index,
        )
        return pool.take(rows)

    def _chances(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._config.capc.labels:
            return np.empty((len(features), 0))  # no selection by chances with several labels
        return probabilities(self._fitted(), features, self._data.classes)


def _counted(voted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the votes of each class, shape (m, classes), by each party's class, (parties, m)."""
    votes = np.zeros((voted.shape[1], classes), dtype=np.int64)
    for found in voted:
        votes[np.arange(len(found)), found] += 1
    return votes
