"""Choice of the arrays of an update that are encrypted: by patterns of names, then by type."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fl_he.config.groups import AUTO
from fl_he.crypto.schemes import SCHEMES
from fl_he.errors import FlHeWarning
from fl_he.wire.records import ProtocolError

ALL = "all"
SCHEME_CHOICES = (AUTO, *SCHEMES)

#: Ways of an array: into the encrypted sum, to the coordinator as it is, or nowhere.
ENCRYPTED, PLAIN, LOCAL = "encrypted", "plain", "local"
#: Choices for arrays of integers and of truth values.
MEAN, REFUSE = "mean", "refuse"
INTEGERS = (MEAN, LOCAL, PLAIN, REFUSE)


class PlaintextWarning(FlHeWarning):
    """Arrays travel in plain because somebody asked for it."""


def require_scheme(choice: str, choices: Sequence[str] = SCHEME_CHOICES) -> str:
    """Return the choice of a scheme; raises ProtocolError if it is none of the choices."""
    if choice not in choices:
        raise ProtocolError(f"scheme must be one of {list(choices)}, got {choice!r:.40}")
    return choice


@dataclass(frozen=True, slots=True)
class Selection:
    """The choice of arrays to encrypt. Metrics and counts always are.

    Attributes
    ----------
    patterns : tuple of str
        Shell patterns of array names, as ``fnmatch`` reads them; ``("*",)`` for all.
    integers : {"mean", "local", "plain", "refuse"}
        For arrays of integers or truth values that a pattern names: the encrypted mean, rounded;
        stay at the hospital; the mean in plain; refuse.
    """

    patterns: tuple[str, ...] = ("*",)
    integers: str = MEAN

    @classmethod
    def of(cls, encrypt: str | Sequence[str], integers: str = MEAN) -> Selection:
        """Return the selection for ``"all"`` or a sequence of patterns, and a way of integers.

        Raises
        ------
        ProtocolError
            For any other text, no pattern at all, or an unknown way of integers.

        Warns
        -----
        PlaintextWarning
            Unless all arrays are encrypted.
        """
        if integers not in INTEGERS:
            raise ProtocolError(f"integers must be one of {list(INTEGERS)}, got {integers!r}")
        if integers == PLAIN:
            warnings.warn(
                "arrays of integers are not encrypted: the coordinator sees every hospital's, and "
                "through them its number of examples",
                PlaintextWarning,
                stacklevel=3,
            )
        if encrypt == ALL:
            return cls(integers=integers)
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
        return cls(patterns, integers)

    def encrypts(self, name: str) -> bool:
        """Return whether the array of that name is encrypted."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def way(self, name: str, dtype: str, *, whole: bool) -> str:
        """Return the way of an array: by its name first, then by its type.

        Parameters
        ----------
        name, dtype : str
        whole : bool
            Whether the type is one of integers or truth values.

        Raises
        ------
        ProtocolError
            If such an array is to be refused.
        """
        if not self.encrypts(name):
            return PLAIN
        if not whole or self.integers == MEAN:
            return ENCRYPTED
        if self.integers == REFUSE:
            raise ProtocolError(
                f"the array {name!r} must be of a float type, got {dtype}: convert it, leave it "
                "out of the reply, or choose another way than integers='refuse'"
            )
        return self.integers

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
