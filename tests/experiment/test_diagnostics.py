"""Findings as a spoilt checkpoint may hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fl_he.config.run import Config
from fl_he.experiment.diagnostics import Diagnostics, Findings
from fl_he.run_files.checkpoint import CheckpointError

NAMES = ("a", "b", "c")
CANDIDATE: dict[str, Any] = {"number": 1, "parameters": [1.0] * 4, "gone": True}
FOUND: dict[str, Any] = {
    **{"constant": [], "aliased": {}, "first": [1.0] * 10, "proof": None},
    "candidate": CANDIDATE,
}


def diagnostics(**changes: Any) -> Diagnostics:
    return Diagnostics(Config(), NAMES, Findings.from_members({**FOUND, **changes}), None)


@pytest.mark.parametrize("length", [0, 2, 3, 5, 8])
def test_a_candidate_of_other_parameters_is_refused_when_it_is_read(length: int) -> None:
    candidate = {**CANDIDATE, "parameters": [1.0] * length}
    words = f"the checkpoint: a candidate must have 4 parameters, got {length}$"
    with pytest.raises(CheckpointError, match=words):
        diagnostics(candidate=candidate).check(1)


@pytest.mark.parametrize("length", [9, 15])
def test_information_of_other_parameters_is_refused_when_it_is_read(length: int) -> None:
    with pytest.raises(CheckpointError, match="must have 10 values"):
        diagnostics(first=[1.0] * length).check(1)


def test_findings_of_the_models_parameters_are_taken() -> None:
    diagnostics().check(1)
    softmax = {**CANDIDATE, "parameters": np.ones(12).tolist()}
    diagnostics(candidate=softmax).check(3)
    diagnostics(candidate=None, first=[]).check(3)
    fewer = {**CANDIDATE, "parameters": [1.0] * 3}
    diagnostics(constant=["b"], candidate=fewer, first=[1.0] * 6).check(1)
