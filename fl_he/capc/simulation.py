"""One simulated node's part in CaPC, from the configuration and the data of the simulation."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc.data import CapcData, Examples, capc_data, fitted_model, public_map
from fl_he.capc.node.party import Party
from fl_he.capc.terms import Terms, variance_of
from fl_he.config import Config
from fl_he.crypto.comparison.argmax import largest_difference
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.integer_model import IntegerModel, fixed_point, in_integers
from fl_he.learning.voting.party_models import class_accuracy, probabilities
from fl_he.learning.voting.query_selection import select_queries

#: A query that got no answer.
NO_ANSWER = -1


def capc_terms(config: Config) -> Terms:
    """Return the terms of the run that ``config`` describes."""
    capc, data = config.capc, capc_data(config)
    return Terms(
        classes=data.classes,
        features=public_map(config, data).size,
        fraction_bits=capc.feature_fraction_bits,
        integer_bits=capc.feature_integer_bits,
        value_bits=capc.value_bits,
        # counts are whole numbers: one that reaches the threshold reaches the next whole one
        threshold=None if capc.threshold is None else ceil(capc.threshold),
        variance_gnmax=variance_of(capc.sigma_gnmax),
        variance_threshold=variance_of(capc.sigma_threshold),
        key_bits=config.crypto.key_bits,
    )


def simulated_party(config: Config, index: int) -> Party:
    """Return a party by its index; the guardian has one beyond all parties."""
    data = capc_data(config)
    return Party(
        capc_terms(config),
        lambda count: mapped_queries(config, data, index, count),
        lambda: integer_model(config, data, index),
        lambda labels: outcome(config, data, index, labels),
    )


def chosen_queries(config: Config, data: CapcData, index: int, count: int) -> Examples:
    """Return the cases that a querying party asks about."""
    pool, own = data.pools[index], data.parties[index]
    chances = probabilities(fitted_model(data, config, index), pool.features, data.classes)
    rows = select_queries(
        config.capc.selection,
        pool.features,
        chances,
        own.features,
        count=count,
        seed=config.seed + index,
    )
    return pool.take(rows)


def mapped_queries(config: Config, data: CapcData, index: int, count: int) -> NDArray[np.int64]:
    """Return them as the querying party encrypts them: on the public map, in fixed point."""
    capc, mapping = config.capc, public_map(config, data)
    return fixed_point(
        mapping.apply(chosen_queries(config, data, index, count).features),
        capc.feature_fraction_bits,
        mapping.integer_bits(capc.feature_integer_bits),
    )


def integer_model(config: Config, data: CapcData, index: int) -> IntegerModel:
    """Return the model with which a party answers."""
    capc, mapping = config.capc, public_map(config, data)
    return in_integers(
        answering_model(fitted_model(data, config, index), data.classes, mapping),
        fraction_bits=capc.feature_fraction_bits,
        integer_bits=mapping.integer_bits(capc.feature_integer_bits),
        largest_value=(1 << capc.value_bits) - 1,
        largest_difference=largest_difference(data.classes, capc.value_bits),
    )


def plain_votes(config: Config, data: CapcData, index: int, count: int) -> NDArray[np.int64]:
    """Return the votes on a party's queries without noise, shape (count, classes).

    They are those of the other parties' own ``predict``, without fixed point or encryption.
    """
    asked = chosen_queries(config, data, index, count)
    votes = np.zeros((count, data.classes), dtype=np.int64)
    for other in range(config.hospitals):
        if other != index:
            labels = fitted_model(data, config, other).predict(asked.features)
            votes[np.arange(count), labels.astype(np.int64)] += 1
    return votes


def outcome(
    config: Config,
    data: CapcData,
    index: int,
    labels: NDArray[np.int64],
    votes: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Learn from the answers; return how good they are, and what they were good for.

    `votes` are `plain_votes` if they are there already.

    Only a simulation can say most of it: it knows the true labels and everybody's votes.
    """
    asked = chosen_queries(config, data, index, len(labels))
    answered = np.flatnonzero(labels != NO_ANSWER)
    given = labels[answered]
    if votes is None:
        votes = plain_votes(config, data, index, len(labels))
    votes = votes[answered]
    top = votes.max(axis=1, initial=0) == votes[np.arange(len(given)), given]
    learned = Examples(asked.features[answered], given)
    return {
        "party": f"hospital-{index + 1}",
        "queries": len(labels),
        "answered": len(given),
        "refused": len(labels) - len(given),
        "label_accuracy": _share(given == asked.labels[answered]),
        "equal_to_plain_majority": int(top.sum()),
        "examples": len(data.parties[index]),
        "before": _quality(fitted_model(data, config, index), data),
        "after": _quality(fitted_model(data, config, index, learned), data),
    }


def _quality(model: Any, data: CapcData) -> dict[str, Any]:
    return class_accuracy(model.predict(data.test.features), data.test.labels, data.classes)


def _share(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
