"""The nodes of a run: those that take part, come late or leave, and company X."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_he.config.groups import AUTO, CONTINUE, STOP, WAIT
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import SCHEMES, Scheme, cheapest
from fl_he.strategies.descriptions import descriptions, difference
from fl_he.strategies.dropouts import (
    LOOK,
    AskAgain,
    DropoutError,
    Patience,
    Progress,
    Waiting,
    more_nodes,
)
from fl_he.strategies.exchange import ask_until_answered, exchange
from fl_he.strategies.skipping import Skipped, error_reason, read_reply, skip_for
from fl_he.wire.encrypted_sum import (
    DESCRIBE,
    END,
    DescribeRequest,
    Description,
    EndRequest,
    Role,
    printable,
)
from fl_he.wire.records import ProtocolError, refused_as

#: Seconds between two looks at who is connected.
POLL_SECONDS = 0.2

_logger = logging.getLogger(__name__)


@dataclass
class Roster:
    """The nodes of a run, as far as they are connected.

    Attributes
    ----------
    grid : Grid
        What they are connected by.
    waiting : Waiting
    key_holder : int
        Node id of company X.
    public_key : PublicKey
        Its key.
    session : str
        Its name for this run.
    hospitals : dict of int to str
        Node ids and names of those that are connected.
    packing : Packing
        The only one in which company X opens sums.
    features : tuple of str
        What the hospitals' coefficients stand for; empty where the app does not say.
    classes : tuple of str
        What their labels stand for if there are more than two; else empty.
    family : str
        Of an outcome that is a number; else empty.
    exposure : str
        Name of the column of its exposures; empty without.
    simulated : bool
        Whether all nodes live in a simulation.
    strangers : set of int
        Nodes that came later and fit in no part of this run.
    value_keys : dict of str to bytes
        With a manifest, company X's value key, sealed to each hospital.
    run_key : bytes or None
        With a manifest, company X's signed statement of its key, which is the session's own.
    schemes : collection of str
        The schemes of sums that all nodes accept.
    stale : bool
        Whether hospitals have joined after company X signed `run_key`.
    masked_set : frozenset of str
        Names of the hospitals that mask their updates for each other; empty where they do not.
    imputed : tuple of str
        Columns of the hospitals' tables whose missing cells get the mean of all their cells.
    """

    grid: Grid
    waiting: Waiting
    key_holder: int
    public_key: PublicKey
    session: str
    hospitals: dict[int, str]
    packing: Packing
    features: tuple[str, ...]
    classes: tuple[str, ...]
    simulated: bool
    strangers: set[int] = field(default_factory=set)
    value_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    run_key: bytes | None = field(default=None, repr=False)
    schemes: Collection[Scheme] = SCHEMES
    stale: bool = False
    masked_set: frozenset[str] = frozenset()
    imputed: tuple[str, ...] = ()
    family: str = ""
    exposure: str = ""

    def __post_init__(self) -> None:
        self._names = dict(self.hospitals)

    @property
    def on_dropout(self) -> str:
        """``wait``, ``stop`` or ``continue``; see `SequentialPaillier`."""
        return self.waiting.with_manifest(self.value_keys or self.masked_set)

    @property
    def _expected(self) -> set[str]:
        """Names of the hospitals without which no sum is begun."""
        return set() if self.on_dropout == CONTINUE else set(self._names.values())

    def require_packing(self, packing: Packing) -> None:
        """Raise ProtocolError unless company X opens sums in this packing."""
        if packing != self.packing:
            raise ProtocolError(
                f"the packing must be company X's, {self.packing}, got {packing}: "
                "give the strategy that one (in a run's configuration: crypto.fraction_bits, "
                "crypto.integer_bits, crypto.max_contributors)"
            )

    def scheme(self, choice: str) -> Scheme:
        """Return a scheme by its name, or for ``auto`` the cheapest; all nodes accept it.

        Raises
        ------
        ProtocolError
            If a node does not accept it.
        """
        wanted = [one for one in self.schemes if choice in (AUTO, one)]
        if (scheme := cheapest(wanted)) is None:
            common = ", ".join(self.schemes) or "none"
            raise ProtocolError(
                f"scheme must be one that all nodes accept ({common}), got '{choice}': see scheme "
                "in the node configurations"
            )
        return scheme

    def require_receivers(self, receivers: Sequence[int]) -> None:
        """Refuse messages of one sum to others than hospitals, twice to one, to too few or many."""
        if len(set(receivers)) < len(receivers) or not set(receivers) <= set(self.hospitals):
            raise ProtocolError("a strategy must send one message at most to each hospital")
        if len(receivers) < self.waiting.min_contributors:
            raise self.waiting.too_few(
                len(receivers),
                ": the strategy sampled too few hospitals. Raise min_train_nodes and "
                "min_evaluate_nodes, or fraction_train and fraction_evaluate",
            )
        asked = {self.hospitals[one] for one in receivers}
        if self.masked_set and asked != self.masked_set:
            raise ProtocolError(
                f"a sum of masked updates must be of all {len(self.masked_set)} hospitals that "
                f"mask for each other, got {len(asked)} (in Flower's strategies: fraction_train "
                "and fraction_evaluate 1.0)"
            )
        if len(receivers) > (most := self.packing.max_contributors):
            raise ProtocolError(
                f"a sum must have at most {most} contributors, got {len(receivers)}: raise "
                "max_contributors"
            )

    def name(self, node_id: int) -> str:
        """Return the node's name for messages to people."""
        return self._names.get(node_id, "company X")

    def miss(self, name: str, reason: str, consequence: str) -> Skipped:
        """Note a hospital that is not in a sum; raises DropoutError unless the sum does without."""
        if self.on_dropout != CONTINUE:
            raise DropoutError([name], reason, self.on_dropout)
        return skip_for(name, reason, consequence)

    def ask(
        self,
        messages: Iterable[Message],
        hospitals: int,
        answered: int = 0,
        following: Callable[[Message], Message | None] = lambda _: None,
    ) -> Iterator[Message]:
        """Send messages of one sum to hospitals and yield the replies; see `exchange`.

        A hospital that does not answer is asked again, where `on_dropout` is ``wait``. The reply of
        its new node passes for that of the old one.

        Parameters
        ----------
        messages, following
            See `exchange`.
        hospitals, answered : int
            How many take part in the sum, and how many have answered before.

        Raises
        ------
        DropoutError
            If a hospital does not answer within ``dropout_timeout``.
        """
        again = None
        if self.on_dropout == WAIT:
            patience = Patience(self.waiting.dropout_timeout, WAIT)
            again = AskAgain(patience, hospitals, answered, self.name, self._found)
        for reply in exchange(self.grid, messages, self.waiting.hop_timeout, following, again):
            if again is not None:
                again.hear(reply)
            yield reply

    def _found(self, name: str) -> int | None:
        self.call_again()
        return next((node_id for node_id, one in self.hospitals.items() if one == name), None)

    def ask_company_x(self, action: str, content: RecordDict) -> Message:
        """Return company X's answer; while it is away it is asked again."""

        def message() -> Message:
            if self.key_holder not in self.grid.get_node_ids():
                # Without node authentication it comes back as another node.
                self.call_again()
            return Message(content, self.key_holder, action)

        return ask_until_answered(self.grid, message, self.waiting.key_holder_timeout)

    def end(self) -> None:
        """Have company X delete the session's key, if the key is the session's own.

        After that nothing more is opened in the session, and the run cannot be resumed.
        """
        if self.run_key is None:
            return
        message = Message(EndRequest(self.session).to_content(), self.key_holder, END)
        reply = next(exchange(self.grid, [message], self.waiting.hop_timeout))
        if reply.has_error():
            _logger.warning(
                "company X has not deleted the key of this run yet, and will after its key-days: "
                "%s",
                error_reason(reply),
            )

    def gather(self, hospitals: int = 0) -> None:
        """Call the roll again until this many hospitals, and ``min_contributors``, are connected.

        So must be all that have taken part, unless `on_dropout` is ``continue``.

        Raises
        ------
        DropoutError
            If one that has taken part is missing: at once, or after ``dropout_timeout``.
        ProtocolError
            If there are too few after ``node_timeout``.
        """
        known, seconds = self.hospitals, self.waiting.node_timeout
        hospitals, deadline = max(hospitals, self.waiting.min_contributors), monotonic() + seconds
        patience, told = Patience(self.waiting.dropout_timeout, WAIT), Progress()
        while True:
            self.call_again()
            if missing := self._expected.difference(self.hospitals.values()):
                if self.on_dropout == STOP:
                    raise DropoutError(missing, "not connected", STOP)
                progress = f"{len(self.hospitals)} of {len(self._expected)} connected"
                patience.wait_for(missing, progress)
                sleep(LOOK)
                continue
            if len(self.hospitals) >= hospitals:
                self._renew()
                return
            if monotonic() > deadline:
                away = sorted(name for n, name in known.items() if n not in self.hospitals)
                raise ProtocolError(
                    f"a round must begin with at least {hospitals} hospitals, got "
                    f"{len(self.hospitals)} after {seconds:g} s; not connected: "
                    f"{', '.join(away) or 'those that have never been there'}"
                    f"{more_nodes(hospitals, len(self.hospitals)) if self.simulated else ''}"
                )
            told.tell(f"{len(self.hospitals)} of {hospitals} hospitals are connected")
            sleep(POLL_SECONDS)

    def _renew(self) -> None:
        """Have company X sign its key again if hospitals have joined since it did.

        They may have heard of later openings, in another run, and refuse an older statement.
        """
        if self.run_key is None or not self.stale:
            return
        asked = DescribeRequest(self.session).to_content()
        with refused_as("company X has not signed its key again:"):
            described = read_reply(self.ask_company_x(DESCRIBE, asked), Description)
        key = PublicKey.from_json(described.public_key)
        require_key(key.fingerprint, self.public_key.fingerprint)
        self.run_key, self.stale = described.run_key, False

    def call_again(self) -> None:
        """Drop the hospitals that left, and take in those that joined or came back.

        A node that was away is asked to describe itself again: it may be another one by now.
        Whoever does not fit is not taken in, and whoever does not answer is asked again the next
        time; the run continues without them. Company X's node may change, its key may not.
        """
        connected = set(self.grid.get_node_ids())
        for node_id in self.hospitals.keys() - connected:
            _logger.warning("%s is not connected any more", self.name(node_id))
        self.hospitals = {n: name for n, name in self.hospitals.items() if n in connected}
        new = connected - self.hospitals.keys() - self.strangers - {self.key_holder}
        timeout = self.waiting.hop_timeout
        for node_id, reply in descriptions(self.grid, sorted(new), timeout, self.session):
            if reply.has_error():
                _logger.warning("node %d takes no part yet: %s", node_id, error_reason(reply))
                continue
            try:
                self._take_in(node_id, Description.from_content(reply.content), connected)
            except (ProtocolError, CryptoError) as error:
                _logger.warning("node %d takes no part in this run: %s", node_id, error)
                self.strangers.add(node_id)

    def _take_in(self, node_id: int, description: Description, connected: set[int]) -> None:
        name = printable(description.name)
        if description.simulated is not self.simulated:
            raise ProtocolError(
                f"a federation must be all simulated or all deployed, {name} differs"
            )
        if description.role is Role.KEY_HOLDER:
            key = PublicKey.from_json(description.public_key)
            require_key(key.fingerprint, self.public_key.fingerprint)
            # The node that died is believed to be there for a minute.
            if self.key_holder not in connected:
                _logger.warning("company X is back as node %d", node_id)
                self.key_holder, self.run_key = node_id, description.run_key
            return
        wanted = (self.features, self.classes, self.imputed, (self.family, self.exposure))
        if found := difference(*wanted, description):
            raise ProtocolError(f"hospitals must have the same features: {name} differs: {found}")
        if name in self.hospitals.values():
            # The node that died is believed to be there for a minute.
            _logger.warning("node %d takes no part yet: %s is connected already", node_id, name)
            return
        if self.masked_set and name not in self.masked_set:
            raise ProtocolError(f"{name} is not of the hospitals that mask for each other")
        _logger.warning("%s takes part from now on", name)
        self.hospitals = {**self.hospitals, node_id: name}
        self._names[node_id] = name
        self.stale = True


def require_key(fingerprint: str, began_with: str) -> None:
    """Refuse a key of company X that is not the one with which the run began."""
    if fingerprint != began_with:
        raise ProtocolError(
            f"company X must have the key with which the run began, {began_with}, got {fingerprint}"
        )
