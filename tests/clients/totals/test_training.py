"""Steps of fl-he's own models by totals, and each party's knowledge of them."""

from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord, MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray
from sealed_federation import terms

from fl_he.clients.totals.learner import Stage
from fl_he.clients.totals.training import TrainingLearner
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import MOMENTS
from fl_he.wire.learning_terms import LearningTerms, privacy_members
from fl_he.wire.model import named_arrays, update_content

LEARNER, PACKING = TrainingLearner(), Packing()
LIMBS = Limbs(PACKING.fraction_bits, PACKING.integer_bits)


def total(**arrays: NDArray[np.float64]) -> RecordDict:
    return update_content(named_arrays(**arrays), MetricRecord({"num-examples": 10}))


def gradient() -> RecordDict:
    return total(coefficients=np.array([0.1, -0.2, 0.3]), intercept=np.array([0.1]))


def test_with_noise_nobody_can_tell_whether_training_is_over() -> None:
    def after_a_step(config: ConfigRecord) -> tuple[Stage, str | None]:
        course = LEARNER.begin(config, PACKING, None)
        course.step(gradient(), config)
        final = LearningTerms.from_content(course.final(config))
        return course.stage(config), final.training

    config = terms(tolerance=10.0).to_config()
    assert after_a_step(config) == (Stage(over=True), "converged")
    config.update(privacy_members(GaussianPrivacy(1.0, 1e-5, 1.0, 5, 3, 0.2)))
    assert after_a_step(config) == (Stage(over=False), None)


def test_sums_before_the_first_step_prepare() -> None:
    config = terms(scaling="federated").to_config()
    course = LEARNER.begin(config, PACKING, None)
    numbers = LIMBS.split(np.array([1.0, 2.0, 3.0])) / 10
    asked = [course.question(config)[0]]
    stages = []
    for mean in (total(sums=numbers), total(squares=numbers), gradient()):
        course.step(mean, config)
        asked.append(course.question(config)[0])
        stages.append(course.stage(config).prepares)
    assert asked == [MOMENTS, MOMENTS, MessageType.TRAIN, MessageType.TRAIN]
    assert stages == [True, True, False]
