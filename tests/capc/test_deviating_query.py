"""A querying party that sends features out of their range takes a linear model by one query."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he.capc.terms import Terms
from fl_he.crypto.comparison.argmax import blind_pairs, tie_bits
from fl_he.crypto.comparison.linear_map import linear_map
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.voting.estimators import answering_model

SPACING = 24


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_one_query_shows_the_weights_of_a_linear_model() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    fitted = LogisticRegression(max_iter=1000).fit(StandardScaler().fit_transform(X), y)
    terms = Terms(classes=2, features=30, key_bits=1024)
    (layer,) = terms.in_integers(answering_model(fitted, 2), terms.integer_bits)
    key = PrivateKey.generate(1024)
    start = terms.value_bits + 60
    plaintexts = [1 << (start + SPACING * feature) for feature in range(terms.features)]
    features = key.public_key.owner_masker.encrypt(plaintexts)
    # the answering party's steps, as fl_he.capc.node.answering takes them
    scores = linear_map(key.public_key, layer.weights, features, layer.offsets)
    blinded, _ = blind_pairs(key.public_key, terms.logit_layout, [[c] for c in scores], 1)
    # the querying party's opening
    (opened,) = key.decrypt(blinded)
    n = key.public_key.n
    rest = (opened - n if 2 * opened > n else opened) >> start
    found = []
    for _ in range(terms.features):
        digit = (rest + (1 << (SPACING - 1))) % (1 << SPACING) - (1 << (SPACING - 1))
        found.append(digit >> tie_bits(2))
        rest = (rest - digit) >> SPACING
    first, second = np.array(layer.weights)
    assert found == (first - second).tolist()
