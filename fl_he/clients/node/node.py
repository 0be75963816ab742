"""One node, simulated or deployed: who it is, what it owns, and what it insists on.

`fl_he.clients.node.app.read_node` decides which of the two kinds a node is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar, cast

from flwr.app import ConfigRecord, Context

from fl_he.clients.clipping import Clipping
from fl_he.clients.hospital import HospitalData
from fl_he.clients.ledger import StateStore, Store
from fl_he.clients.node.enrolment import Enrolment, pinned_fingerprint, read_enrolment
from fl_he.clients.node.settings import DEPLOYED_ONLY, without_role
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import Role, printable
from fl_he.wire.records import ProtocolError

#: Contributors to a sum that a node insists on where nothing else is said.
MIN_CONTRIBUTORS = 3


class PrivateKeyText(Protocol):
    """A private key that can be kept as text."""

    def to_json(self) -> str:
        """Return the key as text, which is secret."""


_Key = TypeVar("_Key", bound=PrivateKeyText)


class Node(ABC):
    """A node while it answers one message.

    What a node reads from its disk or computes from its data is read when it is first asked for,
    and kept until the message is answered. So a node whose configuration is wrong refuses by the
    property that is wrong.

    Parameters
    ----------
    context : Context
        Flower's, of the node.

    Attributes
    ----------
    simulated : bool
        Whether the node lives in a simulation, which hides nothing from whoever runs it.
    """

    simulated: ClassVar[bool]

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    @abstractmethod
    def role(self) -> Role:
        """The node's role; ProtocolError if its configuration does not say enough."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The node's name, for messages to people."""

    @property
    def printed_name(self) -> str:
        """The name for messages to people before anything of the node is checked."""
        name = self.context.node_config.get("name")
        if isinstance(name, str) and name.strip():
            return printable(name)
        return f"node-{self.context.node_id}"

    @property
    def packing(self) -> Packing:
        """The fixed-point format of the node's numbers."""
        return Packing()

    @property
    def min_contributors(self) -> int:
        """The fewest updates in a sum that the node opens, or seals to be opened."""
        return MIN_CONTRIBUTORS

    @property
    def key_bits(self) -> int:
        """Length of the keys that a simulated node makes."""
        return 2048

    @property
    def privacy(self) -> GaussianPrivacy | None:
        """The node's own terms of differential privacy, ``None`` without them."""
        return None

    @property
    @abstractmethod
    def hospital(self) -> HospitalData:
        """What a hospital of fl-he's own app trains on."""

    @cached_property
    def enrolment(self) -> Enrolment | None:
        """Manifest and identity, ``None`` where the node has none."""
        return read_enrolment(self.context)

    @cached_property
    def pinned_fingerprint(self) -> str | None:
        """Fingerprint of the one Paillier key that the node works with, ``None`` without one."""
        return pinned_fingerprint(self.context)

    @abstractmethod
    def private_key(
        self,
        setting: str,
        *,
        generate: Callable[[], _Key],
        parse: Callable[[str], _Key],
        load: Callable[[Path, str | None], _Key],
    ) -> _Key:
        """Return a private key of the node's own.

        Parameters
        ----------
        setting : str
            Names the key file of a deployed node.
        generate : callable
            Makes the key of a simulated node, which keeps it in its state.
        parse : callable
            Reads it from there.
        load : callable
            Takes the path of the key file and the passphrase, None without ``passphrase-file``.
        """

    @abstractmethod
    def opened(self) -> Store:
        """Return where company X notes which sums it has opened."""

    @abstractmethod
    def released(self) -> Store:
        """Return where a hospital notes what it has released under differential privacy."""

    @abstractmethod
    def check(self) -> None:
        """Check the node's whole configuration, before the node describes itself."""

    def _hospital(
        self, dataset: Dataset, model_path: Path | None, held_out: Callable[[], Dataset | None]
    ) -> HospitalData:
        """Return a hospital's data with the node's own terms."""
        packing, terms = self.packing, self.privacy
        return HospitalData(
            dataset,
            model_path,
            None if terms is None else Clipping(terms.clip, packing.fraction_bits),
            Limbs(packing.fraction_bits, packing.integer_bits),
            held_out,
        )


class SimulatedNode(Node):
    """A node of Flower's simulation, in which the last partition is company X.

    A simulated node has no disk of its own. Its keys and ledgers are in its state, which never
    leaves the simulation.
    """

    simulated = True

    @property
    def partition(self) -> int:
        """The node's number, from 0."""
        return self.numbers[0]

    @property
    def role(self) -> Role:
        """See Node."""
        partition, partitions = self.numbers
        return Role.KEY_HOLDER if partition == partitions - 1 else Role.HOSPITAL

    @property
    def name(self) -> str:
        """See Node."""
        return "company X" if self.role is Role.KEY_HOLDER else f"hospital-{self.partition + 1}"

    @property
    def hospital(self) -> HospitalData:
        """See Node; simulated data are the experiment's."""
        raise ProtocolError("a simulated node must be given data by its app, and has none")

    def private_key(
        self,
        setting: str,
        *,
        generate: Callable[[], _Key],
        parse: Callable[[str], _Key],
        load: Callable[[Path, str | None], _Key],
    ) -> _Key:
        """See Node; the first call makes the key."""
        record = self._record("keys")
        if setting not in record:
            record[setting] = generate().to_json()
        return parse(str(record[setting]))

    def opened(self) -> Store:
        """See Node."""
        return StateStore(self._record("opened"))

    def released(self) -> Store:
        """See Node."""
        return StateStore(self._record("released"))

    def check(self) -> None:
        """See Node; there is nothing that `role` does not check."""

    def _record(self, name: str) -> ConfigRecord:
        return self.context.state.config_records.setdefault(f"fl-he.{name}", ConfigRecord())

    @cached_property
    def numbers(self) -> tuple[int, int]:
        """The node's number, from 0, and how many nodes there are."""
        config = self.context.node_config
        partition, partitions = config.get("partition-id"), config.get("num-partitions")
        whole = isinstance(partition, int) and isinstance(partitions, int)
        if not whole or not DEPLOYED_ONLY.isdisjoint(config):
            raise without_role(config, deployed=False)
        return cast(int, partition), cast(int, partitions)
