"""The chain of totals in the open, as the coordinator keeps it: who has how many of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

from fl_he.crypto.encoding.fields import Natural
from fl_he.crypto.encoding.strict_json import Base64
from fl_he.strategies.opened_sum import Kept
from fl_he.wire.records import CONFIG, ProtocolError
from fl_he.wire.sealed_messages import OpenNews


@dataclass(frozen=True, slots=True)
class OpenedTotal(Kept):
    """A total in the checkpoint.

    Attributes
    ----------
    number : int
        From 1.
    total : bytes
        As company X has told it.
    """

    number: Natural
    total: Base64 = field(repr=False)


class TotalChain:
    """The totals that company X has signed in a session.

    Parameters
    ----------
    config : ConfigRecord
        The train config of all messages: the task, and terms of privacy.
    totals : iterable of bytes
        Those of a run that is resumed, oldest first.

    Attributes
    ----------
    totals : list of bytes
    """

    def __init__(self, config: ConfigRecord, totals: Iterable[bytes] = ()) -> None:
        self.config = config
        self.totals = list(totals)
        self._heard: dict[int, int] = {}

    def for_hospital(self, session: str, node_id: int) -> RecordDict:
        """Return the content of a message to a hospital: the totals that it may lack."""
        return self._content(session, self.totals[self._heard.get(node_id, 0) :])

    def for_company_x(self, session: str) -> RecordDict:
        """Return what goes with a sum: the last total."""
        return self._content(session, self.totals[-1:])

    def hear(self, connected: Mapping[int, str], answered: Collection[str]) -> None:
        """Note which of the connected hospitals have all totals so far: those that answered.

        Parameters
        ----------
        connected : mapping of int to str
            Names by node id, also of hospitals that joined after the messages were sent.
        answered : collection of str
            Names; a hospital that answered may be connected as another node by now.
        """
        self._heard = {
            node_id: len(self.totals) for node_id, name in connected.items() if name in answered
        }

    def take(self, total: bytes | None) -> None:
        """Keep the next total; refuse a company X that told none."""
        if total is None:
            raise ProtocolError("company X must tell hospitals the total, and it told only its sum")
        self.totals.append(total)

    def _content(self, session: str, totals: list[bytes]) -> RecordDict:
        content = OpenNews(session, tuple(totals)).to_content()
        content[CONFIG] = self.config
        return content
