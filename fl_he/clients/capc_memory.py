"""What a node remembers between two steps of a batch: in its own state, each entry for one use."""

from __future__ import annotations

import json
from typing import Any

from flwr.app import ConfigRecord, Context

from fl_he.records import ProtocolError

_STATE = "fl-he.capc-memory"


class Memory:
    """The entries of one batch on one node.

    An entry is taken once: whoever asks for a step a second time would get masks and permutations
    used twice.

    Parameters
    ----------
    context : Context
        The node's.
    session : str
        Names the batch.
    """

    def __init__(self, context: Context, session: str) -> None:
        self._record = context.state.config_records.setdefault(_STATE, ConfigRecord())
        self._session = session

    def begin(self) -> None:
        """Forget what is left of all other batches: nobody may come back to them."""
        for key in list(self._record):
            if not key.startswith(f"{self._session}/"):
                del self._record[key]

    def count(self, name: str) -> int:
        """Return how often this was called before with the name, in this batch."""
        key = f"{self._session}/{name}"
        number = self._record.get(key, 0)
        if not isinstance(number, int):
            raise ProtocolError(f"{name} must be a number in the memory")
        self._record[key] = number + 1
        return number

    def keep(self, name: str, value: Any) -> None:
        """Remember integers, texts and lists of them.

        Raises
        ------
        ProtocolError
            If this batch has such an entry already.
        """
        key = f"{self._session}/{name}"
        if key in self._record:
            raise ProtocolError(f"a step must be asked for once for each batch: {name} is there")
        self._record[key] = json.dumps(value).encode()

    def take(self, name: str) -> Any:
        """Return an entry and forget it.

        Raises
        ------
        ProtocolError
            If it is not there.
        """
        key = f"{self._session}/{name}"
        if key not in self._record:
            raise ProtocolError(f"a step must come once, after the one that makes {name}")
        value = self._record.pop(key)
        if not isinstance(value, bytes):
            raise ProtocolError(f"{name} must be kept as bytes, got {type(value).__name__}")
        return json.loads(value)
