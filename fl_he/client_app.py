"""The ClientApp: which handlers a node has, and which data they get.

The same app runs on every node; ``clients.node`` says which part a node plays. A deployed hospital
reads its own table, named in its node configuration; a simulated one gets its share of the
simulation's data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.clientapp import ClientApp

from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.hospital import HospitalData, add_hospital
from fl_he.clients.key_holder import KeyHolderPolicy, with_key_holder
from fl_he.clients.node import node_setting, read_node
from fl_he.config_schema import Config, CryptoConfig
from fl_he.crypto.packing import Packing
from fl_he.learning.data import Dataset, load_table
from fl_he.learning.scaling import Scaling
from fl_he.messages import ProtocolError


def build(config: Callable[[Context], Config]) -> ClientApp:
    """Return the app of hospitals and key holder.

    Parameters
    ----------
    config : callable
        Returns the experiment's configuration; it is asked on simulated nodes only.
    """

    def data(context: Context) -> HospitalData:
        if read_node(context).simulated:
            return _simulated(context, config(context))
        return _deployed(context)

    def policy(context: Context) -> KeyHolderPolicy:
        if not read_node(context).simulated:
            return KeyHolderPolicy()
        chosen = config(context)
        _check_nodes(context, chosen)
        return KeyHolderPolicy(
            chosen.min_contributors, _packing(chosen.crypto), chosen.crypto.key_bits
        )

    def packing(context: Context) -> Packing:
        if not read_node(context).simulated:
            return Packing()
        return _packing(config(context).crypto)

    app = add_hospital(ClientApp(mods=[EncryptionMod(packing)]), data)
    return with_key_holder(app, policy, lambda context: data(context).dataset.feature_names)


def _simulated(context: Context, config: Config) -> HospitalData:
    from fl_he.simulated_data import simulated_data  # noqa: PLC0415 - a deployed node needs it not

    _check_nodes(context, config)
    node = read_node(context)
    simulated = simulated_data(config)
    folder = Path(config.output_dir or f"outputs/run-{context.run_id}")
    return HospitalData(
        dataset=simulated.hospitals[node.partition or 0],
        scaling=simulated.scaling,
        model_path=folder / "hospitals" / node.name / "model.json",
    )


def _packing(crypto: CryptoConfig) -> Packing:
    return Packing(crypto.fraction_bits, crypto.integer_bits, crypto.max_contributors)


def _check_nodes(context: Context, config: Config) -> None:
    nodes = int(context.node_config["num-partitions"])
    needed = config.hospitals + 1
    if nodes != needed:
        raise ProtocolError(
            f"hospitals={config.hospitals} needs {needed} simulated SuperNodes (one more for "
            f"company X), got {nodes}: start it with `flwr run . --federation-config "
            f"'num-supernodes={needed}'`"
        )


def _deployed(context: Context) -> HospitalData:
    path, target = node_setting(context, "data"), node_setting(context, "target")
    if path is None or target is None:
        raise ProtocolError(
            "a deployed hospital must be given data and target in its node configuration: the "
            "path of its table and the name of the column to predict"
        )
    model_path = node_setting(context, "model-path")
    dataset = load_table(path, target, positive=node_setting(context, "positive"))
    return HospitalData(
        dataset=dataset,
        scaling=_unscaled(dataset),
        model_path=None if model_path is None else Path(model_path),
    )


def _unscaled(dataset: Dataset) -> Scaling:
    features = len(dataset.feature_names)
    return Scaling(mean=np.zeros(features), scale=np.ones(features))


@lru_cache(maxsize=4)
def _composed(config_name: str, overrides: str) -> Config:
    from fl_he.config import compose  # noqa: PLC0415 - Hydra is slow to import and unused in deployment

    return compose(config_name, overrides)


app = build(
    lambda context: _composed(
        str(context.run_config["config-name"]), str(context.run_config["overrides"])
    )
)
