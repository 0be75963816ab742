"""The ClientApp of fl-he's own runs: the same app on every node, hospital or company X.

What a node is, has and insists on it is asked itself: `fl_he.clients.node`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from flwr.app import ArrayRecord, Context
from flwr.clientapp import ClientApp

from fl_he.capc.node.app import Capc
from fl_he.capc.node.party import Party
from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.hospital import HospitalData, add_hospital, descent_step, zero_model
from fl_he.clients.key_holder import KeyHolder, node_policy
from fl_he.clients.node.app import NodeApp, check_first, read_node
from fl_he.clients.private_release import private_release
from fl_he.clients.sealed.app import SealedChain
from fl_he.clients.sealed.model import ModelKeeper
from fl_he.config import Config
from fl_he.experiment.simulated_node import RunNode
from fl_he.wire.records import ProtocolError


def build(config: Callable[[Context], Config]) -> ClientApp:
    """Return the app of hospitals and key holder.

    Parameters
    ----------
    config : callable
        Returns the experiment's configuration; it is asked on simulated nodes only.
    """

    def simulated(context: Context) -> RunNode:
        return RunNode(context, config)

    mod = EncryptionMod(privacy=private_release, group="crypto.")
    return NodeApp(
        add_hospital(ClientApp(mods=[mod]), _data),
        [
            Capc(lambda context: _party(simulated(context))),
            check_first,
            SealedChain(ModelKeeper(descent_step, _initial)),
            KeyHolder(
                node_policy,
                features=lambda context: _data(context).dataset.feature_names,
                classes=lambda context: _data(context).dataset.classes,
            ),
        ],
        simulated,
    )


def _data(context: Context) -> HospitalData:
    return read_node(context).hospital


def _initial(context: Context) -> ArrayRecord:
    return zero_model(_data(context).dataset)


def _party(node: RunNode) -> Party:
    from fl_he.capc.simulation import simulated_party  # noqa: PLC0415 - lazy: needs scikit-learn

    if not node.config.capc.enabled:
        raise ProtocolError("capc.enabled must be true in the configuration, got false")
    return simulated_party(node.config, node.numbers[0])


@lru_cache(maxsize=4)
def _composed(config_name: str, overrides: str) -> Config:
    from fl_he.config.composition import compose  # noqa: PLC0415 - lazy: Hydra is slow to import

    return compose(config_name, overrides)


app = build(
    lambda context: _composed(
        str(context.run_config["config-name"]), str(context.run_config["overrides"])
    )
)
