"""Groups of settings other than CaPC's: data, simulation, partition, optimizer, privacy, crypto.

A new built-in data set or privacy mechanism is named here. A new optimizer is not: its file in
``fl_he/conf/optimizer`` is its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fl_he.config.constraints import Constraint, Epsilon, Finite, Positive, Share, one_of, whole

#: The data sets that need no file, and how many classes each has.
BUILT_IN = {"breast_cancer": 2, "digits": 10, "mnist": 10, "wine": 3}


def _choices(group: str) -> tuple[str, ...]:
    """Return the names of the files in a folder of ``fl_he/conf``."""
    return tuple(
        sorted(path.stem for path in Path(__file__).parents[1].glob(f"conf/{group}/*.yaml"))
    )


DATA_SETS, OPTIMIZERS = _choices("data"), _choices("optimizer")
#: Forecasts at which bins of encrypted counts end if they can, so that thresholds are known there.
RISKS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: A value that follows from the other settings and the nodes.
AUTO = "auto"
#: Of a hospital that does not answer: wait for it, stop the run, or continue without it.
WAIT, STOP, CONTINUE = "wait", "stop", "continue"
ON_DROPOUT = (AUTO, WAIT, STOP, CONTINUE)
#: The mechanism of differential privacy.
PRIVACY = "gaussian"
#: The settings that a simulation with privacy chooses unless somebody gives them.
CHOSEN = ("rounds", "optimizer.lr", "privacy.clip")
#: Families of models of a target that is a number.
FAMILIES = ("gaussian", "poisson", "negative_binomial", "gamma", "cox")
#: Ways to treat tied events of a Cox model.
TIES = ("efron", "breslow")
#: Bits of the largest modulus that the crypto layer takes.
KEY_BITS_LIMIT = 8192


def _is_path(value: Any) -> bool:
    several = isinstance(value, list) and len(value) > 1
    return value is None or all(
        isinstance(name, str) and name.strip() for name in (value if several else [value])
    )


_FILES = Constraint(
    "a file, a list of two or more files such as [north.csv,south.csv], or null", _is_path
)


@dataclass
class DataConfig:
    """Table to learn from.

    Attributes
    ----------
    name : str
        Set by the choice of ``data=``.
    path : str, list of str, or None
        The table's CSV or Parquet file, with a header; None for a data set that needs none. Of
        several files, ``"data.path=[north.csv,south.csv,west.csv]"``, each is a hospital of a
        simulation, and its name without the ending is the hospital's.
    target : str or None
        Name of the column to predict.
    positive : str or None
        The label that counts as 1. A target of 0 and 1, or true and false, needs none.
    threshold : float or None
        Makes a numeric target binary: 1 from this value on; excludes `positive`.
    classes : list of str
        Labels of more than two classes, in their order: ``"data.classes=[a,b,c]"``; excludes both.
    family : str or None
        Family of models of a target that is a number: ``gaussian`` (linear regression),
        ``poisson`` (counts), ``negative_binomial`` (counts that vary more), ``gamma`` (positive
        numbers, with a logarithmic link) or ``cox`` (times to an event, stratified by hospital);
        None: the target is a class.
    event : str or None
        With family cox: the column that says by 0 and 1 whether the event was seen.
    ties : str or None
        With family cox: how tied events are treated, ``efron`` or ``breslow``; None: ``efron``.
    exposure : str or None
        With family poisson, negative_binomial or gamma: the column of numbers above 0, such as
        years of observation, of which the mean outcome is a multiple. It is no feature.
    reference : str or None
        The class of more than two that the others are compared with; None: the first.
    drop : list of str
        Columns that are not features: ``"data.drop=[id,name]"``.
    schema : str or None
        YAML file that describes the columns, the outcome and the model's terms, in the place of
        `target`, `positive`, `threshold`, `classes`, `family`, `event`, `ties`, `exposure` and
        `drop`: see docs/schema.md.
    reading : list of str
        YAML files that say how each file of `path` is written, where the schema's `reading` does
        not: ``"data.reading=[north.yaml,south.yaml,'']"``; an empty name: as the schema says.
    source : str or None
        Where such a file comes from, for the error when it is missing.
    """

    name: Annotated[str, one_of(*DATA_SETS)] = "breast_cancer"
    path: Annotated[Any, _FILES] = None
    target: str | None = None
    positive: str | None = None
    threshold: Finite | None = None
    classes: list[str] = field(default_factory=list)
    family: Annotated[str, one_of(*FAMILIES)] | None = None
    event: str | None = None
    ties: Annotated[str, one_of(*TIES)] | None = None
    exposure: str | None = None
    reference: str | None = None
    drop: list[str] = field(default_factory=list)
    schema: str | None = None
    reading: list[str] = field(default_factory=list)
    source: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The table's files: none for a built-in data set, several for a simulation of sites."""
        return tuple(self.path) if isinstance(self.path, list) else (self.path,) * bool(self.path)


@dataclass
class InferenceConfig:
    """Intervals and tests of a run without an L2 penalty.

    Attributes
    ----------
    groups : list of lists of str
        Columns whose coefficients are tested together, such as the levels of a factor:
        ``"inference.groups=[[stage_2,stage_3],[site_b,site_c]]"``. With a schema a category's name
        stands for its levels.
    profile : list of str
        Columns whose coefficients get profile likelihood intervals in addition to Wald's:
        ``"inference.profile=[age,stage_2]"``. All of them take one sum an iteration together
        (two with ``penalty=firth``), and at most ``rounds`` iterations.
    sites : bool
        Whether the hospitals are compared: Cochran's Q and I2 of each coefficient, and standard
        errors that are robust to clusters of patients of one hospital, from ten hospitals on. One
        more sum at the end.
    """

    groups: list[list[str]] = field(default_factory=list)
    profile: list[str] = field(default_factory=list)
    sites: bool = False


@dataclass
class DescribeConfig:
    """A table of descriptive statistics instead of training.

    Attributes
    ----------
    enabled : bool
        Whether the run makes a table; ``experiment=table1`` sets it.
    columns : list of str
        Columns of the table, in its order; empty: all of the schema's terms, or all features, and
        ``outcome`` if it is of classes.
    by : str or None
        ``outcome``, or a column of type category or boolean: a group for each of its levels, with
        standardised differences if there are two; None: all rows together.
    bins : int
        Bins of equal width between the declared bounds of a column of numbers: a quartile is
        shown as its bin. Columns without bounds have no quartiles.
    grid : list of float
        Times of Kaplan-Meier curves and of the log-rank test, such as ``"describe.grid=[12,24]"``,
        of an outcome of family cox. A time counts as the first of the grid that is not earlier.
    """

    enabled: bool = False
    columns: list[str] = field(default_factory=list)
    by: str | None = None
    bins: Annotated[int, whole(1, 1_000)] = 20
    grid: list[float] = field(default_factory=list)


class Engine(StrEnum):
    """Engine that runs the nodes of a simulation: see :attr:`SimulationConfig.engine`."""

    ray = "ray"
    local = "local"


#: IPv6 stands in brackets.
_CLUSTER = Constraint(
    "HOST:PORT of a Ray cluster",
    lambda address: re.fullmatch(r"([\w.-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}", address) is not None,
)


@dataclass
class SimulationConfig:
    """Engine and workers of a simulation; no figure depends on them.

    Attributes
    ----------
    engine : Engine
        ``local``: one node after another in the process of the command; ``ray``: on Flower's
        simulation engine in Ray's processes, as many nodes at once as there are cores.
    ray_address : str or None
        HOST:PORT of a Ray cluster that runs already and that this machine is part of, for
        ``engine=ray``; null starts Ray on this machine.
    """

    engine: Engine = Engine.local
    ray_address: Annotated[str, _CLUSTER] | None = None


class PartitionScheme(StrEnum):
    """Ways to divide patients among the hospitals of a simulation."""

    even = "even"
    uneven = "uneven"
    by_label = "by_label"
    column = "column"


@dataclass
class PartitionConfig:
    """Division of the patients among the hospitals of a simulation.

    Attributes
    ----------
    scheme : PartitionScheme
        Equal parts (``even``), parts of uneven size, or of uneven case mix (``by_label``); or a
        hospital for each value of a column of the table (``column``).
    alpha : float
        Parameter of the symmetric Dirichlet distribution of ``uneven`` and ``by_label``; the
        smaller, the more uneven.
    column : str or None
        Name of the column that says which hospital a row is of: ``"partition=column
        partition.column=site"``. It is no feature.
    sites : list of str
        Names of the hospitals where files or a column say them. fl-he fills it in.
    """

    scheme: PartitionScheme = PartitionScheme.even
    alpha: Positive = 1.0
    column: str | None = None
    sites: list[str] = field(default_factory=list)


@dataclass
class OptimizerConfig:
    """The step that follows each total.

    Attributes
    ----------
    name : str
        Set by the choice of ``optimizer=``. ``auto``: ``newton`` while the Hessian has at most
        20,000 values, else ``lbfgs``; ``gd`` for ``privacy=gaussian``.
    lr : float
        Learning rate of ``gd`` and ``nesterov``.
    """

    name: Annotated[str, one_of(*OPTIMIZERS)] = AUTO
    lr: Positive = 0.05


@dataclass
class PrivacyConfig:
    """Differential privacy for the patients; all of it or none.

    Attributes
    ----------
    name : str
        ``none``, or ``gaussian``: clipped gradients and a share of discrete Gaussian noise from
        each hospital.
    epsilon : float or None
        The budget of the whole run.
    delta : float or None
        Delta of (epsilon, delta) differential privacy.
    clip : float or None
        Largest L2 norm of one patient's gradient.
    scaling : float or None
        Share of the budget for the noisy sums of ``scaling=federated``; with another scaling there
        are none, and all of the budget is for the gradients.
    chosen : list of str
        Which of ``rounds``, ``optimizer.lr`` and ``privacy.clip`` nobody gave: a simulation chooses
        them by rows, features and epsilon. fl-he fills it in.
    """

    name: Annotated[str, one_of("none", PRIVACY)] = "none"
    epsilon: Epsilon | None = None
    delta: Share | None = None
    clip: Positive | None = None
    scaling: Share | None = None
    chosen: list[str] = field(default_factory=list)


_KEY_BITS = Constraint(
    f"an even number from 1024 to {KEY_BITS_LIMIT}",
    lambda bits: 1024 <= bits <= KEY_BITS_LIMIT and bits % 2 == 0,
)


class Scheme(StrEnum):
    """The encryption of updates: see :attr:`CryptoConfig.scheme`."""

    paillier = "paillier"
    masks = "masks"
    auto = "auto"


class KeyKind(StrEnum):
    """The kind of Paillier keys: see :attr:`CryptoConfig.key_kind`."""

    short = "short"
    djn = "djn"


#: Hospitals that may mask for each other: of two each is the other's complement, and more than 300
#: have too many pairs.
FEWEST_MASKING, MOST_MASKING = 3, 300


class Collusion(StrEnum):
    """Protection from parties that work together: see :attr:`CryptoConfig.collusion`."""

    none = "none"
    resistant = "resistant"


@dataclass
class CryptoConfig:
    """The encryption of updates, and the fixed-point numbers in it.

    Attributes
    ----------
    scheme : Scheme
        ``paillier``, or ``masks``: faster for long updates; ``auto``: the cheapest that all nodes
        accept (``scheme`` in a node's configuration).
    key_bits : int
        Bits of Paillier's modulus; fewer than 2048 warn, 3072 are for 128-bit security. In a
        simulation: a deployed company X has its own setting, ``key-bits``.
    key_kind : KeyKind
        Of Paillier keys, CaPC's too: ``short``: fast, with the randomness of ciphertexts in a small
        hidden group; ``djn``: without that assumption. docs/security.md compares them. In a
        simulation: a deployed company X has its own setting, ``key-kind``.
    fraction_bits : int
        Bits after the binary point of one weighted value. With those before the point, the sign
        and the room for the contributors they must fit 64 bits.
    integer_bits : int
        Bits before the binary point.
    collusion : {"none", "resistant"}
        ``resistant``: hospitals mask their updates, and in CaPC their votes, pairwise, so that
        company X and the coordinator together open no single one; all must answer each sum. In a
        simulation: a deployed hospital has its own setting, ``collusion``.
    max_contributors : int or None
        The most updates that one sum has room for; null: the number of hospitals in the simulation
        or in the manifest, and 512 without either.
    """

    scheme: Scheme = Scheme.paillier
    collusion: Collusion = Collusion.none
    key_bits: Annotated[int, _KEY_BITS] = 2048
    key_kind: KeyKind = KeyKind.short
    fraction_bits: Annotated[int, whole(0, 62)] = 24
    integer_bits: Annotated[int, whole(1, 62)] = 24
    max_contributors: Annotated[int, whole(1, 1_000_000)] | None = None

    def contributors(self, known: int) -> int:
        """Return `max_contributors`, or where it is null the number that is known otherwise."""
        return known if self.max_contributors is None else self.max_contributors
