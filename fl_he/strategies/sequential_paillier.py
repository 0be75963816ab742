"""The server's half of the encrypted sum: a wrapper for any strategy that needs only the mean."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt
from time import perf_counter

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl_he.crypto.packing import Packing
from fl_he.messages import (
    DECRYPT,
    FINISH,
    NUM_EXAMPLES,
    DecryptReply,
    DecryptRequest,
    EncryptionRequest,
    ProtocolError,
    Purpose,
    content_bytes,
    model_message_content,
)
from fl_he.selection import ALL, Selection
from fl_he.strategies.exchange import ask, error_reason, exchange
from fl_he.strategies.grid import HospitalGrid
from fl_he.strategies.mean_only import require_mean_only, setting
from fl_he.strategies.roster import Roster, call_roll
from fl_he.strategies.topologies import TOPOLOGIES, Order, RunningSum
from fl_he.update import CONTRIBUTORS, EXAMPLES

AUTO = "auto"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncryptedSum:
    """What one encrypted sum gave and cost.

    Attributes
    ----------
    purpose : {"train", "evaluate"}
    round : int
    contributors, examples : int, float
        From the opened total.
    metrics : dict of str to float
        The weighted means of the hospitals' metrics.
    ciphertexts, update_bytes : int
        Of one hospital's encrypted update.
    bytes_sent : int
        All messages of the sum, both ways, the decryption included.
    seconds : float
        Wall time from the first message to the opened total.
    encrypt_seconds, add_seconds : float
        Summed over all who encrypted and added.
    decrypt_seconds : float
        At the key holder.
    """

    purpose: Purpose
    round: int
    contributors: int
    examples: float
    metrics: dict[str, float]
    ciphertexts: int
    update_bytes: int
    bytes_sent: int
    seconds: float
    encrypt_seconds: float
    add_seconds: float
    decrypt_seconds: float


class SequentialPaillier(Strategy):
    """Wrap a strategy so that it gets the weighted mean of updates that nobody has seen.

    The wrapped strategy makes the messages and digests the mean, as ever. In between, this one
    keeps company X's node out of the sampling, asks the hospitals for encrypted updates
    (``encryption_mod`` on their side), sums the ciphertexts in sequence, has company X open the
    sum, and hands the wrapped strategy ONE reply that holds the weighted mean.

    Parameters
    ----------
    strategy : Strategy
        Any strategy that needs only the weighted mean, such as FedAvg, FedAvgM, FedAdam, FedYogi,
        FedAdagrad, FedProx or GradientDescent.
    topology : {"fold", "chain"}
        ``fold``: hospitals answer in parallel and the strategy adds. ``chain``: each hospital adds
        its ciphertext to the running sum it is handed.
    segments : int or "auto"
        ``chain`` only: how many chains run side by side; ``"auto"`` takes about the square root of
        the number of hospitals, which is fastest where hops cost more than additions.
    packing : Packing
        Fixed-point format and slots.
    encrypt : "all" or sequence of str
        Patterns of the names of the arrays that must be encrypted; the hospitals' mod must be
        given the same. All others are seen in plain.
    min_contributors : int
        Fewest hospitals in a sum. The key holder has a limit of its own.
    hop_timeout : float
        Seconds to wait for the replies to one set of messages.
    node_timeout : float
        Seconds to wait for nodes to connect before the first round.

    Raises
    ------
    ProtocolError
        For a strategy that needs single updates, or an unknown topology; while it runs, whenever
        a node sends something that was not asked for.

    Notes
    -----
    It must be the outermost strategy. ``sums`` lists every :class:`EncryptedSum` so far.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        topology: str = "fold",
        segments: int | str = 1,
        packing: Packing | None = None,
        encrypt: str | Sequence[str] = ALL,
        min_contributors: int = 3,
        hop_timeout: float = 600.0,
        node_timeout: float = 60.0,
    ) -> None:
        require_mean_only(strategy)
        if topology not in TOPOLOGIES:
            raise ProtocolError(f"topology must be one of {list(TOPOLOGIES)}, got {topology!r}")
        if segments != AUTO and not (isinstance(segments, int) and segments >= 1):
            raise ProtocolError(f"segments must be at least 1 or {AUTO!r}, got {segments!r}")
        if topology != "chain" and segments != 1:
            raise ProtocolError(f"segments must be 1 unless topology is 'chain', got {segments!r}")
        if min_contributors < 1:
            raise ProtocolError(f"min_contributors must be at least 1, got {min_contributors}")
        self.strategy = strategy
        self.topology = topology
        self.segments = segments
        self.packing = packing or Packing()
        self.selection = Selection.of(encrypt)
        self.min_contributors = min_contributors
        self.hop_timeout = hop_timeout
        self.node_timeout = node_timeout
        self.sums: list[EncryptedSum] = []
        self._grid: Grid | None = None
        self._roster: Roster | None = None
        self._messages: list[Message] = []

    @property
    def roster(self) -> Roster:
        """The nodes that take part; raises ProtocolError before the roll was called."""
        if self._roster is None:
            raise ProtocolError("the roll must be called first: it is when the first round starts")
        return self._roster

    def summary(self) -> None:
        """Log the configuration, then the wrapped strategy's."""
        _logger.info(
            "SequentialPaillier: topology %s, at least %d contributors, slots of %d bits",
            self.topology,
            self.min_contributors,
            self.packing.slot_bits,
        )
        self.strategy.summary()

    def call_roll(self, grid: Grid) -> Roster:
        """Find out who takes part, once; the first round does it if nobody did before."""
        self._grid = grid
        if self._roster is None:
            needed = max(self.min_contributors, setting(self.strategy, "min_available_nodes", 1))
            roster = call_roll(grid, needed, self.node_timeout, self.hop_timeout)
            if roster.packing != self.packing:
                raise ProtocolError(
                    f"the packing must be the key holder's, {roster.packing}, got {self.packing}"
                )
            self._roster = roster
        return self._roster

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Take the wrapped strategy's messages; they are sent in :meth:`aggregate_train`."""
        hospitals = HospitalGrid(grid, self.call_roll(grid).hospitals)
        self._keep(self.strategy.configure_train(server_round, arrays, config, hospitals))
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Run the encrypted sum and let the wrapped strategy aggregate its mean."""
        mean = self._encrypted_mean("train", server_round, replies)
        return self.strategy.aggregate_train(server_round, mean)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Take the wrapped strategy's messages; they are sent in :meth:`aggregate_evaluate`."""
        hospitals = HospitalGrid(grid, self.call_roll(grid).hospitals)
        self._keep(self.strategy.configure_evaluate(server_round, arrays, config, hospitals))
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Run the encrypted sum and let the wrapped strategy aggregate its mean."""
        mean = self._encrypted_mean("evaluate", server_round, replies)
        return self.strategy.aggregate_evaluate(server_round, mean)

    def finish(self, arrays: ArrayRecord) -> None:
        """Send the final model to every hospital, which saves it where its node is configured to.

        Raises
        ------
        ProtocolError
            If a hospital could not save it; the others have it all the same.
        """
        grid, roster = self._connected()
        content = model_message_content(arrays)
        messages = [Message(content, node_id, FINISH) for node_id in roster.hospitals]
        failures = [
            f"{roster.name(reply.metadata.src_node_id)}: {error_reason(reply)}"
            for reply in exchange(grid, messages, self.hop_timeout)
            if reply.has_error()
        ]
        if failures:
            raise ProtocolError("the final model was not saved by " + "; ".join(failures))

    def _keep(self, messages: Iterable[Message]) -> None:
        self._messages = list(messages)
        if not self._messages:
            return
        receivers = {message.metadata.dst_node_id for message in self._messages}
        if len(receivers) < len(self._messages) or not receivers <= set(self.roster.hospitals):
            raise ProtocolError("a strategy must send one message at most to each hospital")
        if len(receivers) < self.min_contributors:
            raise ProtocolError(
                f"a round must have at least {self.min_contributors} contributors "
                f"(min_contributors), got {len(receivers)}: with fewer each could compute what "
                "the others sent"
            )
        if len(receivers) > self.packing.max_contributors:
            raise ProtocolError(
                f"a sum must have at most {self.packing.max_contributors} contributors, got "
                f"{len(receivers)}: raise max_contributors"
            )

    def _encrypted_mean(
        self, purpose: Purpose, server_round: int, replies: Iterable[Message]
    ) -> list[Message]:
        if any(True for _ in replies):
            raise ProtocolError(
                "SequentialPaillier must be the outermost strategy: put the other one inside it"
            )
        messages, self._messages = self._messages, []
        if not messages:
            return []
        grid, roster = self._connected()
        start = perf_counter()
        request = EncryptionRequest(
            public_key=roster.public_key.to_json(),
            packing=self.packing.to_json(),
            session=roster.session,
            round=server_round,
            weighted_by=setting(self.strategy, "weighted_by_key", NUM_EXAMPLES),
        )
        segments = isqrt(len(messages)) if self.segments == AUTO else int(self.segments)
        order = Order(
            messages, request, roster, self.packing, self.hop_timeout, segments, self.selection
        )
        running = TOPOLOGIES[self.topology](grid, order)
        return [self._opened(purpose, server_round, running, messages[0], start)]

    def _opened(
        self,
        purpose: Purpose,
        server_round: int,
        running: RunningSum,
        first: Message,
        start: float,
    ) -> Message:
        grid, roster = self._connected()
        if running.vector is None or running.layout is None:
            raise ProtocolError("a sum must have contributors, got none")
        request = DecryptRequest(
            session=roster.session,
            purpose=purpose,
            round=server_round,
            contributors=running.contributors,
            encrypted_sum=running.vector.to_bytes(),
        )
        message = Message(request.to_content(), roster.key_holder, DECRYPT)
        reply = ask(grid, message, self.hop_timeout)
        if reply.has_error():
            raise ProtocolError(f"the key holder refused to open the sum: {error_reason(reply)}")
        answer = DecryptReply.from_content(reply.content)
        content = running.layout.mean(answer.total, running.plain)
        if answer.total[CONTRIBUTORS] != running.contributors:
            raise ProtocolError(
                f"the total must be of {running.contributors} contributors, and it is not"
            )
        metrics = next(iter(content.metric_records.values()))
        self.sums.append(
            EncryptedSum(
                purpose=purpose,
                round=server_round,
                contributors=running.contributors,
                examples=float(answer.total[EXAMPLES]),
                metrics={k: float(v) for k, v in metrics.items() if not isinstance(v, list)},
                ciphertexts=running.vector.ciphertexts,
                update_bytes=running.update_bytes,
                bytes_sent=running.bytes_sent + content_bytes(message) + content_bytes(reply),
                seconds=perf_counter() - start,
                encrypt_seconds=running.encrypt_seconds,
                add_seconds=running.add_seconds,
                decrypt_seconds=answer.decrypt_seconds,
            )
        )
        return Message(content, reply_to=first)

    def _connected(self) -> tuple[Grid, Roster]:
        if self._grid is None:
            raise ProtocolError("the strategy must be started with a grid first")
        return self._grid, self.roster
