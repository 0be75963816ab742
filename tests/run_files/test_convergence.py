from __future__ import annotations

import math

import pytest

from fl_he.run_files.convergence import divergence


def rounds(*losses: float | None, test_loss: float | None) -> list[dict[str, float | None]]:
    return [{"loss": loss, "test_loss": test_loss} for loss in losses]


@pytest.mark.parametrize(
    ("losses", "test_loss"),
    [
        ((), None),
        ((0.7,), None),
        ((0.7,), 0.6),
        ((0.7, 0.6), 1.3),
        ((0.7, None), 1.3),
        ((None,), 9.0),
        ((0.7, 90.0), 0.8),
    ],
)
def test_training_that_converges_needs_no_hint(
    losses: tuple[float | None, ...], test_loss: float | None
) -> None:
    assert divergence(rounds(*losses, test_loss=test_loss)) == ""


@pytest.mark.parametrize(
    ("losses", "test_loss", "values"),
    [
        ((0.6931,), 1.5e7, "from 0.693 to 1.5e+07"),
        ((0.5, 0.7, 1.25), None, "from 0.5 to 1.25"),
        ((0.5,), math.nan, "from 0.5 to nan"),
        ((0.5,), math.inf, "from 0.5 to inf"),
    ],
)
def test_a_loss_that_grew_is_told(
    losses: tuple[float, ...], test_loss: float | None, values: str
) -> None:
    assert divergence(rounds(*losses, test_loss=test_loss)) == (
        f"the loss went {values}, so training diverges: lower optimizer.lr"
    )
