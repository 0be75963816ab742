"""One run: the settings that belong to no group, and the groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_type_hints

from fl_he.config.capc import CapcConfig
from fl_he.config.constraints import Constraint, Positive, Seconds, one_of, whole
from fl_he.config.groups import (
    AUTO,
    ON_DROPOUT,
    RISKS,
    CryptoConfig,
    DataConfig,
    DescribeConfig,
    InferenceConfig,
    OptimizerConfig,
    PartitionConfig,
    PartitionScheme,
    PrivacyConfig,
    SimulationConfig,
)


class Topology(StrEnum):
    """Node that adds the ciphertexts: the coordinator (fold) or each hospital in turn (chain)."""

    fold = "fold"
    chain = "chain"


class Scaling(StrEnum):
    """In which units the hospitals' features are: see :attr:`Config.scaling`."""

    federated = "federated"
    ranges = "ranges"
    local = "local"
    none = "none"


class ClassWeight(StrEnum):
    """Weight of an example in the loss, by its class."""

    equal = "equal"
    balanced = "balanced"


class Penalty(StrEnum):
    """Term added to the log likelihood: see :attr:`Config.penalty`."""

    l2 = "l2"
    firth = "firth"


class Tracking(StrEnum):
    """Tracker that logs a run in addition to its own files."""

    none = "none"
    mlflow = "mlflow"
    tensorboard = "tensorboard"
    both = "both"


_SHARE_HELD_OUT = Constraint("at least 0 and below 1", lambda share: 0 <= share < 1)
_SOME_RISKS = Constraint(f"among {', '.join(map(str, RISKS))}", lambda given: {*given} <= {*RISKS})
_FOLDER = Constraint("a folder", lambda name: name.strip() != "")


@dataclass
class Config:
    """One experiment.

    Attributes
    ----------
    data, partition, optimizer : DataConfig, PartitionConfig, OptimizerConfig
    privacy : PrivacyConfig
        The groups of ``fl_he/conf``.
    inference : InferenceConfig
        Intervals and tests of the coefficients.
    describe : DescribeConfig
        Descriptive statistics in place of training.
    crypto : CryptoConfig
        Key and packing.
    capc : CapcConfig
        CaPC in place of training.
    simulation : SimulationConfig
        Where the nodes of a simulation run.
    hospitals, rounds : int
        Number of hospitals, and of optimisation steps at most; with privacy the budget pays for
        all of them. Files and columns of sites give the number of hospitals themselves.
    topology : Topology
        ``fold``: the coordinator adds the ciphertexts as they arrive; ``chain``: each hospital adds
        its own to the running sum it is handed.
    sealed : bool
        Whether the sum travels in envelopes that the coordinator cannot read, and the hospitals
        keep the model to themselves (topology=chain and deployed nodes with a manifest only).
    segments : int or "auto"
        How many chains run side by side, from 1 to the number of hospitals (topology=chain only);
        ``auto``: about the square root of that number.
    scaling : Scaling
        Units of the model: ``federated``, standardised by the mean and variance of all hospitals'
        training data, from two encrypted sums before the first round (with privacy one noisy sum);
        ``ranges``, by declared ranges, which become -1 to 1; ``local``, by each hospital's own mean
        and variance; ``none``, as in the tables. With ``optimizer=newton`` the mean of all
        hospitals, from two encrypted sums, becomes 0 with ``ranges`` and ``none`` too.
    ranges : str or None
        CSV file with the columns feature, low and high (or a JSON list of objects with these
        members): between what most of a feature's values are by public knowledge, not by looking
        at the data; ``breast_cancer``: those that fl-he has for that data set. None unless
        ``scaling=ranges``, or ``federated`` with privacy, where values are clipped to them.
    outcome_bounds : list of float
        With privacy and a target that is a number: between what it is by public knowledge, not by
        looking at the data, such as ``"outcome_bounds=[0,30]"``. Outcomes beyond count as the
        bound; with ``transform`` in the schema the bounds are those of the transformed outcome.
    tolerance : float
        Training stops with the step at which this distance from the optimum is no larger: with
        ``newton`` the Newton decrement, which is in standard errors of the estimates; else the norm
        of the penalised gradient.
    class_weight : ClassWeight
        ``balanced``: a class weighs the more the rarer it is in all data, as in scikit-learn;
        probabilities are then shifted towards equal classes, and are no forecasts of the share of
        patients.
    penalty : Penalty
        ``l2``, of strength ``C``; ``firth``: half the log determinant of the information, so that
        estimates are finite where classes can be separated, and less biased where events are rare
        (two classes and ``C=null`` only; two sums a round).
    C : float or None
        Inverse strength of the L2 penalty as in scikit-learn; None for no penalty. The intercept is
        never penalised.
    site_intercepts : bool
        Whether each hospital has its own intercept, which never leaves it, so that the
        coefficients are those of fixed effects of the hospitals (``optimizer=newton`` and
        ``test_size=0`` only; of two classes, or of family gaussian, poisson, negative_binomial or
        gamma).
    evaluate : bool
        Whether the hospitals count, encrypted, what the final model predicts right on data that
        they hold out, or add up expected and observed outcomes that are numbers: one more sum at
        the end. Company X alone sees its fine bins, and gives out figures without counts of 1 to 4
        patients. A simulation deals the test set out; a deployed hospital names its own as
        ``test-data``.
    risks : list of float
        Forecasts above which a patient counts as positive in the report's table of sensitivity,
        specificity and predictive values, of two classes with ``evaluate=true``.
    test_size : float
        Share of the patients held out for the comparison; 0 trains on all of them, and then no
        test figure is known.
    stratify : bool
        Whether training and test data have equal shares of each class, so that rare outcomes are
        not more or less frequent in one of them by chance.
    seed : int
        Seed of the data splits. Keys and ciphertexts never use it.
    plan : str or None
        The study plan that the run is under, a file of ``fl-he plan``: deployed nodes whose
        manifest names plans answer nothing else. None for a run without.
    min_contributors : int
        Fewest updates that a total may consist of, for the strategy and for company X.
    hop_timeout : float
        Seconds that a hospital has to reply to one message; after them it has not answered.
    key_holder_timeout : float
        Seconds that company X has to open a sum, restarts of its node included.
    on_dropout : str
        If a hospital does not answer: ``wait``, ask it again until it does, and open no total
        meanwhile; ``stop``, end the run, which can be resumed; ``continue``, sum up without it;
        ``auto``, ``wait`` where company X has a manifest, else ``continue``. A hospital that
        refuses ends the run with ``wait`` too. Without effect in CaPC.
    dropout_timeout : float
        Seconds that ``wait`` waits in one sum; then it stops the run.
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
        The folder of a run that was cut off, to continue it; None for a new run.
    """

    data: DataConfig = field(default_factory=DataConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    describe: DescribeConfig = field(default_factory=DescribeConfig)
    crypto: CryptoConfig = field(default_factory=CryptoConfig)
    capc: CapcConfig = field(default_factory=CapcConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    hospitals: Annotated[int, whole(1, 10_000)] = 3
    rounds: Annotated[int, whole(1, 100_000)] = 50
    topology: Topology = Topology.fold
    sealed: bool = False
    segments: int | str = 1
    scaling: Scaling = Scaling.federated
    ranges: str | None = None
    outcome_bounds: list[float] = field(default_factory=list)
    tolerance: Positive = 1e-7
    class_weight: ClassWeight = ClassWeight.equal
    penalty: Penalty = Penalty.l2
    C: Positive | None = 1.0
    site_intercepts: bool = False
    evaluate: bool = False
    risks: Annotated[list[float], _SOME_RISKS] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.5])
    test_size: Annotated[float, _SHARE_HELD_OUT] = 0.25
    stratify: bool = True
    seed: Annotated[int, whole(0, 2**32 - 1)] = 10
    plan: str | None = None
    min_contributors: Annotated[int, whole(1, 10_000)] = 3
    hop_timeout: Seconds = 600.0
    key_holder_timeout: Seconds = 600.0
    on_dropout: Annotated[str, one_of(*ON_DROPOUT)] = AUTO
    dropout_timeout: Seconds = 3600.0
    tracking: Tracking = Tracking.none
    verbose: bool = False
    output_dir: Annotated[str, _FOLDER] | None = None
    resume: str | None = None

    @property
    def names_sites(self) -> bool:
        """Whether files or a column say which rows are of which hospital."""
        return len(self.data.files) > 1 or self.partition.scheme is PartitionScheme.column

    @property
    def has_unknown_sites(self) -> bool:
        """Whether the number of hospitals is still to be found in files or in a column."""
        return self.names_sites and not self.partition.sites


@cache
def groups() -> Mapping[str, type]:
    """Return the schema of each group of settings by the group's name."""
    kinds = get_type_hints(Config).items()
    return {name: kind for name, kind in kinds if isinstance(kind, type) and is_dataclass(kind)}


@cache
def schema_keys() -> Mapping[str, Any]:
    """Return the dotted name and the type of every key of the schema, in its order."""
    keys: dict[str, Any] = {}
    for name, kind in get_type_hints(Config).items():
        inside = get_type_hints(kind) if name in groups() else {}
        keys |= {f"{name}.{key}": inner for key, inner in inside.items()} or {name: kind}
    return keys
