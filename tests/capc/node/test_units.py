"""The bits of a hidden layer's units, which stand before their ciphertexts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from capc_parties import KEY_BITS, Parties
from flwr.app import Context, Message

from fl_he.capc.messages import CapcRequest
from fl_he.capc.protocol import CapcStep
from fl_he.capc.terms import Terms
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
TERMS = Terms(2, 2, fraction_bits=4, integer_bits=1, value_bits=34, key_bits=KEY_BITS)


def model(*sizes: int, scale: float = 1.0) -> AnsweringModel:
    rng = np.random.default_rng(len(sizes))
    return AnsweringModel(
        tuple(
            Layer(scale * rng.normal(size=(outputs, inputs)), scale * rng.normal(size=outputs))
            for inputs, outputs in pairwise(sizes)
        )
    )


def test_the_bits_of_units_depend_on_terms_and_depth_only() -> None:
    parties = Parties(TERMS, np.ones((1, 2)), [model(2, 3, 2), model(2, 5, 2, scale=300.0)])
    parties.ask()
    (request,) = parties.sent(CapcStep.UNIT_BITS)
    # 5 bits of a feature, then half of the rest of 34 without a tie's bit and the sign
    assert {part[0] for part in request.parts.values()} == {5 + (32 - 5) // 2}
    width = parties.keys(parties.querying).public.paillier.ciphertext_bytes
    assert sorted(len(part) for part in request.parts.values()) == [1 + 3 * width, 1 + 5 * width]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "value_bits must be between 1 and 80, got 0"),
        (b"\x23", "must have at most 34 bits here, got 35"),
    ],
)
def test_bits_that_no_slot_has_room_for_are_refused(head: bytes, reason: str) -> None:
    parties = Parties(TERMS, np.ones((1, 2)), [model(2, 3, 2)] * 2)
    own = parties.grid.app

    def app(message: Message, context: Context) -> Message:
        if message.metadata.message_type == CapcStep.UNIT_BITS:
            request = CapcRequest.from_content(message.content)
            parts = {name: head + part[1:] if head else b"" for name, part in request.parts.items()}
            message.content = replace(request, parts=parts).to_content()
        return own(message, context)

    parties.grid.app = app  # type: ignore[assignment]
    with pytest.raises(ProtocolError, match=reason):
        parties.ask()
