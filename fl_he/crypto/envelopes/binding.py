"""What a sealed envelope is for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.encoding.fields import between, check_fields, matching
from fl_he.crypto.envelopes.public_identity import check_name
from fl_he.crypto.errors import CryptoError

_NUMBER_BYTES = 8
_MAXIMUM_CONTRIBUTORS = 4096
_LEADING_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Binding:
    """Where in a run an envelope belongs; the sender signs it.

    Parameters
    ----------
    run : str
        The run's identifier, unlike that of any other run: 1 to 128 visible ASCII characters.
    purpose : str
        What is inside, such as ``"running-sum"``: lower-case letters, digits and hyphens.
    round : int
        In ``[0, 2**64)``.
    position : int
        Position in the chain, in ``[0, 2**64)``.
    contributors : tuple of str
        Names of the hospitals whose updates are inside, in their order, each once.

    Raises
    ------
    CryptoError
        If one of them is refused.
    """

    run: Annotated[
        str, matching("[!-~]{1,128}", "be 1 to 128 visible ASCII characters", shown=True)
    ]
    purpose: Annotated[
        str,
        matching("[a-z][a-z0-9-]{0,63}", "be lower-case letters, digits and hyphens", shown=True),
    ]
    round: Annotated[int, between(0, 2 ** (8 * _NUMBER_BYTES) - 1)]
    position: Annotated[int, between(0, 2 ** (8 * _NUMBER_BYTES) - 1)]
    contributors: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        count = len(self.contributors)
        if count > _MAXIMUM_CONTRIBUTORS:
            raise CryptoError(
                f"contributors must be at most {_MAXIMUM_CONTRIBUTORS} names, got {count}"
            )
        for contributor in self.contributors:
            check_name(contributor)
        if len(set(self.contributors)) != count:
            raise CryptoError(f"contributors must be different, got {list(self.contributors)}")

    def to_bytes(self) -> bytes:
        """Return the fields with their lengths in front; see `encode_fields`.

        In this order: run, purpose, round and position as big-endian numbers of 8 bytes, then
        every contributor.
        """
        numbers = (number.to_bytes(_NUMBER_BYTES, "big") for number in (self.round, self.position))
        names = (name.encode() for name in self.contributors)
        return encode_fields(self.run.encode(), self.purpose.encode(), *numbers, *names)

    @classmethod
    def from_bytes(cls, data: bytes) -> Binding:
        """Read what `to_bytes` wrote.

        Raises
        ------
        CryptoError
            If the data are no binding.
        """
        found = decode_fields(data, "a binding")
        if len(found) < _LEADING_FIELDS or any(len(f) != _NUMBER_BYTES for f in found[2:4]):
            raise CryptoError("a binding must have a run, a purpose, a round and a position")
        run, purpose, *names = (
            field.decode("ascii", "replace") for field in (*found[:2], *found[_LEADING_FIELDS:])
        )
        number, position = (int.from_bytes(field, "big") for field in found[2:4])
        return cls(run, purpose, number, position, tuple(names))

    def require(self, found: Binding) -> None:
        """Raise CryptoError unless the found binding is this one; it names the difference."""
        for field in fields(self):
            expected, got = getattr(self, field.name), getattr(found, field.name)
            if got != expected:
                raise CryptoError(f"the envelope's {field.name} must be {expected!r}, got {got!r}")
