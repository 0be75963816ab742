"""``partition``: how a simulation divides the patients among the hospitals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PartitionScheme(StrEnum):
    """How the patients fall to the hospitals of a simulation."""

    even = "even"
    uneven = "uneven"
    by_label = "by_label"


@dataclass
class PartitionConfig:
    """How a simulation divides the patients among the hospitals.

    Attributes
    ----------
    scheme : PartitionScheme
        Equal parts (``even``), parts of uneven size, or of uneven case mix (``by_label``).
    alpha : float
        Parameter of the symmetric Dirichlet distribution of the latter two, above 0; the smaller,
        the more uneven.
    """

    scheme: PartitionScheme = PartitionScheme.even
    alpha: float = 1.0
