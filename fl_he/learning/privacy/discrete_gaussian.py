"""Exact samples of the discrete Gaussian: integers, fractions and fair bits, no floating point.

``P(x) = exp(-x^2 / (2 sigma^2)) / sum over y of exp(-y^2 / (2 sigma^2))`` for every integer x.
Source: Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy"
(arXiv 2004.00010), section 5, algorithms 1 to 3. Each algorithm works on many candidates at once:
numpy carries Python's integers where they may be large, so that nothing is rounded.

All randomness is from :mod:`secrets`. The time that a sample takes depends on its value, as
everywhere in this package.
"""

from __future__ import annotations

import secrets
from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

#: Bits of a probability that are compared at a time.
_WORD = 62
#: Beyond it a sample might not fit 64 bits; below it, that has a chance under exp(-2**23).
_LARGEST_VARIANCE = 1 << 100

_Integers = NDArray[np.int64]
_Booleans = NDArray[np.bool_]
#: Python's integers in a numpy array: of any size, and exact.
_Numbers = NDArray[np.object_]


def discrete_gaussian(variance: Fraction | int, size: int) -> _Integers:
    """Return independent samples of the discrete Gaussian around 0 (algorithm 3).

    Parameters
    ----------
    variance : Fraction or int
        sigma^2, above 0, at most 2**100. The samples' variance is a little less where it is small.
    size : int
        How many samples, at least 0.

    Returns
    -------
    int64 array of shape (size,)

    Raises
    ------
    ValueError
        If the variance or the size is out of range.
    TypeError
        If the variance is a float: it would not be exactly what was asked for.
    """
    if isinstance(variance, bool) or not isinstance(variance, Fraction | int):
        raise TypeError(f"variance must be a Fraction or an int, got {type(variance).__name__}")
    if not 0 < variance <= _LARGEST_VARIANCE:
        raise ValueError("variance must be above 0 and at most 2**100")
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    top, bottom = Fraction(variance).as_integer_ratio()
    scale = isqrt(top // bottom) + 1
    accepted: list[_Integers] = []
    missing = size
    while missing:
        candidates = _discrete_laplace(scale, missing + missing // 2 + 8)
        # (|y| - sigma^2 / t)^2 / (2 sigma^2), over one denominator for all candidates
        distance = np.abs(candidates) * (bottom * scale) - top
        kept = _bernoulli_exp(distance * distance, 2 * top * bottom * scale * scale)
        accepted.append(candidates[kept][:missing].astype(np.int64))
        missing -= len(accepted[-1])
    return np.concatenate(accepted) if accepted else np.empty(0, dtype=np.int64)


def _discrete_laplace(scale: int, size: int) -> _Numbers:
    """Return about half of `size` samples with ``P(x)`` as ``exp(-|x| / scale)`` (algorithm 2)."""
    low = _uniform(scale, size)
    low = low[_bernoulli_exp(low, scale)]
    high = _geometric(len(low))
    magnitude = low + scale * high.astype(object)
    negative = (_words(len(low)) & 1).astype(bool)
    # Both signs of 0 are one number, and one of them is thrown away.
    single = ~(negative & (magnitude == 0).astype(bool))
    signed: _Numbers = np.where(negative, -magnitude, magnitude)[single]
    return signed


def _geometric(size: int) -> _Integers:
    """Return how often each of `size` coins of chance exp(-1) came up before it failed."""
    counts = np.zeros(size, dtype=np.int64)
    running = np.arange(size)
    while len(running):
        running = running[_bernoulli_exp_fraction(np.ones(len(running), dtype=object), 1)]
        counts[running] += 1
    return counts


def _bernoulli_exp(numerators: _Numbers, denominator: int) -> _Booleans:
    """Return true with chance ``exp(-numerator / denominator)`` each, all >= 0 (algorithm 1)."""
    wholes, rests = numerators // denominator, numerators % denominator
    alive = _bernoulli_exp_fraction(rests, denominator)
    # exp(-3.4) is exp(-0.4), and exp(-1) three times
    pending = np.flatnonzero(alive & (wholes > 0).astype(bool))
    alive[pending] = _geometric(len(pending)) >= wholes[pending]
    return alive


def _bernoulli_exp_fraction(numerators: _Numbers, denominator: int) -> _Booleans:
    """Return true with chance ``exp(-g)`` each, ``g = numerator / denominator`` from 0 to 1."""
    result = np.zeros(len(numerators), dtype=np.bool_)
    running = np.arange(len(numerators))
    k = 1
    while len(running):
        passed = _bernoulli(numerators[running], denominator * k)
        result[running[~passed]] = k % 2 == 1  # the first failure at an odd k
        running = running[passed]
        k += 1
    return result


def _bernoulli(numerators: _Numbers, denominator: int) -> _Booleans:
    """Return true with chance ``numerator / denominator`` each, from 0 to 1.

    A uniform number in [0, 1) is below the chance or not; its bits and the chance's are compared
    a word at a time, until they differ. That is nearly always the first word.
    """
    result = np.zeros(len(numerators), dtype=np.bool_)
    shifted = numerators << _WORD
    words = shifted // denominator  # 2**62 for a chance of 1: above all words
    drawn = _words(len(numerators))
    wanted = words.astype(np.int64)
    result[drawn < wanted] = True
    for index in np.flatnonzero(drawn == wanted):
        rest = int(shifted[index]) % denominator
        result[index] = rest > 0 and secrets.randbelow(denominator) < rest
    return result


def _uniform(limit: int, size: int) -> _Numbers:
    """Return uniform integers from 0 to ``limit - 1``, limit at most 2**62."""
    shift = _WORD - (limit - 1).bit_length()
    drawn = np.empty(size, dtype=np.int64)
    wrong = np.arange(size)
    while len(wrong):
        drawn[wrong] = _words(len(wrong)) >> shift
        wrong = wrong[drawn[wrong] >= limit]
    return drawn.astype(object)


def _words(size: int) -> _Integers:
    """Return uniform integers of 62 bits."""
    drawn = np.frombuffer(secrets.token_bytes(8 * size), dtype=np.uint64)
    return (drawn >> np.uint64(64 - _WORD)).astype(np.int64)
