"""One run: the settings that belong to no group, and the groups.

What the settings mean: the docstrings of the schema, for the help and the documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from typing import Any, get_type_hints

import docstring_parser

from fl_he.config.capc import CapcConfig
from fl_he.config.choices import ClassWeight, Scaling, Topology, Tracking
from fl_he.config.crypto import CryptoConfig
from fl_he.config.data import DataConfig
from fl_he.config.optimizer import OptimizerConfig
from fl_he.config.partition import PartitionConfig
from fl_he.config.privacy import PrivacyConfig


@dataclass
class Config:
    """One experiment.

    Attributes
    ----------
    data, partition, optimizer : DataConfig, PartitionConfig, OptimizerConfig
    privacy : PrivacyConfig
        The groups of ``fl_he/conf``.
    crypto : CryptoConfig
        Key and packing.
    capc : CapcConfig
        CaPC in place of training.
    hospitals, rounds : int
        Number of hospitals, and of optimisation steps at most; at least 1 each.
    topology : Topology
        ``fold``: the coordinator adds the ciphertexts as they arrive; ``chain``: each hospital adds
        its own to the running sum it is handed.
    sealed : bool
        Whether the sum travels in envelopes that the coordinator cannot read, and the hospitals
        keep the model to themselves (topology=chain and deployed nodes with a manifest only).
    segments : int or "auto"
        How many chains run side by side, at least 1 (topology=chain only); ``auto``: about the
        square root of the number of hospitals.
    scaling : Scaling
        Units of the model: ``federated``, standardised by the mean and variance of all hospitals'
        training data, from two encrypted sums before the first round (with privacy one noisy sum);
        ``ranges``, by declared ranges, which become -1 to 1; ``local``, by each hospital's own mean
        and variance; ``none``, as in the tables.
    ranges : str or None
        CSV file with the columns feature, low and high (or a JSON list of objects with these
        members): between what most of a feature's values are by public knowledge, not by looking
        at the data; ``breast_cancer``: those that fl-he has for that data set. None unless
        ``scaling=ranges``, or ``federated`` with privacy, where values are clipped to them.
    tolerance : float
        Training stops with the step at which the norm of the penalised gradient is no larger; at
        least 0.
    class_weight : ClassWeight
        ``balanced``: a class weighs the more the rarer it is in all data, as in scikit-learn.
    C : float or None
        Inverse strength of the L2 penalty as in scikit-learn, above 0; None for no penalty. The
        intercept is never penalised.
    evaluate : bool
        Whether the hospitals count, encrypted, what the final model predicts right on data that
        they hold out: one more sum at the end. A simulation deals the test set out; a deployed
        hospital names its own as ``test-data``.
    test_size : float
        Share of the patients held out for the comparison, below 1; 0 trains on all of them, and
        then nothing is compared and no test figure is known.
    seed : int
        Seed of the data splits, from 0 to 2**32 - 1. Keys and ciphertexts never use it.
    min_contributors : int
        Fewest updates that a total may consist of, for the strategy and for company X; at least 1.
    hop_timeout : float
        Seconds that a hospital has to reply to one message, above 0; after them it is skipped.
    key_holder_timeout : float
        Seconds that company X has to open a sum, restarts of its node included, above 0.
    tracking : Tracking
        Where to log the figures too: ``mlflow``, to ``mlflow.db`` in the current folder;
        ``tensorboard``, to a folder of that name in the run's; ``both``. Each needs the extra of
        its name; nothing leaves the machine.
    verbose : bool
        Whether to show Flower's own log.
    output_dir : str or None
        The run's folder; None: ``outputs/<date>/<time>``. One that holds another run's results is
        refused. Of a sweep (``-m``): the folder of its runs ``0``, ``1``, ...; None:
        ``multirun/<date>/<time>``.
    resume : str or None
        The folder of a run that was cut off, to go on with it; None for a new run.
    """

    data: DataConfig = field(default_factory=DataConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    crypto: CryptoConfig = field(default_factory=CryptoConfig)
    capc: CapcConfig = field(default_factory=CapcConfig)
    hospitals: int = 3
    rounds: int = 15
    topology: Topology = Topology.fold
    sealed: bool = False
    segments: int | str = 1
    scaling: Scaling = Scaling.federated
    ranges: str | None = None
    tolerance: float = 1e-7
    class_weight: ClassWeight = ClassWeight.equal
    C: float | None = None
    evaluate: bool = False
    test_size: float = 0.25
    seed: int = 10
    min_contributors: int = 3
    hop_timeout: float = 600.0
    key_holder_timeout: float = 600.0
    tracking: Tracking = Tracking.none
    verbose: bool = False
    output_dir: str | None = None
    resume: str | None = None


def schema_keys(schema: type = Config) -> dict[str, Any]:
    """Return the dotted name and the type of every key of the schema, in its order."""
    keys: dict[str, Any] = {}
    for name, kind in get_type_hints(schema).items():
        if is_dataclass(kind) and isinstance(kind, type):
            keys |= {f"{name}.{key}": inner for key, inner in schema_keys(kind).items()}
        else:
            keys[name] = kind
    return keys


def descriptions(schema: type) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the meaning of each entry of a dataclass's section Attributes.

    Parameters
    ----------
    schema : type
        A dataclass of the schema.

    Yields
    ------
    tuple of list of str, and str
        Names that share an entry, and its text on one line, with the docstring's markup.
    """
    for entry in docstring_parser.parse(schema.__doc__ or "").params:
        text = " ".join((entry.description or "").split())
        yield entry.arg_name.split(", "), text.replace("None", "``null``")
