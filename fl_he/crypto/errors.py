"""Errors and warnings of the crypto layer."""

from fl_he.errors import FlHeError, FlHeWarning


class CryptoError(FlHeError):
    """An input that the crypto layer refuses; the message shows public values only."""


class RangeError(CryptoError):
    """A number that does not fit a slot.

    Parameters
    ----------
    index : int
        Position of the first such number in its vector.
    setting : str
        Name of the `Packing` setting to raise; empty where none helps, as for NaN.
    message : str
        What is wrong, without the number itself: it is data.
    """

    def __init__(self, index: int, setting: str, message: str) -> None:
        super().__init__(index, setting, message)
        self.index = index
        self.setting = setting
        self.message = message

    def __str__(self) -> str:
        return self.message


class KeyFileError(CryptoError):
    """A private key file that must not be read or written."""


class ShortKeyWarning(FlHeWarning):
    """A key that is accepted but shorter than recommended."""
