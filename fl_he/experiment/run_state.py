"""The checkpoint of a run at work, and what follows from it for an open run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import ArrayRecord

from fl_he.config import ClassWeight, Config
from fl_he.config import Scaling as ScalingChoice
from fl_he.experiment.declared_ranges import first_terms
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point
from fl_he.learning.regression import inference, likelihood, parameters
from fl_he.learning.regression.registry import classes_of, family_for
from fl_he.learning.tables.scaling import Scaling
from fl_he.run_files.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    plain_config,
    write_checkpoint,
)
from fl_he.strategies.encrypted_sum import UnopenedSum
from fl_he.strategies.gradient_descent import SummedObjective
from fl_he.strategies.pooled_sums import Preparation
from fl_he.strategies.roster import Roster
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.learning_terms import LearningTerms
from fl_he.wire.model import model_arrays


class CheckpointKeeper:
    """A run's checkpoint; each change is on the disk when `keep` returns.

    Parameters
    ----------
    folder : Path
        The run's; must exist when something is kept.
    checkpoint : Checkpoint
        From which the run goes on.
    start : float
        When it did, by `perf_counter`.

    Notes
    -----
    ``checkpoint`` is the last one.
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint, start: float) -> None:
        self.checkpoint = checkpoint
        self._folder = folder
        self._began = start - checkpoint.seconds

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, that before a resumption included."""
        return perf_counter() - self._began

    def keep(self, **changes: Any) -> None:
        """Change members of the checkpoint and write it."""
        self.checkpoint = replace(self.checkpoint, seconds=self.seconds, **changes)
        write_checkpoint(self._folder, self.checkpoint)


def resumed(
    strategy: SequentialPaillier, objective: SummedObjective, config: Config, folder: Path
) -> Checkpoint:
    """Let the strategy go on where the folder's run was cut off; raises CheckpointError."""
    checkpoint = load_checkpoint(folder, config)
    unopened = checkpoint.unopened
    strategy.resume(
        len(checkpoint.rounds),
        checkpoint.session,
        checkpoint.key_fingerprint,
        None if unopened is None else UnopenedSum.from_members(unopened),
    )
    if checkpoint.rounds:
        try:
            objective.optimizer.restore(checkpoint.optimizer)
        except DataError as error:
            raise CheckpointError(f"the checkpoint in {folder}: {error}") from error
    return checkpoint


def first_checkpoint(
    config: Config,
    feature_names: tuple[str, ...],
    classes: int,
    roster: Roster,
    earlier: Checkpoint | None,
) -> Checkpoint:
    """Return the state from which a run goes on: a new one, or the earlier one.

    Parameters
    ----------
    config : Config
    feature_names : tuple of str
        The hospitals'.
    classes : int
        At least 2.
    roster : Roster
        With company X's key and session, which may be new ones.
    earlier : Checkpoint or None
        Of the run that is resumed.

    Raises
    ------
    CheckpointError
        If the earlier run was of other features or classes.
    """
    fingerprint, features = roster.public_key.fingerprint, list(feature_names)
    zeros = family_for(classes).zeros(len(features), classes).tolist()
    if earlier is None:
        return Checkpoint(plain_config(config), features, roster.session, fingerprint, zeros)
    if earlier.features != features:
        raise CheckpointError(
            f"the features must be those of the run that is resumed, {earlier.features}, got "
            f"{features}"
        )
    if len(earlier.parameters) != len(zeros):
        raise CheckpointError(
            f"a checkpoint of {classes} classes must have {len(zeros)} parameters"
        )
    unopened = earlier.unopened if roster.session == earlier.session else None
    return replace(earlier, session=roster.session, key_fingerprint=fingerprint, unopened=unopened)


def arrays_of(checkpoint: Checkpoint) -> ArrayRecord:
    """Return the model as it is sent."""
    return model_arrays(
        *parameters.split(np.array(checkpoint.parameters), len(checkpoint.features))
    )


def triangle_of(point: Point | None) -> list[float] | None:
    """Return the Hessian of a round as the checkpoint keeps it."""
    if point is None or point.hessian is None:
        return None
    triangle: list[float] = likelihood.upper_triangle(point.hessian).tolist()
    return triangle


def inference_of(checkpoint: Checkpoint, config: Config, scaling: Scaling) -> dict[str, Any] | None:
    """Return the table of coefficients; ``None`` without odds ratios or for mixed units."""
    theta, features = np.array(checkpoint.parameters), checkpoint.features
    classes = classes_of(len(theta) // (len(features) + 1)) or 2
    if not family_for(classes).odds_ratios or config.scaling is ScalingChoice.local:
        return None
    cov = None
    # With class weights the inverse Hessian is not the estimates' covariance.
    if checkpoint.hessian is not None and config.class_weight is ClassWeight.equal:
        try:
            hessian = likelihood.from_upper_triangle(np.array(checkpoint.hessian), len(theta))
        except DataError as error:
            raise CheckpointError(f"the checkpoint: {error}") from error
        cov = inference.covariance(hessian, checkpoint.examples)
    return {
        "level": inference.LEVEL,
        "penalised": config.C is not None,
        "coefficients": inference.coefficient_table(theta, features, scaling, cov),
    }


def is_converged(checkpoint: Checkpoint) -> bool:
    """Return whether a round was within the tolerance."""
    return any(entry.get("converged") for entry in checkpoint.rounds)


def preparation_of(checkpoint: Checkpoint, config: Config) -> Preparation:
    """Return what is known of the pooled data, at first what is wanted."""
    if checkpoint.preparation is None:
        return Preparation(terms=first_terms(config, checkpoint.features))
    return Preparation.from_members(checkpoint.preparation)


def scaling_of(terms: LearningTerms, features: int) -> Scaling:
    """Return from what units the tables come to those of the model, as far as it is the same."""
    if terms.scaling != "federated":
        return Scaling.none(features)
    return Scaling(np.array(terms.mean), np.array(terms.scale))
