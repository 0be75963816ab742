"""What a CaPC node brings along: the terms it agreed to, its model, its queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.capc_terms import VOTE_BITS, Terms
from fl_he.crypto.public_key import PublicKey
from fl_he.crypto.slot_layout import SlotLayout
from fl_he.learning.integer_model import IntegerModel


@dataclass(frozen=True, slots=True)
class Party:
    """One node's part in CaPC.

    Attributes
    ----------
    terms : Terms
    queries : callable
        Takes how many queries to ask and returns their features, shape (queries, features), as
        integers in fixed point.
    model : callable
        Returns the model with which this party answers.
    learn : callable
        Takes the labels of the queries, -1 for "no answer", and returns what the party says of
        itself afterwards.
    require_budget : callable
        Takes a number of queries and refuses more than its patients' budget has left.
    spend : callable
        Takes the batch's session and number of queries, and counts them as answered.
    """

    terms: Terms
    queries: Callable[[int], NDArray[np.int64]] = field(repr=False)
    model: Callable[[], IntegerModel] = field(repr=False)
    learn: Callable[[NDArray[np.int64]], dict[str, Any]] = field(repr=False)
    require_budget: Callable[[int], None] = field(default=lambda _: None, repr=False)
    spend: Callable[[str, int], None] = field(default=lambda _, __: None, repr=False)

    def logit_layout(self, key: PublicKey) -> SlotLayout:
        """Return how features and logits lie under the querying party's key."""
        return SlotLayout(self.terms.value_bits, key.key_bits)

    def vote_layout(self, key: PublicKey) -> SlotLayout:
        """Return how counts lie under the guardian's key."""
        return SlotLayout(VOTE_BITS, key.key_bits)
