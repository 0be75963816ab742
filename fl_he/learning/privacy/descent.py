"""Clip, learning rate and rounds of private gradient descent, from public numbers alone.

docs/privacy.md says how the constants were chosen; docs/studies/private_defaults.py is the study.
With features of about -1 to 1, a patient's gradient has a norm of up to ``size = sqrt(d + 1)`` for
d features. Two numbers decide, and neither depends on the unit of the clip:

- the strength of the signal, ``n mu / size``: n patients against noise of mu-GDP;
- the path, ``rounds * lr * clip * size``: how far the scores move at most. The more signal, the
  longer the path pays; along a longer one noise adds up.

Along a given path more rounds cost no accuracy, and a little encryption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Path for each unit of strength, and the path's ends.
_PATH, _SHORTEST, _LONGEST = 8.0, 20.0, 640.0
#: Path of one round, as a rule and at most.
_STEP, _LONGEST_STEP = 8.0, 16.0
_FEWEST_ROUNDS, _MOST_ROUNDS = 10, 40
#: Clip, in sizes: at least, for each unit of strength, and at most.
_LEAST_CLIP, _CLIP, _LARGEST_CLIP = 0.1, 0.002, 0.4


@dataclass(frozen=True, slots=True)
class DescentSettings:
    """Settings of private gradient descent.

    Attributes
    ----------
    clip, lr : float
    rounds : int
    """

    clip: float
    lr: float
    rounds: int


def descent_settings(
    examples: int,
    features: int,
    mu: float,
    *,
    clip: float | None = None,
    lr: float | None = None,
    rounds: int | None = None,
) -> DescentSettings:
    """Return settings that suit a number of patients and features, and an amount of noise.

    Parameters
    ----------
    examples, features : int
        Of all hospitals together, at least 1.
    mu : float
        Of the Gaussian differential privacy of all rounds together, with the noise that is in a
        total, above 0.
    clip, lr, rounds : float, float, int or None
        What is given; the others suit it.

    Examples
    --------
    >>> descent_settings(3000, 10, 0.27)
    DescentSettings(clip=1.3, lr=3.7, rounds=40)
    """
    size = math.sqrt(features + 1.0)
    strength = examples * mu / size
    path = min(max(_PATH * strength, _SHORTEST), _LONGEST)
    if rounds is None:
        rounds = min(max(round(path / _STEP), _FEWEST_ROUNDS), _MOST_ROUNDS)
    if clip is None:
        clip = _rounded(min(max(_CLIP * strength, _LEAST_CLIP), _LARGEST_CLIP) * size)
    if lr is None:
        lr = _rounded(min(path / rounds, _LONGEST_STEP) / (clip * size))
    return DescentSettings(clip, lr, rounds)


def _rounded(value: float) -> float:
    """Return a value with two digits, which people can copy."""
    return float(f"{value:.2g}")
