"""Schemes of encrypted sums.

Both protect the same from the same parties; `fl_he.crypto.masks.masked_vector` says why, and
docs/performance.md what each costs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

Scheme = Literal["paillier", "masks"]
PAILLIER: Final = "paillier"
MASKS: Final = "masks"
#: The cheapest first: masks take less time and fewer bytes for any number of values.
SCHEMES: tuple[Scheme, ...] = (MASKS, PAILLIER)


def cheapest(accepted: Collection[str]) -> Scheme | None:
    """Return the cheapest scheme that is accepted, ``None`` if there is none.

    Examples
    --------
    >>> cheapest(["paillier", "masks"])
    'masks'
    """
    return next((scheme for scheme in SCHEMES if scheme in accepted), None)
