"""One simulated run: on Flower's Ray engine, or with all nodes in this process."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fl_he import client_app, server_app
from fl_he.clients.row_sums import require_moments
from fl_he.config.capc import Backend
from fl_he.config.constraints import ConfigError
from fl_he.config.groups import Engine
from fl_he.config.run import Config, Scaling
from fl_he.errors import FlHeWarning
from fl_he.experiment.data import simulated_data, warn_of_few, with_sites
from fl_he.experiment.flower_log import quiet
from fl_he.experiment.inference import check_columns, reference_number
from fl_he.experiment.local_grid import run_here
from fl_he.experiment.plan import described_form
from fl_he.experiment.private_settings import warn_of_units, with_private_settings
from fl_he.experiment.terms import chosen_optimizer, declared_ranges, privacy_figures
from fl_he.experiment.tracking import require_packages
from fl_he.learning.describing.cells import Bounded
from fl_he.learning.describing.noisy import noisy_sum
from fl_he.learning.errors import DataError
from fl_he.learning.regression.disclosure import MIN_CELL
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.regression.registry import family_of
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.events import Listener, Starting, unheard


def run(config: Config, output_dir: Path, on_event: Listener = unheard) -> dict[str, Any]:
    """Simulate the hospitals and company X on this machine and train a model.

    Parameters
    ----------
    config : Config
    output_dir : Path
        The run's folder.
    on_event : callable
        Is told each event of the run, from another thread; see :mod:`fl_he.wire.events`.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    FlHeError
        If the run refused.
    KeyboardInterrupt
        After Ctrl-C, when Ray has been shut down.
    """
    with warnings.catch_warnings(record=True) as caught:  # none precedes a refusal
        warnings.simplefilter("always", FlHeWarning)
        config = with_private_settings(with_sites(config))
        _check(config)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    on_event(Starting(config.simulation.engine.value))
    config = replace(config, output_dir=str(output_dir.resolve()))
    if config.capc.enabled and config.capc.backend is Backend.plain:
        from fl_he.capc.plain import run_plain  # noqa: PLC0415 - lazy: needs scikit-learn

        return run_plain(config, output_dir, on_event)
    app, nodes = client_app.build(lambda _: config), config.hospitals + 1

    def train(grid: Grid) -> dict[str, Any]:
        return server_app.train(grid, config, output_dir, on_event)

    with quiet(verbose=config.verbose):
        if config.simulation.engine is Engine.ray:
            from fl_he.experiment.ray_engine import run_in_ray  # noqa: PLC0415 - lazy: Flower's engine

            address, verbose = config.simulation.ray_address, config.verbose
            return run_in_ray(train, app, nodes, address=address, verbose=verbose)
        return run_here(train, app, nodes)


def _require_start(config: Config, train: Dataset, family: Family) -> None:
    """Refuse outcomes of which the best model of an intercept alone has no finite intercept."""
    if config.privacy.name != "none" or not isinstance(family, GlmFamily):
        return
    sums = family.outcome_sums(train.labels, train.exposed)
    moments = OutcomeMoments(*(sums / train.examples).tolist())
    try:
        family.start(len(train.feature_names), moments)
    except DataError as error:
        raise ConfigError(f"outcome {train.positive!r}: {error}") from None


def _check(config: Config) -> None:
    """Refuse now what the run would refuse after Ray has started; warn of data that are too few."""
    if config.sealed:
        raise ConfigError(
            "sealed must be false in a simulation, got true: its nodes have no manifest to take "
            "keys from; deploy them, or use topology=chain alone"
        )
    require_packages(config.tracking)
    if config.capc.enabled:
        from fl_he.capc import plain as capc_plain  # noqa: PLC0415 - lazy: needs scikit-learn

        capc_plain.check(config)
        return
    data = simulated_data(config)
    if config.describe.enabled:
        form = described_form(config, data.train)
        if config.privacy.name != "none":
            noisy_sum(form, Bounded(config.crypto.fraction_bits))
        return
    if (waiting := data.train.incomplete) is not None:
        data = data.completed(waiting.means(MIN_CELL))
    declared_ranges(config, data.train.feature_names)
    features, classes = len(data.train.feature_names), data.train.class_count
    family = family_of(data.train)
    optimizer = chosen_optimizer(config, features, classes, family)["name"]
    privacy_figures(config, features, classes, simulated=True, family=family)
    check_columns(config, data.train.feature_names)
    reference_number(config.data.reference, data.train.classes)
    second_order = optimizer == "newton"
    pooled = config.scaling is Scaling.federated or second_order
    if pooled and config.scaling is not Scaling.local and config.privacy.name == "none":
        limbs = Limbs(config.crypto.fraction_bits, config.crypto.integer_bits)
        of_files = len(config.data.files) == len(data.names) > 1
        sources = config.data.files if of_files else data.names if config.names_sites else ()
        require_moments(data.hospitals, data.train, limbs, sources)
    _require_start(config, data.train, family)
    warn_of_few(data, config)
    warn_of_units(config)
