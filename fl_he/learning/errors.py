"""The exception of the learning layer."""


class DataError(ValueError):
    """Data, or a description of how to read or divide it, that cannot be used.

    The message holds names, counts and settings, never a record.
    """
