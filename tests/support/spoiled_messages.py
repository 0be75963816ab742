"""Messages that are spoiled on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import RecordDict

from fl_he.wire.records import ProtocolError


def check_refused(
    kind: Any, content: RecordDict, spoil: Callable[[RecordDict], object], words: str
) -> None:
    """Spoil a message's content and see that its kind refuses it in these words."""
    kind.from_content(content)
    spoil(content)
    with pytest.raises(ProtocolError, match=words):
        kind.from_content(content)
