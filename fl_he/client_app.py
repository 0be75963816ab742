"""The ClientApp: which handlers a node has, and which data they get.

The same app runs on every node; ``clients.node`` says which part a node plays. A deployed hospital
reads its own table, named in its node configuration; a simulated one gets its share of the
simulation's data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp

from fl_he.capc.node.app import with_capc
from fl_he.capc.node.party import Party
from fl_he.clients.clipping import Clipping
from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.hospital import (
    HospitalData,
    add_hospital,
    descent_step,
    zero_model,
)
from fl_he.clients.key_holder import KeyHolderPolicy, with_key_holder
from fl_he.clients.node.checks import CheckedApp
from fl_he.clients.node.role import read_node
from fl_he.clients.node.setting import node_path, node_setting
from fl_he.clients.private_release import PrivateGate, deployed_privacy, privacy_ledger
from fl_he.clients.sealed.app import with_sealed_chain
from fl_he.config import Config
from fl_he.crypto.paillier.packing import Packing
from fl_he.experiment.privacy_statement import privacy_of
from fl_he.experiment.run_figures import packing_of
from fl_he.learning.errors import DataError
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.data import Dataset, load_table
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import ProtocolError

_logger = logging.getLogger(__name__)


def build(config: Callable[[Context], Config]) -> ClientApp:
    """Return the app of hospitals and key holder.

    Parameters
    ----------
    config : callable
        Returns the experiment's configuration; it is asked on simulated nodes only.
    """

    def data(context: Context) -> HospitalData:
        if read_node(context).simulated:
            own = _simulated(context, config(context))
        else:
            own = _deployed(context)
        terms = privacy(context)
        if terms is None:
            return own
        return replace(own, clipping=Clipping(terms.clip, packing(context).fraction_bits))

    def privacy(context: Context) -> GaussianPrivacy | None:
        if read_node(context).simulated:
            return privacy_of(config(context))
        return deployed_privacy(context)

    def policy(context: Context) -> KeyHolderPolicy:
        if not read_node(context).simulated:
            return KeyHolderPolicy()
        chosen = config(context)
        _check_nodes(context, chosen)
        return KeyHolderPolicy(
            chosen.min_contributors, packing_of(chosen.crypto), chosen.crypto.key_bits
        )

    def packing(context: Context) -> Packing:
        if not read_node(context).simulated:
            return Packing()
        return packing_of(config(context).crypto)

    def limbs(context: Context) -> Limbs:
        own = packing(context)
        return Limbs(own.fraction_bits, own.integer_bits)

    def held_out(context: Context) -> Dataset | None:
        if not read_node(context).simulated:
            return _table(context, "test-data")
        from fl_he.experiment.data import simulated_data  # noqa: PLC0415 - as in _simulated

        return simulated_data(config(context)).test_share(read_node(context).partition or 0)

    def features(context: Context) -> tuple[str, ...]:
        names = data(context).dataset.feature_names
        # Looked at before training, not when it is over.
        if not read_node(context).simulated:
            test = _table(context, "test-data")
            if test is not None and test.feature_names != names:
                raise ProtocolError(
                    "test-data in the node configuration must have the columns of data"
                )
        return names

    gate = PrivateGate(privacy, packing, privacy_ledger)
    mod = EncryptionMod(packing, privacy=gate)
    app = add_hospital(ClientApp(mods=[mod]), data, limbs, held_out)
    app = with_key_holder(
        app, policy, features, classes=lambda context: data(context).dataset.classes
    )

    def party(context: Context) -> Party:
        from fl_he.capc.simulation import simulated_party  # noqa: PLC0415 - with scikit-learn

        chosen = config(context)
        if not chosen.capc.enabled:
            raise ProtocolError("capc.enabled must be true in the configuration, got false")
        _check_nodes(context, chosen)
        return simulated_party(chosen, read_node(context).partition or 0)

    checked = CheckedApp(
        with_sealed_chain(
            app,
            policy,
            step=descent_step,
            initial=lambda context: zero_model(data(context).dataset),
            packing=packing,
        )
    )
    return with_capc(checked, party)


def _simulated(context: Context, config: Config) -> HospitalData:
    from fl_he.experiment.data import simulated_data  # noqa: PLC0415 - a deployed node needs it not

    _check_nodes(context, config)
    node = read_node(context)
    simulated = simulated_data(config)
    folder = Path(config.output_dir or f"outputs/run-{context.run_id}")
    return HospitalData(
        dataset=simulated.hospitals[node.partition or 0],
        model_path=folder / "hospitals" / node.name / "model.json",
    )


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
    dataset = _table(context, "data")
    if dataset is None:
        raise ProtocolError("a deployed hospital must be given data and target")
    return HospitalData(dataset, node_path(context, "model-path"))


def _table(context: Context, setting: str) -> Dataset | None:
    path, target = node_path(context, setting), node_setting(context, "target")
    if path is None or target is None:
        return None
    threshold, drop = context.node_config.get("threshold"), node_setting(context, "drop")
    classes = node_setting(context, "classes")
    try:
        return load_table(
            path,
            target,
            positive=node_setting(context, "positive"),
            threshold=None if threshold is None else float(threshold),
            classes=() if classes is None else classes.split(","),
            drop=() if drop is None else drop.split(","),
        )
    except DataError as error:
        _logger.error("%s", error)  # it names paths and columns, which are this node's own
        raise ProtocolError(
            f"{setting} in the node configuration must name a table that can be used with target, "
            "positive, threshold, classes and drop as they are there: this node's log says what is "
            "wrong"
        ) from None


@lru_cache(maxsize=4)
def _composed(config_name: str, overrides: str) -> Config:
    from fl_he.config.composition import compose  # noqa: PLC0415 - Hydra is slow to import and unused in deployment

    return compose(config_name, overrides)


app = build(
    lambda context: _composed(
        str(context.run_config["config-name"]), str(context.run_config["overrides"])
    )
)
