"""The ClientApp of fl-he's own runs: the same app on every node, hospital or company X.

A node of a simulated run is a `RunNode`, which has its share of the data, and the run's terms as
its own. For deployed nodes see `fl_he.clients.node`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp

from fl_he.capc.node.app import Capc
from fl_he.capc.node.party import Party
from fl_he.clients.blank_replies import blank_reply
from fl_he.clients.describing import Describing
from fl_he.clients.encryption import EncryptionMod, node_packing
from fl_he.clients.hospital import (
    HospitalData,
    add_hospital,
    zero_model,
)
from fl_he.clients.key_holder import KeyHolder, node_policy
from fl_he.clients.node.app import NodeApp, check_first, read_node
from fl_he.clients.node.node import KeyHolderPolicy, SimulatedNode
from fl_he.clients.pairing import answer_pairing
from fl_he.clients.private_release import private_release
from fl_he.clients.row_sums import columns_behind
from fl_he.clients.table_cells import add_tables
from fl_he.clients.totals.app import SealedChain
from fl_he.clients.totals.model import ModelKeeper
from fl_he.clients.totals.training import TrainingLearner
from fl_he.config.groups import Collusion
from fl_he.config.run import Config
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.packing import Packing
from fl_he.experiment.data import SimulatedData, simulated_data, with_sites
from fl_he.experiment.private_settings import with_private_settings
from fl_he.experiment.terms import packing_of, privacy_of
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.data import Dataset
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.records import ProtocolError


class RunNode(SimulatedNode):
    """A simulated node that has the run's configuration.

    Parameters
    ----------
    context : Context
    config : callable
        Returns the configuration of the run that the node takes part in.
    data : callable
        Returns the data of the simulation that a configuration describes.
    """

    def __init__(
        self,
        context: Context,
        config: Callable[[Context], Config],
        data: Callable[[Config], SimulatedData],
    ) -> None:
        super().__init__(context)
        self._config, self._simulated = config, data

    @cached_property
    def config(self) -> Config:
        """The run's configuration; ProtocolError if it is not for this many nodes."""
        _, nodes = self.numbers
        config = with_sites(self._config(self.context))
        needed = config.hospitals + 1
        if nodes != needed:
            raise ProtocolError(
                f"hospitals={config.hospitals} needs {needed} simulated SuperNodes (one more for "
                f"company X), got {nodes}: start it with `flwr run . --federation-config "
                f"'num-supernodes={needed}'`"
            )
        return with_private_settings(config)

    @property
    def name(self) -> str:
        """See Node: where the hospitals are sites, their own names."""
        sites = self.config.partition.sites
        return sites[self.numbers[0]] if sites and self.role is Role.HOSPITAL else super().name

    @cached_property
    def policy(self) -> KeyHolderPolicy:
        """See Node."""
        config = self.config
        kind = KeyKind(config.crypto.key_kind)
        bits = config.crypto.key_bits
        return KeyHolderPolicy(config.min_contributors, key_bits=bits, key_kind=kind)

    @cached_property
    def packing(self) -> Packing:
        """See Node."""
        return packing_of(self.config.crypto, self.hospital_count)

    @cached_property
    def privacy(self) -> GaussianPrivacy | None:
        """See Node."""
        return privacy_of(self.config)

    @property
    def resistant(self) -> bool:
        """See Node."""
        return self.config.crypto.collusion is Collusion.resistant

    def table(self) -> tuple[Dataset, Path | None]:
        """See Node."""
        folder = Path(self.config.output_dir or f"outputs/run-{self.context.run_id}")
        model_path = folder / "hospitals" / self.name / "model.json"
        return self._data.hospitals[self.numbers[0]], model_path

    def held_out(self) -> Dataset | None:
        """See Node."""
        return self._data.test_share(self.numbers[0])

    def party(self) -> Party:
        """Return the node's part in CaPC; ProtocolError in a run without."""
        from fl_he.capc.simulation import SimulatedParty  # noqa: PLC0415 - lazy: scikit-learn

        if not self.config.capc.enabled:
            raise ProtocolError("capc.enabled must be true in the configuration, got false")
        return SimulatedParty(self.config, self.numbers[0])

    @property
    def _data(self) -> SimulatedData:
        return self._simulated(self.config)


def build(
    config: Callable[[Context], Config], data: Callable[[Config], SimulatedData] = simulated_data
) -> ClientApp:
    """Return the app of hospitals and company X.

    Parameters
    ----------
    config : callable
        Returns the experiment's configuration; it is asked on simulated nodes only.
    data : callable
        Returns the data of a simulation. Unless given, each process of nodes computes them.
    """

    def simulated(context: Context) -> RunNode:
        return RunNode(context, config, data)

    mod = EncryptionMod(
        privacy=private_release,
        required_metrics=True,
        group="crypto.",
        columns=lambda context, *value: columns_behind(_data(context).dataset, *value),
        declared=lambda message, context: blank_reply(
            message.metadata.message_type, message.content, _data(context)
        ),
    )
    return NodeApp(
        add_tables(add_hospital(ClientApp(mods=[mod]), _data), _data),
        [
            Capc(lambda context: simulated(context).party()),
            check_first,
            answer_pairing,
            SealedChain(ModelKeeper(TrainingLearner(), _initial, node_packing), mod=mod),
            Describing(node_policy, mod),
            KeyHolder(
                node_policy,
                features=lambda context: _data(context).dataset.feature_names,
                classes=lambda context: _data(context).dataset.classes,
                imputed=_imputed,
                family=lambda context: _data(context).dataset.family,
                exposure=lambda context: _data(context).dataset.exposure_name,
            ),
        ],
        simulated,
    )


def _data(context: Context) -> HospitalData:
    return read_node(context).hospital


def _imputed(context: Context) -> Sequence[str]:
    waiting = _data(context).dataset.incomplete
    return () if waiting is None else waiting.names


def _initial(context: Context) -> ArrayRecord:
    return zero_model(_data(context).dataset)


@lru_cache(maxsize=4)
def _composed(run_config: tuple[tuple[str, UserConfigValue], ...]) -> Config:
    from fl_he.config.composition import (  # noqa: PLC0415 - lazy: Hydra is slow to import
        compose_run,
    )

    return compose_run(dict(run_config))


app = build(lambda context: _composed(tuple(sorted(context.run_config.items()))))
