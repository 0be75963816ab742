from __future__ import annotations

import pickle

from fl_he.crypto.errors import CryptoError, KeyFileError, RangeError


def test_a_range_error_names_index_and_setting() -> None:
    error = RangeError(3, "integer_bits", "value 3 must be smaller")
    assert (error.index, error.setting, str(error)) == (
        3,
        "integer_bits",
        "value 3 must be smaller",
    )


def test_a_range_error_crosses_processes() -> None:
    error = RangeError(3, "integer_bits", "value 3 must be smaller")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.index, again.setting, str(again)) == (3, "integer_bits", str(error))
    assert again.args == error.args == (3, "integer_bits", str(error))


def test_one_class_catches_all() -> None:
    assert issubclass(RangeError, CryptoError)
    assert issubclass(KeyFileError, CryptoError)
    assert issubclass(CryptoError, ValueError)
