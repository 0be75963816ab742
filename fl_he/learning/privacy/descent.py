"""Clip, learning rate and rounds of private gradient descent, from public numbers alone.

docs/privacy.md says how the constants were chosen; docs/studies/private_defaults.py is the study,
docs/studies/private_numbers.py that of outcomes that are numbers.
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
#: Of numbers: path for each unit of strength, and its ends; least clip, for each unit, and rounds.
_NUMBER_PATH, _SHORTEST_NUMBER, _LONGEST_NUMBER = 0.5, 10.0, 80.0
_LEAST_NUMBER_CLIP, _NUMBER_CLIP, _NUMBER_ROUNDS = 0.06, 0.0003, 60
#: Second derivative of a loss of counts by its margin, in the units of their bounds, that is taken
#: to be the largest: expected counts are mostly below this share of the upper bound.
OF_COUNTS = 0.3


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


def number_settings(
    examples: int,
    features: int,
    mu: float,
    curvature: float = 1.0,
    *,
    clip: float | None = None,
    lr: float | None = None,
    rounds: int | None = None,
) -> DescentSettings:
    """Return settings for an outcome that is a number with bounds, in the units that they give.

    Steps of a learning rate below ``2 / L`` go downhill if L is the largest second derivative of
    the mean loss (Nesterov 2004, "Introductory Lectures on Convex Optimization", theorem 2.1.14).
    That is at most `curvature` times the mean square of a row's norm, which is ``1 + d / 4`` for d
    features whose standard deviation is a quarter of their range. Clipped steps are bounded also
    where it is more. The path is ``rounds * lr``: the more signal, the nearer to the optimum it
    pays to come.

    Parameters
    ----------
    examples, features, mu, clip, lr, rounds
        As in `descent_settings`.
    curvature : float
        Largest second derivative of a loss by its margin, in the units of the bounds: 1, or
        `OF_COUNTS`.

    Examples
    --------
    >>> number_settings(3000, 10, 0.27)
    DescentSettings(clip=0.24, lr=0.57, rounds=60)
    """
    size = math.sqrt(features + 1.0)
    strength = examples * mu / size
    path = min(max(_NUMBER_PATH * strength, _SHORTEST_NUMBER), _LONGEST_NUMBER) / curvature
    longest = 2.0 / (1.0 + features / 4.0) / curvature
    if rounds is None:
        rounds = min(max(math.ceil(path / longest), _FEWEST_ROUNDS), _NUMBER_ROUNDS)
    if clip is None:
        sizes = min(max(_NUMBER_CLIP * strength, _LEAST_NUMBER_CLIP), _LARGEST_CLIP)
        clip = _rounded(sizes * size)
    if lr is None:
        lr = _rounded(min(path / rounds, longest))
    return DescentSettings(clip, lr, rounds)


def _rounded(value: float) -> float:
    """Return a value with two digits, which people can copy."""
    return float(f"{value:.2g}")
