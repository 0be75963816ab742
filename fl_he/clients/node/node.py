"""One node, simulated or deployed: who it is, what it owns, and what it insists on.

`fl_he.clients.node.app.read_node` decides which of the two kinds a node is.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar, cast

from flwr.app import ConfigRecord, Context

from fl_he.clients.clipping import Clipping
from fl_he.clients.hospital import HospitalData
from fl_he.clients.node.enrolment import (
    Enrolment,
    pinned_fingerprint,
    read_enrolment,
    read_plans,
)
from fl_he.clients.node.settings import DEPLOYED_ONLY, least_cell, without_role
from fl_he.clients.node.table_memory import TableMemory
from fl_he.clients.run_keys import RunKeys
from fl_he.clients.state_store import StateStore, StateText
from fl_he.clients.stores import Store, TextStore
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.regression.disclosure import MIN_CELL
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import Role, printable
from fl_he.wire.records import PrivateReasonError, ProtocolError, kept_config
from fl_he.wire.study_plan import StudyPlan

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyHolderPolicy:
    """Conditions under which company X opens a sum.

    Attributes
    ----------
    min_contributors : int
        A sum of fewer updates is not opened. A deployed node's ``min-contributors`` goes first.
    min_cell : int
        Fewest patients of a count on held-out data that is given out, if it has any. A deployed
        node's ``min-cell`` may be larger.
    packing : Packing or None
        The only packing in which sums are opened; ``None``: the node's own. A coordinator that
        could choose it could move the borders of the slots.
    key_bits : int
        Modulus of the keys that company X makes for runs: simulated, or with a manifest, where
        ``key-bits`` goes first. Without one it loads the file that ``private-key`` names.
    key_kind : KeyKind
        Kind of these keys; ``key-kind`` goes first.
    """

    min_contributors: int = 3
    packing: Packing | None = None
    key_bits: int = 2048
    min_cell: int = MIN_CELL
    key_kind: KeyKind = KeyKind.short


class _Text(Protocol):
    def to_json(self) -> str: ...


Key = TypeVar("Key", bound=_Text)


@dataclass(frozen=True, slots=True)
class OwnKey(Generic[Key]):
    """Sources of a node's private key.

    Attributes
    ----------
    setting : str
        Names the key file of a deployed node.
    generate : callable
        Makes the key of a simulated node, which keeps it in its state.
    parse : callable
        Reads the key from there.
    load : callable
        Takes the path of the key file and the passphrase, None without ``passphrase-file``.
    """

    setting: str
    generate: Callable[[], Key]
    parse: Callable[[str], Key]
    load: Callable[[Path, str | None], Key]


class Node(ABC):
    """A node while it answers one message.

    What a node reads from its disk or makes of its data is read when it is first asked for, and
    kept until the message is answered. So a property may refuse, by the setting that is wrong.

    Parameters
    ----------
    context : Context
        Flower's, of the node.

    Attributes
    ----------
    simulated : bool
        Whether the node lives in a simulation, which hides nothing from whoever runs it.
    policy : KeyHolderPolicy
        The node's own.
    packing : Packing
        The node's own, of all its numbers: with room for the hospitals that the node knows of.
    privacy : GaussianPrivacy or None
        The node's own terms of differential privacy.
    session : str
        Company X's, as the message names it; empty where it names none.
    begun : bool
        Whether company X has signed that it began the session; without a manifest, whether the
        message asks for a sum.
    plan : str
        Digest of the study plan that the message is under; empty where the node has none.
    """

    simulated: ClassVar[bool]

    def __init__(self, context: Context) -> None:
        self.context = context
        self.session = self.plan = ""
        self.begun = False

    @property
    @abstractmethod
    def role(self) -> Role:
        """The node's role."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The node's name, for messages to people."""

    @property
    @abstractmethod
    def partition(self) -> tuple[int, int]:
        """The hospital's number, from 0, and how many hospitals divide the data."""

    @property
    @abstractmethod
    def hospital_count(self) -> int | None:
        """Number of hospitals by the node's own knowledge; ``None`` if it has none."""

    @property
    def printed_name(self) -> str:
        """The name before anything of the node is checked."""
        name = self.context.node_config.get("name")
        if isinstance(name, str) and name.strip():
            return printable(name)
        return f"node-{self.context.node_id}"

    @cached_property
    def policy(self) -> KeyHolderPolicy:
        """See the class."""
        return KeyHolderPolicy()

    @cached_property
    def packing(self) -> Packing:
        """See the class."""
        count = self.hospital_count
        return Packing() if count is None else Packing(max_contributors=count)

    @cached_property
    def privacy(self) -> GaussianPrivacy | None:
        """See the class."""
        return None

    @cached_property
    def enrolment(self) -> Enrolment | None:
        """Manifest and identity, ``None`` where the node has none."""
        return read_enrolment(self.context)

    @cached_property
    def plans(self) -> Mapping[str, StudyPlan]:
        """Study plans by their digests; with any, the node computes under one of them only."""
        return read_plans(self.context)

    @cached_property
    def pinned_fingerprint(self) -> str | None:
        """Fingerprint of the one Paillier key that the node works with, ``None`` without one."""
        return pinned_fingerprint(self.context)

    @cached_property
    def run_keys(self) -> RunKeys | None:
        """Company X's keys of sessions; ``None`` where the node has one key for all, or none."""
        return None

    @cached_property
    def hospital(self) -> HospitalData:
        """Training data of a hospital of fl-he's own app, under the node's own terms."""
        dataset, model_path = self.table()
        self._require_same("data", dataset)
        packing, terms = self.packing, self.privacy
        return HospitalData(
            dataset,
            model_path,
            None if terms is None else Clipping(terms.clip, packing.fraction_bits),
            Limbs(packing.fraction_bits, packing.integer_bits),
            lambda: self.test_table,
            min_cell=least_cell(self.context, self.policy.min_cell),
            name=printable(self.name),
        )

    @cached_property
    def test_table(self) -> Dataset | None:
        """Rows that a hospital keeps for evaluation, once they are known to be the session's."""
        test = self.held_out()
        if test is not None:
            self._require_same("test-data", test)
        return test

    def _require_same(self, setting: str, dataset: Dataset) -> None:
        """Refuse a table that has changed since the session began; see `TableMemory`."""
        memory = TableMemory(self.seen())
        change = memory.change(
            self.context.run_id,
            self.session,
            setting,
            dataset,
            (lambda: self.note_rows(setting, dataset)) if self.begun else None,
        )
        if change is not None:
            rule = f"{setting} must be the table with which the session began, and it has changed"
            raise self.changed(rule, change, "put it back, or begin a new run")

    def changed(self, rule: str, change: str, remedy: str) -> ProtocolError:
        """Return the refusal of a changed table; deployed, only the node's log says how it has."""
        if self.simulated:
            return ProtocolError(f"{rule}: {change}")
        if self.enrolment is not None:
            return PrivateReasonError(f"{rule}: {change}")
        _logger.error("%s: %s", rule, change)
        return ProtocolError(f"{rule}: {remedy}; this node's log says how")

    def note_rows(self, setting: str, dataset: Dataset) -> None:  # noqa: B027 - default: no disk
        """Note the rows of a table in a session, or refuse it for those of earlier sessions."""

    @abstractmethod
    def private_key(self, key: OwnKey[Key]) -> Key:
        """Return a private key of the node's own."""

    @abstractmethod
    def opened(self) -> Store:
        """Return where company X notes which sums it has opened."""

    @abstractmethod
    def opened_sets(self) -> Store:
        """Return where company X notes of which sets of hospitals it has opened totals."""

    @abstractmethod
    def released(self) -> Store:
        """Return where a hospital notes what it has released under differential privacy."""

    @abstractmethod
    def seen(self) -> Store:
        """Return where a hospital notes the tables with which its sessions began."""

    @abstractmethod
    def planned(self) -> Store:
        """Return where the node notes what it has given under study plans."""

    @abstractmethod
    def forms(self) -> Store:
        """Return where a hospital notes the forms of its app's replies."""

    @abstractmethod
    def chains(self) -> Store:
        """Return where the node notes the sessions of sealed chains that it takes part in."""

    @abstractmethod
    def counters(self) -> Store:
        """Return where a hospital notes how many sums company X says it has opened."""

    @abstractmethod
    def training(self, session: str) -> TextStore:
        """Return where a hospital keeps how far it is in a session's training."""

    @property
    def app_seconds(self) -> float | None:
        """Most seconds that the app may take for a reply; ``None``: no limit."""
        return None

    @property
    def reply_seconds(self) -> float | None:
        """The grid of times at which a hospital's replies leave; ``None``: at once."""
        return None

    @property
    def alone(self) -> bool:
        """Whether a hospital allows totals that single it out."""
        return False

    @property
    def resistant(self) -> bool:
        """True if a hospital masks its updates pairwise; see :mod:`fl_he.clients.pairing`."""
        return False

    @property
    def masked_set(self) -> int | None:
        """Fewest hospitals for which a hospital masks; ``None``: all of the manifest."""
        return None

    @abstractmethod
    def masked_sets(self) -> Store:
        """Return where a hospital notes the set for which it masks."""

    @abstractmethod
    def pairs(self, session: str) -> Store:
        """Return where a hospital keeps its seeds of pairwise masks in a session."""

    def table(self) -> tuple[Dataset, Path | None]:
        """Return a hospital's data, and where its model is saved."""
        raise ProtocolError("a hospital must be given data by its app, and this one has none")

    def held_out(self) -> Dataset | None:
        """Return what a hospital keeps for evaluation, ``None`` if nothing."""
        return None

    def require_no_result(self) -> None:  # noqa: B027 - default: no settings
        """Refuse to begin a session whose model would be saved over another session's."""

    def check_plan(self, plan: StudyPlan) -> None:  # noqa: B027 - default: no settings
        """Refuse settings of the node that are not as one of its study plans has them."""

    def check(self) -> None:
        """Check the node's whole configuration, before the node describes itself."""
        _ = self.role


class SimulatedNode(Node):
    """A node of Flower's simulation, in which the last partition is company X.

    A simulated node has no disk of its own. Its keys and ledgers are in its state, which never
    leaves the simulation. Data are for the app to give.
    """

    simulated = True

    @cached_property
    def numbers(self) -> tuple[int, int]:
        """The node's number, from 0, and how many nodes there are."""
        config = self.context.node_config
        partition, partitions = config.get("partition-id"), config.get("num-partitions")
        whole = isinstance(partition, int) and isinstance(partitions, int)
        if not whole or not DEPLOYED_ONLY.isdisjoint(config):
            raise without_role(config, deployed=False)
        return cast(int, partition), cast(int, partitions)

    @property
    def role(self) -> Role:
        """See Node."""
        number, nodes = self.numbers
        return Role.KEY_HOLDER if number == nodes - 1 else Role.HOSPITAL

    @property
    def name(self) -> str:
        """See Node."""
        return "company X" if self.role is Role.KEY_HOLDER else f"hospital-{self.numbers[0] + 1}"

    @property
    def partition(self) -> tuple[int, int]:
        """See Node."""
        number, nodes = self.numbers
        if self.role is Role.KEY_HOLDER:
            raise ProtocolError("company X has no partition of the data")
        return number, nodes - 1

    @property
    def hospital_count(self) -> int:
        """See Node."""
        _, nodes = self.numbers
        return max(1, nodes - 1)  # a federation of company X alone is the coordinator's to refuse

    def private_key(self, key: OwnKey[Key]) -> Key:
        """See Node; the first call makes the key."""
        record = self._record("keys")
        if key.setting not in record:
            record[key.setting] = key.generate().to_json()
        return key.parse(str(record[key.setting]))

    def opened(self) -> Store:
        """See Node."""
        return StateStore(self._record("opened"))

    def opened_sets(self) -> Store:
        """See Node."""
        return StateStore(self._record("opened-sets"))

    def released(self) -> Store:
        """See Node."""
        return StateStore(self._record("released"))

    def seen(self) -> Store:
        """See Node."""
        return StateStore(self._record("seen"))

    def planned(self) -> Store:
        """See Node."""
        return StateStore(self._record("planned"))

    def forms(self) -> Store:
        """See Node."""
        return StateStore(self._record("forms"))

    def chains(self) -> Store:
        """See Node."""
        return StateStore(self._record("chains"))

    def counters(self) -> Store:
        """See Node."""
        return StateStore(self._record("counters"))

    def masked_sets(self) -> Store:
        """See Node."""
        return StateStore(self._record("masked-set"))

    def pairs(self, session: str) -> Store:
        """See Node."""
        return StateStore(self._record(f"pairs.{session}"))

    def training(self, session: str) -> TextStore:
        """See Node."""
        return StateText(self._record(f"training.{session}"))

    def _record(self, name: str) -> ConfigRecord:
        return kept_config(self.context.state, f"fl-he.{name}")
