"""Two totals over one model under differential privacy, one of them without a hospital."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from deployed_nodes import KEY, deployed_nodes
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from local_grid import LocalGrid
from numpy.typing import NDArray
from ticketed_sums import added, unchecked

from fl_he import client_app
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    DecryptReply,
    DecryptRequest,
    Description,
    EncryptedReply,
    EncryptionRequest,
)
from fl_he.wire.learning_terms import privacy_members
from fl_he.wire.model import model_arrays, model_message_content

TERMS = GaussianPrivacy(epsilon=1.0, delta=1e-5, clip=1.0, rounds=12, contributors=2)
SETTINGS = {
    **{"privacy-epsilon": 1.0, "privacy-delta": 1e-5, "privacy-clip": 1.0, "privacy-rounds": 12},
    "min-contributors": 2,
}


class Coordinator:
    """A coordinator that asks for one model again and again."""

    def __init__(self, folder: Path) -> None:
        nodes = deployed_nodes(folder)
        for number, node in enumerate(nodes[:-1], start=1):
            node.update(SETTINGS | {"privacy-ledger": str(folder / f"{number}.jsonl")})
        nodes[-1]["min-contributors"] = 2
        self.folder = folder
        self.grid = LocalGrid(client_app.app, nodes)
        *self.hospitals, self.company_x = self.grid.contexts
        reply = self.ask(self.company_x, DESCRIBE, RecordDict())
        self.company = Description.from_content(reply.content)

    def ask(self, node: int, action: str, content: RecordDict) -> Message:
        (reply,) = self.grid.send_and_receive([Message(content, node, action)])
        assert not reply.has_error(), reply.error.reason
        return reply

    def update(self, hospital: int, round_: int) -> bytes:
        config = ConfigRecord({"lr": 0.5, **privacy_members(TERMS)})
        content = model_message_content(model_arrays(np.zeros(2), 0.0), config)
        key, packing = self.company.public_key, self.company.packing
        request = EncryptionRequest(key, packing, self.company.session, round_)
        reply = self.ask(hospital, MessageType.TRAIN, request.add_to(content))
        return EncryptedReply.from_content(reply.content).encrypted_sum

    def total(self, hospitals: list[int], round_: int) -> NDArray[np.float64]:
        summed = added([self.update(hospital, round_) for hospital in hospitals], KEY.public_key)
        request = DecryptRequest(self.company.session, "train", round_, len(hospitals), summed)
        content = request.to_content()
        reply = self.ask(self.company_x, DECRYPT, content)
        return DecryptReply.from_content(reply.content).total[2:]

    def releases(self, number: int) -> list[NDArray[np.float64]]:
        """Return a hospital's releases so far."""
        lines = (self.folder / f"{number}.jsonl").read_text().splitlines()
        return [np.array(json.loads(line)["answer"][2:]) / 2**24 for line in lines]


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return Coordinator(tmp_path)


def test_their_difference_has_the_noise_of_every_hospital(coordinator: Coordinator) -> None:
    """Source: issue 16. It was the third hospital's release, with one share of noise."""
    all_three = coordinator.total(coordinator.hospitals, 1)
    two = coordinator.total(coordinator.hospitals[:2], 2)
    (own,) = coordinator.releases(3)
    assert np.abs(all_three - two - own).min() > 0.0
    assert [len(coordinator.releases(number)) for number in (1, 2, 3)] == [2, 2, 1]
    np.testing.assert_allclose(all_three, sum(coordinator.releases(n)[0] for n in (1, 2, 3)))


def test_another_attempt_at_a_round_is_the_same_release(coordinator: Coordinator) -> None:
    first, second = (coordinator.update(coordinator.hospitals[0], 1) for _ in range(2))
    assert first != second
    np.testing.assert_array_equal(unchecked(first, KEY), unchecked(second, KEY))
    assert len(coordinator.releases(1)) == 1
