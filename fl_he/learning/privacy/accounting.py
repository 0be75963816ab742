"""What noise is worth: from concentrated or Renyi privacy to epsilon and delta, and back.

The arithmetic is that of Google's dp-accounting, the extra ``fl-he[privacy]``; nothing else of
fl-he imports it. The mechanisms of fl-he add discrete Gaussian noise, and what they cost is stated
as rho of zero-concentrated differential privacy (Bun, Steinke 2016): the Renyi divergence of order
alpha between neighbours is at most ``rho * alpha`` for every alpha above 1. For noise of variance
sigma^2 and a sensitivity of D in L2 it is ``rho = D^2 / (2 sigma^2)``, as for the continuous
Gaussian (Canonne, Kamath, Steinke 2020, theorem 4). Rhos of one release after another add up,
also if each release depends on those before (Bun, Steinke 2016, lemma 1.7).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fl_he.learning.errors import PrivacyError
from fl_he.learning.tables.arrays import Array

#: Renyi orders that are tried. Any set gives a true bound, a dense one the smallest.
ORDERS: Array = 1.0 + np.geomspace(0.05, 20_000.0, 600)


def epsilon_of_rho(rho: float, delta: float) -> float:
    """Return the epsilon, at a delta, of what is rho-zCDP altogether.

    Parameters
    ----------
    rho : float
        At least 0; infinity: no privacy at all.
    delta : float
        Above 0, below 1.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    if not rho >= 0.0:
        raise PrivacyError(f"rho must be at least 0, got {rho:g}")
    return epsilon_of_renyi(rho * ORDERS, delta)


def epsilon_of_renyi(divergences: Array, delta: float, orders: Array = ORDERS) -> float:
    """Return the epsilon, at a delta, of bounds on the Renyi divergence.

    Parameters
    ----------
    divergences : ndarray, shape (n,)
        A bound for each order, at least 0; infinity: no privacy at all.
    delta : float
        Above 0, below 1.
    orders : ndarray, shape (n,)
        Above 1.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    if not 0.0 < delta < 1.0:
        raise PrivacyError(f"delta must be above 0 and below 1, got {delta:g}")
    if divergences.shape != orders.shape or not (divergences >= 0.0).all():
        raise PrivacyError(
            f"divergences must be {orders.size} numbers of at least 0, one for each order"
        )
    try:
        from dp_accounting import rdp  # noqa: PLC0415 - an extra, and a second to import
    except ImportError:
        raise PrivacyError(
            "dp-accounting must be installed for differential privacy, and it is not: "
            "pip install 'fl-he[privacy]'"
        ) from None
    return float(rdp.compute_epsilon(orders, divergences, delta)[0])


@lru_cache(maxsize=64)
def largest_rho(epsilon: float, delta: float) -> float:
    """Return the rho that a budget of epsilon and delta allows altogether.

    Cached: the search takes most of the time of a small CaPC batch, in which each node asks for it.

    Returns
    -------
    float
        Above 0; its :func:`epsilon_of_rho` is at most `epsilon`, and hardly less.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    if not (np.isfinite(epsilon) and epsilon > 0.0):
        raise PrivacyError(f"epsilon must be above 0 and finite, got {epsilon:g}")
    # epsilon_of_rho grows with rho without end, and exceeds rho from some point on
    low, high = 0.0, 1.0
    while epsilon_of_rho(high, delta) <= epsilon:
        low, high = high, 2.0 * high
    while high - low > 1e-9 * high:
        middle = 0.5 * (low + high)
        if epsilon_of_rho(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low
