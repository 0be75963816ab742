"""Delta of the Gaussian mechanism by numerical integration, for tests of the accounting."""

from __future__ import annotations

import math
from itertools import pairwise

from scipy.integrate import quad
from scipy.stats import norm


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return the integral of ``max(0, p - exp(epsilon) q)`` for p of N(mu, 1) and q of N(0, 1)."""
    start = epsilon / mu + mu / 2  # where p reaches exp(epsilon) q

    def excess(x: float) -> float:
        return float(norm.pdf(x - mu)) * -math.expm1(epsilon - mu * (x - mu / 2))

    # Beyond it the integrand falls as fast as a normal density, or faster.
    ends = [start + width for width in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0)]
    return math.fsum(quad(excess, *piece, epsabs=0.0, epsrel=1e-12)[0] for piece in pairwise(ends))
