"""The server's half of the encrypted sum: a wrapper for any strategy that needs only the mean."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from logging import INFO
from typing import ClassVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl_he.config.groups import AUTO
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import PAILLIER
from fl_he.learning.describing.statistics import Table
from fl_he.learning.regression.disclosure import Figures
from fl_he.strategies.dropouts import Waiting
from fl_he.strategies.exchange import save_model
from fl_he.strategies.grid import HospitalGrid
from fl_he.strategies.made_sums import AskedMessages, MadeSums
from fl_he.strategies.mean_only import require_mean_only, setting, warn_of_metrics_functions
from fl_he.strategies.opened_sum import MisfitError, OpenedSum, UnopenedSum, with_types
from fl_he.strategies.roll_call import call_roll
from fl_he.strategies.roster import Roster, require_key
from fl_he.strategies.skipping import Skipped
from fl_he.strategies.total_chain import TotalChain
from fl_he.strategies.update_sum import FOLD, TOPOLOGIES
from fl_he.wire.encrypted_sum import FIGURES, NUM_EXAMPLES, TABLE, Purpose
from fl_he.wire.model import model_message_content
from fl_he.wire.occasions import purpose_of
from fl_he.wire.records import ProtocolError
from fl_he.wire.selection import ALL, MEAN, SCHEME_CHOICES, Selection, require_scheme
from fl_he.wire.update_layout import NoMeanError

_logger = logging.getLogger(__name__)


class EncryptedSum(Strategy):
    """Wrap a strategy so that it gets the weighted mean of updates that nobody has seen.

    The wrapped strategy makes the messages and digests the mean, as ever. In between, this one
    keeps company X's node out of the sampling, asks the hospitals for encrypted updates
    (``encryption_mod`` on their side), sums the ciphertexts in sequence, has company X open the
    sum, and hands the wrapped strategy ONE reply that holds the weighted mean.

    With ``on_dropout="continue"`` a hospital that sends an error, or nothing within
    ``hop_timeout``, or whose arrays are not those of most hospitals, is skipped: the round counts
    who contributed, and continues while at least ``min_contributors`` did. It is asked again in the
    next round. Hospitals may leave, join and come back between rounds. While company X is away it
    is asked again until ``key_holder_timeout``.

    Parameters
    ----------
    strategy : Strategy
        Any strategy that needs only the weighted mean, such as FedAvg, FedAvgM, FedAdam, FedYogi,
        FedAdagrad, FedProx or GradientDescent.
    scheme : {"auto", "paillier", "masks"} or None
        Encryption of the updates; ``auto``, the default: the cheapest that all nodes accept. See
        docs/protocol.md, Masks.
    topology : {"fold", "chain"}
        ``fold``: hospitals answer in parallel and the strategy adds. ``chain``: each hospital adds
        its ciphertext to the running sum it is handed.
    segments : int or "auto"
        ``chain`` only: how many chains run side by side; ``"auto"`` takes about the square root of
        the number of hospitals, which is fastest where hops cost more than additions.
    packing : Packing or None
        Fixed-point format and slots, which must be company X's and the hospitals'; None: company
        X's, and hospitals refuse another than their own.
    encrypt : "all" or sequence of str
        Patterns of the names of the arrays that must be encrypted; the hospitals' mod must be
        given the same. All others are seen in plain.
    integers : {"mean", "local", "plain", "refuse"}
        Way of arrays of integers or truth values that must be encrypted; the hospitals' mod must be
        given the same. See :class:`~fl_he.clients.EncryptionMod`.
    min_contributors : int
        Fewest hospitals in a sum. Company X has a limit of its own.
    hop_timeout : float
        Seconds that a hospital has to reply, and 30 more for each megabyte of its message. The
        ``timeout`` of :meth:`start` does not count: it is for the messages that Flower sends
        itself, and there are none.
    key_holder_timeout : float
        Seconds that company X has to open a sum, restarts of its node included, and 30 more for
        each megabyte of the sum.
    node_timeout : float
        Seconds to wait for nodes to connect, before the first round and whenever the wrapped
        strategy waits for more.
    hospitals : int or None
        How many hospitals must be there before the first round; None: as many as the wrapped
        strategy needs.
    on_dropout : {"auto", "wait", "stop", "continue"}
        If a hospital does not answer: ``wait`` asks it again until it does, and no total is opened
        meanwhile; ``stop`` raises an error; ``continue`` sums up without it; ``auto`` is ``wait``
        where company X has a manifest, whose hospitals are all waited for, else ``continue``. A
        hospital that refuses, or whose arrays differ, is an error but with ``continue``.
    dropout_timeout : float
        Seconds that ``wait`` waits in one sum; then it is as ``stop``.
    on_summed : callable
        Is handed every sum before company X is asked to open it, so that a run that dies meanwhile
        can be resumed.

    Raises
    ------
    ProtocolError
        For a strategy that needs single updates, or an unknown topology; while it runs, whenever
        a node sends something that was not asked for.

    Notes
    -----
    It must be the outermost strategy. ``sums`` lists every :class:`OpenedSum` so far. With a
    ``chain`` of totals hospitals and company X compute the model, as fl-he's own app can.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg, FedMedian
    >>> EncryptedSum(FedAvg()).sums
    []
    >>> EncryptedSum(FedMedian())
    Traceback (most recent call last):
    fl_he.wire.records.ProtocolError: FedMedian needs every single update, ...
    """

    #: Possible values of ``scheme``, the default first.
    schemes: ClassVar[Sequence[str]] = SCHEME_CHOICES

    def __init__(
        self,
        strategy: Strategy,
        *,
        scheme: str | None = None,
        topology: str = "fold",
        segments: int | str = 1,
        packing: Packing | None = None,
        encrypt: str | Sequence[str] = ALL,
        integers: str = MEAN,
        min_contributors: int = 3,
        hop_timeout: float = 600.0,
        key_holder_timeout: float = 600.0,
        node_timeout: float = 60.0,
        hospitals: int | None = None,
        on_dropout: str = AUTO,
        dropout_timeout: float = 3600.0,
        on_summed: Callable[[UnopenedSum], None] = lambda _: None,
    ) -> None:
        require_mean_only(strategy)
        warn_of_metrics_functions(strategy)
        if topology not in TOPOLOGIES:
            raise ProtocolError(f"topology must be one of {list(TOPOLOGIES)}, got {topology!r}")
        if segments != AUTO and not (isinstance(segments, int) and segments >= 1):
            raise ProtocolError(f"segments must be at least 1 or {AUTO!r}, got {segments!r}")
        if topology == FOLD and segments != 1:
            raise ProtocolError(f"segments must be 1 unless topology is 'chain', got {segments!r}")
        self.strategy = strategy
        self.topology = topology
        self.segments = segments
        self.packing = packing
        self.selection = Selection.of(encrypt, integers)
        self.waiting = Waiting(
            *(min_contributors, hop_timeout, key_holder_timeout, node_timeout),
            *(on_dropout, dropout_timeout),
        )
        self.hospitals = hospitals
        self.chain: TotalChain | None = None
        self.scheme = require_scheme(self.schemes[0] if scheme is None else scheme, self.schemes)
        self._made = MadeSums(topology, segments, self.selection, self.scheme, on_summed)
        self._roster: Roster | None = None
        self._messages: list[Message] = []
        self._rounds_before = 0
        self._resumed: tuple[str, str] | None = None

    @property
    def sums(self) -> list[OpenedSum]:
        """Every sum so far."""
        return self._made.sums

    @property
    def roster(self) -> Roster:
        """The nodes that take part; raises ProtocolError before the roll was called."""
        if self._roster is None:
            raise ProtocolError("the roll must be called first: it is when the first round starts")
        return self._roster

    def summary(self) -> None:
        """Log the configuration, then the wrapped strategy's."""
        log(INFO, "\t├──> Encrypted sum:")
        log(INFO, "\t│\t├──Scheme: %s", self.scheme)
        log(INFO, "\t│\t├──Topology: %s", self.topology)
        log(INFO, "\t│\t└──Minimum contributors: %d", self.waiting.min_contributors)
        self.strategy.summary()

    def resume(
        self,
        rounds_before: int,
        session: str,
        key_fingerprint: str,
        unopened: Sequence[UnopenedSum] = (),
    ) -> None:
        """Continue a run that was cut off; to be called before the first round.

        A deployed company X continues in the old session. A simulated one is gone with its
        simulation, key and all: the rounds to come have a new one, and a sum that was not opened
        is asked of the hospitals again.

        Parameters
        ----------
        rounds_before : int
            The last round that was finished. :meth:`start` counts on from there: its
            ``num_rounds`` are those that are left.
        session, key_fingerprint : str
            Of the run.
        unopened : sequence of UnopenedSum
            The next round's sums that company X may have opened already: it opens them again.

        Raises
        ------
        ProtocolError
            If a sum is of another session or round.
        """
        due = rounds_before + 1
        for request in (one.request for one in unopened):
            follows = request.purpose != "train" or request.round == due
            if request.session != session or not follows:
                raise ProtocolError(
                    f"a sum that is opened after a resumption must be of round {due} in the run's "
                    f"session, got {request.purpose} {request.round}"
                )
        self._rounds_before = rounds_before
        self._resumed = session, key_fingerprint
        self._made.resume(unopened)

    def call_roll(self, grid: Grid) -> Roster:
        """Find out who takes part, once; the first round does it if nobody did before."""
        if self._roster is None:
            session = "" if self._resumed is None else self._resumed[0]
            roster = call_roll(grid, self.waiting, self.hospitals or self._needed(), session)
            if self.packing is not None:
                roster.require_packing(self.packing)
            if self._resumed is not None:
                self._go_on(roster, *self._resumed)
            self._roster = roster
            log(
                INFO,
                "%d nodes: %d hospitals, and company X, which has no data. Its key is %.16s... "
                "(%s, slots of %d bits)",
                len(roster.hospitals) + 1,
                len(roster.hospitals),
                roster.public_key.fingerprint,
                roster.scheme(self.scheme),
                roster.packing.slot_bits,
            )
        self._roster.grid = grid
        return self._roster

    def _go_on(self, roster: Roster, session: str, fingerprint: str) -> None:
        if roster.simulated:
            _logger.warning(
                "a simulated company X does not outlive its simulation: the resumed rounds have "
                "a new key and a new session"
            )
            self._made.resume(())
        else:
            require_key(roster.public_key.fingerprint, fingerprint)
            roster.session = session

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Take the wrapped strategy's messages; they are sent in :meth:`aggregate_train`."""
        number = self._rounds_before + server_round
        hospitals = self._gathered("train", grid)
        self._keep(self.strategy.configure_train(number, arrays, config, hospitals))
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Run the encrypted sum and let the wrapped strategy aggregate its mean."""
        number = self._rounds_before + server_round
        mean = self._encrypted_mean("train", number, replies)
        arrays, metrics = self.strategy.aggregate_train(number, mean)
        if arrays is not None and mean:
            arrays = with_types(arrays, mean[0].content)
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Take the wrapped strategy's messages; they are sent in :meth:`aggregate_evaluate`."""
        number = self._rounds_before + server_round
        hospitals = self._gathered("evaluate", grid)
        self._keep(self.strategy.configure_evaluate(number, arrays, config, hospitals))
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Run the encrypted sum and let the wrapped strategy aggregate its mean.

        An evaluation with too few contributors, no examples or values that do not fit is left out:
        the wrapped strategy gets no reply.
        """
        number = self._rounds_before + server_round
        try:
            mean = self._encrypted_mean("evaluate", number, replies)
        except (NoMeanError, MisfitError) as error:
            _logger.warning("round %d has no evaluation: %s", number, error)
            mean = []
        return self.strategy.aggregate_evaluate(number, mean)

    def sum_up(
        self, purpose: Purpose, number: int, action: str, content: RecordDict | None = None
    ) -> RecordDict:
        """Ask every hospital the same, outside the wrapped strategy's rounds.

        After `call_roll`, which a strategy's own rounds do. docs/kaplan-meier.md is an example.

        Parameters
        ----------
        purpose : Purpose
            ``prepare`` for sums of an app's own. Sums of one purpose are opened in the order of
            their numbers.
        number : int
            From 1.
        action : str
            Whose replies the hospitals' mod encrypts: ``train.NAME`` or ``evaluate.NAME``.
        content : RecordDict or None
            Of every message; ``None``: of `chain`, which says each hospital what it lacks.

        Returns
        -------
        RecordDict
            The weighted mean of the replies, in the form of one reply.

        Raises
        ------
        ProtocolError
            If too few hospitals answer, company X does not open the sum, the action is of another
            purpose, or nobody has called the roll.
        """
        if purpose != purpose_of(action):
            raise ProtocolError(f"sums of {action!r} are for {purpose_of(action)}, got {purpose}")
        self._ask_all(action, content)
        (mean,) = self._encrypted_mean(purpose, number, ())
        return mean.content

    def figures(self, number: int, content: RecordDict | None = None) -> Figures:
        """Have every hospital count on held-out data, and company X say what may be said of it.

        Parameters
        ----------
        number : int
            From 1. Company X answers one such request in a session.
        content : RecordDict or None
            Of every message: the model and its terms; ``None``: of `chain`.

        Raises
        ------
        ProtocolError
            See `sum_up`; or if too few patients are held out.
        """
        self._ask_all(FIGURES, content)
        return self._made.figures(self._asked("figures", number))

    def table(self, number: int, content: RecordDict) -> Table:
        """Have every hospital count its rows, and company X give out a table without small counts.

        Parameters
        ----------
        number : int
            From 1. Company X answers one such request in a session.
        content : RecordDict
            Of every message; see :func:`fl_he.wire.table.table_question`.

        Raises
        ------
        ProtocolError
            See `sum_up`; or if there are too few rows.
        """
        self._ask_all(TABLE, content)
        return self._made.table(self._asked("table", number))

    def _ask_all(self, action: str, content: RecordDict | None) -> None:
        self.roster.gather(self._needed())
        contents = self._contents(content).items()
        self._keep([Message(one, node_id, action) for node_id, one in contents])

    def _contents(self, content: RecordDict | None) -> dict[int, RecordDict]:
        roster = self.roster
        if content is not None:
            return dict.fromkeys(roster.hospitals, content)
        if self.chain is None:
            raise ProtocolError("a message must have a content where there is no chain of totals")
        return {n: self.chain.for_hospital(roster.session, n) for n in roster.hospitals}

    def finish(
        self, arrays: ArrayRecord | None = None, config: ConfigRecord | None = None
    ) -> tuple[Skipped, ...]:
        """Send the final model to every hospital, which saves it where its node is configured to.

        Parameters
        ----------
        arrays : ArrayRecord or None
            ``None``: hospitals compute the model by `chain`.
        config : ConfigRecord or None
            Further values that the app gets with the model.

        Returns
        -------
        tuple of Skipped
            The hospitals that could not save it, or did not answer; they are warned about as well.
            The others have it all the same.
        """
        roster = self.roster
        contents = self._contents(None if arrays is None else model_message_content(arrays, config))
        return save_model(roster.grid, contents, roster.name, self.waiting.hop_timeout)

    def _gathered(self, purpose: Purpose, grid: Grid) -> HospitalGrid:
        """Show the hospitals that are there, once there are as many as the strategy waits for.

        Flower's strategies would wait without end, and for hospitals that the grid says are gone.
        """
        roster = self.call_roll(grid)
        if setting(self.strategy, f"fraction_{purpose}", 1.0) > 0.0:
            roster.gather(self._needed(f"min_{purpose}_nodes"))
        return HospitalGrid(grid, roster.hospitals)

    def _needed(self, *settings: str) -> int:
        """Return how many hospitals the wrapped strategy needs by these settings of its."""
        names = "min_available_nodes", *settings
        return max(int(setting(self.strategy, name, 1)) for name in names)

    def _keep(self, messages: Iterable[Message]) -> None:
        self._messages = list(messages)
        if not self._messages:
            return
        receivers = [message.metadata.dst_node_id for message in self._messages]
        self.roster.require_receivers(receivers)

    def _encrypted_mean(
        self, purpose: Purpose, server_round: int, replies: Iterable[Message]
    ) -> list[Message]:
        if any(True for _ in replies):
            raise ProtocolError(
                f"{type(self).__name__} must be the outermost strategy: put the other one inside it"
            )
        if not self._messages:
            return []
        asked = self._asked(purpose, server_round)
        return [Message(self._made.mean(asked), reply_to=asked.messages[0])]

    def _asked(self, purpose: Purpose, number: int) -> AskedMessages:
        messages, self._messages = self._messages, []
        weighted_by = setting(self.strategy, "weighted_by_key", NUM_EXAMPLES)
        return AskedMessages(purpose, number, messages, weighted_by, self.roster, self.chain)


class SequentialPaillier(EncryptedSum):
    """`EncryptedSum` under Paillier's scheme alone.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> strategy = SequentialPaillier(FedAvg(), topology="chain")
    >>> strategy.schemes
    ('paillier',)
    """

    schemes = (PAILLIER,)
