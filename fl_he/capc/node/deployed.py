"""A deployed node in CaPC: its agreement, keys, model, cases and ledger.

The ledger says what an answering party has answered, so that its patients' budget is spent once.
A batch is noted before the party's votes leave. It counts as tested and answered in full, since
who got no answer only the querying party knows. A ledger belongs to one promise and one noise,
for all runs and all querying parties. Another promise or noise needs a new ledger: a further
promise, which adds to the old one.

Before the model is evaluated, the batch's begin is noted with the name of the querying party, whose
queries are limited: to learn of a model, a party that deviates needs no vote.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from flwr.app import ConfigRecord
from numpy.typing import NDArray

from fl_he.capc.agreement import Agreement
from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.networks import ENDING, load_network
from fl_he.capc.node.envelopes import Envelopes
from fl_he.capc.node.keys import KeyPair, PublicKeys, own_keys
from fl_he.capc.node.party import Memory, Party
from fl_he.capc.node.vote_pairs import PAIR_DIGITS
from fl_he.capc.protocol import CapcRole
from fl_he.capc.terms import Terms
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.node.described_tables import DescribedTables, require_schema
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.node.settings import (
    check_kinds,
    node_path,
    node_setting,
    number_setting,
    read_named_file,
    require_writable,
    whole_setting,
)
from fl_he.clients.pair_memory import LONGEST_PAIR_LINE
from fl_he.clients.stores import LedgerError, Store, ledger_document
from fl_he.crypto.encoding.fields import Natural, Whole, kind_of, left_out
from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.tables.table_file import some
from fl_he.learning.voting.case_files import note_labels, open_cases
from fl_he.learning.voting.gnmax import VotingBudget
from fl_he.learning.voting.integer_model import IntegerModel, fixed_point
from fl_he.learning.voting.model_file import load_model_file
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.records import ProtocolError

_Read = TypeVar("_Read")
_logger = logging.getLogger(__name__)

_STATE = "fl-he.capc-asked"
_CASES = "cases"
_QUERIES = "capc-queries"
#: Queries of each querying party that an answering party takes, over all runs.
MOST_QUERIES = 1000
_MODEL, _LEDGER, _OPEN, _LABELS = "capc-model", "capc-ledger", "capc-cases", "capc-labels"
#: What the patients are promised, and the noise by which that is kept: members of the agreement.
_PROMISE = ("delta", "epsilon", "sigma_gnmax", "sigma_threshold")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Ledger line of an answered batch."""

    promise: str
    session: str
    queries: Natural


@dataclass(frozen=True, slots=True)
class _Begun:
    """Ledger line of a batch that has begun; earlier releases noted the session alone."""

    begun: str
    querying: Annotated[str, left_out(kind_of(str), "")] = ""
    queries: Annotated[Whole, left_out(kind_of(Whole), 0)] = 0


_BATCHES, _BEGUN, _IS_BEGUN = ledger_document(_Batch), ledger_document(_Begun), '{"begun":'


class VotingLedger:
    """The batches that one party has begun and answered.

    Parameters
    ----------
    store : Store
        Where they are noted.
    agreement : Agreement
        Has the promise.
    most, own : optional
        Queries of each querying party, and the party's own epsilon, see `Agreement.budget`.
    """

    def __init__(
        self, store: Store, agreement: Agreement, most: int = MOST_QUERIES, own: float | None = None
    ) -> None:
        self._store, self._agreement, self.most, self._own = store, agreement, most, own
        self._promise = json.dumps({name: getattr(agreement, name) for name in _PROMISE})

    def budget(self) -> VotingBudget:
        """Return what is left of the budget."""
        with self._store.exclusively() as lines:
            return self.left(lines)

    def begin(self, session: str, querying: str, queries: int) -> None:
        """Note the begin of a batch, which spends nothing of the budget.

        What a party keeps from step to step is Flower's state of one run. A coordinator could have
        a batch begun in two runs, and have the vote of one put into the other's order of classes.

        Raises
        ------
        ProtocolError
            If the batch was begun or answered before, or the budget or the limit of the querying
            party's queries does not allow it.
        LedgerError
            If the ledger cannot be trusted.
        """
        with self._store.exclusively() as lines:
            spend(self.left(lines, session), queries)
            begun = _begun(lines)
            if any(one.begun == session for one in begun):
                raise ProtocolError(f"batch {session} has already been begun")
            left = self.most - _by_party(begun)[querying]
            if queries > left:
                raise ProtocolError(
                    f"queries of {querying} must be at most {max(left, 0)}, which is what is left "
                    f"of {self.most} ({_QUERIES} in this node's configuration), got {queries}"
                )
            lines.append(_BEGUN.dumps(_Begun(session, querying, queries)))

    def asked(self, lines: Iterable[str | None]) -> Counter[str]:
        """Return how many queries of each querying party were begun."""
        return _by_party(_begun(lines))

    def may_ask(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many queries of each of these parties may still begin."""
        with self._store.exclusively() as lines:
            asked = self.asked(lines)
        return {name: max(0, self.most - asked[name]) for name in names}

    def spend(self, session: str, queries: int) -> None:
        """Note a batch.

        Parameters
        ----------
        session : str
            Names the batch.
        queries : int

        Raises
        ------
        ProtocolError
            If the budget does not allow it, the batch is there already, or the ledger is another
            promise's; nothing is noted.
        LedgerError
            If the ledger cannot be trusted.
        """
        with self._store.exclusively() as lines:
            spend(self.left(lines, session), queries)
            lines.append(_BATCHES.dumps(_Batch(self._promise, session, queries)))

    def left(self, lines: Iterable[str | None], session: str | None = None) -> VotingBudget:
        """Return what is left of the budget.

        Raises
        ------
        ProtocolError
            If the ledger is another promise's, has spent more than the budget, or has answered the
            session.
        """
        budget = self._agreement.budget(self._own)
        for line in lines:
            if line is None or line.startswith(_IS_BEGUN):
                # A batch whose line was cut off was not answered: the line had to be whole first.
                continue
            batch = _BATCHES.loads(line, _Batch)
            if batch.promise != self._promise:
                raise ProtocolError(
                    "a voting ledger must be of one promise, and this node's has batches under "
                    "another epsilon, delta or noise: give it a new one if its patients are "
                    "promised that in addition to the old one"
                )
            if batch.session == session:
                # else noise could be used twice
                raise ProtocolError(f"batch {session} has already been answered")
            if batch.queries > budget.affordable():
                raise ProtocolError(
                    "the voting ledger has spent more than this node's budget allows: set "
                    "capc-epsilon in the node configuration back to its earlier, larger value"
                )
            budget.spend(batch.queries)
        return budget


def _begun(lines: Iterable[str | None]) -> list[_Begun]:
    found = (line for line in lines if line is not None and line.startswith(_IS_BEGUN))
    return [_BEGUN.loads(line, _Begun) for line in found]


def _by_party(begun: Iterable[_Begun]) -> Counter[str]:
    """Return the number of queries of each querying party that a ledger names."""
    counted: Counter[str] = Counter()
    for one in begun:
        if one.querying:
            counted[one.querying] += one.queries
    return counted


def spend(budget: VotingBudget, queries: int) -> None:
    """Count queries as tested and answered; ProtocolError if that is more than what is left."""
    try:
        budget.spend(queries)
    except PrivacyError as error:
        raise ProtocolError(str(error)) from None


@dataclass(frozen=True, slots=True, repr=False)
class AgreedNode(Party):
    """A deployed node in CaPC.

    Attributes
    ----------
    node : Node
    enrolment : Enrolment
    agreement : Agreement
    """

    node: Node
    enrolment: Enrolment
    agreement: Agreement

    @classmethod
    def of(cls, node: Node) -> AgreedNode:
        """Read a node's part from its own configuration.

        Raises
        ------
        ProtocolError, CryptoError
            If the node has no manifest or no agreement, or the two do not fit together: nobody's
            keys are pinned then, and it takes no part.
        """
        enrolment, path = node.enrolment, node_setting(node.context, "capc")
        if enrolment is None or path is None:
            raise ProtocolError(
                "a deployed node in CaPC must be given capc (the agreement), federation and "
                "identity in its node configuration: without them no keys are pinned"
            )
        agreement = read_named_file("capc", path, Agreement.load)
        return cls(node, enrolment, agreement)

    def describe(self) -> CapcReply:
        """Check all that the node is configured with, and say what it has.

        Raises
        ------
        ProtocolError, CryptoError
            For the first thing that is wrong, by its setting. It shows no path and no column; the
            node's log does.
        """
        check_kinds(self.node.context.node_config, self.node.role)
        reply = CapcReply(
            name=self.enrolment.name,
            role=self.node.role.value,
            agreement=self.agreement.to_json(),
            answers=False,
            resistant=self.node.resistant,
        )
        if self.node.role is Role.KEY_HOLDER:
            self.keys()
            return reply
        self._tables()
        if self._both(_MODEL, _LEDGER):
            _named(_MODEL, self.model)
            ledger = self.ledger()
            left = _named(_LEDGER, ledger.budget)
            _ = self.node.masked_set
            reply = replace(
                reply,
                answers=True,
                affordable=left.affordable(),
                left=_named(_LEDGER, partial(ledger.may_ask, self.agreement.keys)),
            )
        if self._both(_OPEN, _LABELS):
            self.keys()
            require_writable(self.node.context, _LABELS)
            open_cases = _named(f"{_OPEN} or {_LABELS}", self._open_cases)
            reply = replace(reply, open_cases=len(open_cases))
        return reply

    def keys(self) -> KeyPair:
        """Return the node's own private keys, which must be the pinned ones."""
        pins = self.agreement.pins(self.enrolment.name)
        return own_keys(self.node, self.agreement.key_bits, pins)

    @property
    def terms(self) -> Terms:
        """See Party."""
        return self.agreement.terms

    def envelopes(self, request: CapcRequest) -> Envelopes:
        """Return the envelopes of a request's batch.

        Raises
        ------
        ProtocolError, CryptoError
            If a key is not the pinned one, or others take part than may.
        """
        for owner, name in (
            (CapcRole.QUERYING, request.querying),
            (CapcRole.GUARDIAN, self.enrolment.manifest.key_holder.name),
        ):
            found = PublicKeys.from_texts(request.keys, owner, self.agreement.key_bits)
            pins = self.agreement.pins(name)
            if (found.paillier.fingerprint, found.dgk.fingerprint) != (pins.paillier, pins.dgk):
                raise ProtocolError(f"the {owner} keys are not those pinned for {name}")
        memory = Memory(self.node.context, request.session)
        return Envelopes(self.enrolment, self.agreement, request, memory)

    def queries(self, count: int) -> NDArray[np.int64]:
        """See Party; the cases are the first open ones."""
        cases = self._open_cases()
        if len(cases) < count:
            raise ProtocolError(
                f"queries must be at most {len(cases)}, the open cases, got {count}"
            )
        self.node.context.state.config_records[_STATE] = ConfigRecord(
            {_CASES: cases[:count].tobytes()}
        )
        low, high = np.array(list(self.agreement.features.values())).T
        with np.errstate(over="ignore"):
            scaled = (2.0 * cases[:count] - low - high) / (high - low)
        features, largest = list(self.agreement.features), 2.0**self.agreement.integer_bits
        if large := [features[i] for i in np.flatnonzero((np.abs(scaled) >= largest).any(axis=0))]:
            raise DataError(
                f"cases must be less than {largest:g} times half an agreed range from its middle, "
                f"but those of column {some(large, 10)} are not all"
            )
        return fixed_point(scaled, self.agreement.fraction_bits, self.agreement.integer_bits)

    def learn(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        """Write the labels down; nothing of them is told to anybody."""
        record = self.node.context.state.config_records.pop(_STATE, ConfigRecord())
        data = record.get(_CASES)
        features = list(self.agreement.features)
        if not isinstance(data, bytes) or len(data) != 8 * len(features) * len(labels):
            raise ProtocolError("labels must be as many as the cases that were asked about")
        cases = np.frombuffer(data, dtype=np.float64).reshape(len(labels), len(features))
        names = [None if label < 0 else self.agreement.classes[label] for label in labels]
        note_labels(self.path(_LABELS), features, cases, names)
        return {}

    def _open_cases(self) -> NDArray[np.float64]:
        files, features = (self.path(_OPEN), self.path(_LABELS)), list(self.agreement.features)
        if (tables := self._tables()) is None:
            return open_cases(*files, features)
        return open_cases(*files, features, tables.features)

    def _tables(self) -> DescribedTables | None:
        """Return the tables of the agreement's schema.

        Raises
        ------
        ProtocolError
            If the node has another, a column of it gets means, or its outcome is a number.
        """
        tables = DescribedTables.configured(self.node.context)
        require_schema(tables, self.agreement.schema, "as in the agreement")
        if tables is not None and tables.imputed:
            raise ProtocolError(
                f"schema must have no column with missing: mean in CaPC, where nobody opens means, "
                f"got {tables.imputed[0]!r}: use indicator"
            )
        if tables is not None and tables.outcome.family:
            raise ProtocolError(
                "CaPC votes for classes, and the schema's outcome is a number of family "
                f"{tables.outcome.family}: use an outcome with classes"
            )
        return tables

    def model(self) -> IntegerModel:
        """See Party; the model is in the node's own file."""
        self._tables()
        agreed, path = self.agreement, self.path(_MODEL)
        if path.suffix == ENDING:
            model = load_network(path).answering(agreed.classes, agreed.features)
        else:
            model = load_model_file(path, agreed.classes, agreed.features)
        return self.terms.in_integers(model, agreed.integer_bits)

    def require_budget(self, queries: int) -> None:
        """See Party; a batch must not be larger than anybody's whole budget."""
        spend(self.agreement.budget(), queries)

    def begin(self, session: str, querying: str, queries: int) -> None:
        """See Party; the ledger is in the node's own file."""
        self.ledger().begin(session, querying, queries)

    def spend(self, session: str, queries: int) -> None:
        """See Party; the ledger is in the node's own file."""
        self.ledger().spend(session, queries)

    def ledger(self) -> VotingLedger:
        """Return the ledger of what the node's patients have spent."""
        context, store = self.node.context, FileStore(self.path(_LEDGER))
        most = whole_setting(context, _QUERIES) or MOST_QUERIES
        return VotingLedger(store, self.agreement, most, number_setting(context, "capc-epsilon"))

    def pair_stores(self) -> tuple[FileStore, FileStore]:
        """Return where the set and the seeds of masks are kept: in the folder of the votes' ledger.

        Seeds are an agreement's. Votes have a set that updates of training know nothing of: a
        hospital may train and not answer.
        """
        path = self.path(_LEDGER)
        endings = ("masked-set", f"pairs-{self.agreement.fingerprint[:PAIR_DIGITS]}")
        files = [path.with_name(f"{path.name}.{ending}.jsonl") for ending in endings]
        return FileStore(files[0], LONGEST_PAIR_LINE), FileStore(files[1], LONGEST_PAIR_LINE)

    def path(self, setting: str) -> Path:
        """Return the path that a setting names; ProtocolError if there is none."""
        path = node_path(self.node.context, setting)
        if path is None:
            raise ProtocolError(f"this party must be given {setting} in its node configuration")
        return path

    def _both(self, first: str, second: str) -> bool:
        """Tell whether a node has both settings; one alone is refused."""
        given = [setting in self.node.context.node_config for setting in (first, second)]
        if given[0] != given[1]:
            raise ProtocolError(
                f"a hospital in CaPC must be given both {first} and {second} in its node "
                "configuration, or neither"
            )
        return all(given)


def _named(setting: str, read: Callable[[], _Read]) -> _Read:
    """Read what a setting names."""
    try:
        return read()
    except (DataError, LedgerError, OSError) as error:
        _logger.error("%s: %s", setting, error)
        raise ProtocolError(
            f"{setting} in the node configuration must name a file that fits the agreement: this "
            "node's log says what is wrong"
        ) from None
