"""Which arrays of an update are encrypted: all of them, or only those that a pattern names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fl_he.errors import FlHeWarning
from fl_he.wire.records import ProtocolError

ALL = "all"


class PlaintextWarning(FlHeWarning):
    """Arrays travel in plain because somebody asked for it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The choice of arrays to encrypt. Metrics and counts always are.

    Attributes
    ----------
    patterns : tuple of str
        Shell patterns of array names, as ``fnmatch`` reads them; ``("*",)`` for all.
    """

    patterns: tuple[str, ...] = ("*",)

    @classmethod
    def of(cls, encrypt: str | Sequence[str]) -> Selection:
        """Return the selection for ``"all"`` or a sequence of patterns.

        Raises
        ------
        ProtocolError
            For any other text, or no pattern at all.

        Warns
        -----
        PlaintextWarning
            Unless all arrays are encrypted.
        """
        if encrypt == ALL:
            return cls()
        if isinstance(encrypt, str) or not encrypt:
            raise ProtocolError(
                f"encrypt must be {ALL!r} or a list of patterns such as ['classifier.*'], "
                f"got {encrypt!r}"
            )
        patterns = tuple(encrypt)
        warnings.warn(
            f"only arrays named like {list(patterns)} are encrypted: the coordinator sees every "
            "hospital's other arrays, and through them its number of examples",
            PlaintextWarning,
            stacklevel=3,
        )
        return cls(patterns)

    def encrypts(self, name: str) -> bool:
        """Return whether the array of that name is encrypted."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def require_use(self, names: Sequence[str]) -> None:
        """Refuse a pattern that no array is named like: a misspelt one would encrypt nothing.

        Parameters
        ----------
        names : sequence of str
            Of all arrays of a reply; none for one without arrays, where nothing is to be chosen.

        Raises
        ------
        ProtocolError
            With the patterns and the names.
        """
        idle = [p for p in self.patterns if not any(fnmatchcase(name, p) for name in names)]
        if names and idle:
            raise ProtocolError(
                f"each pattern of encrypt must name an array of the reply, {list(names)}, "
                f"got {idle}"
            )
