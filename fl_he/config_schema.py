"""The typed schema of the configuration and the rules that its values must follow.

Plain dataclasses: types, defaults and checks are here, :mod:`fl_he.config` fills them with Hydra.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, is_dataclass
from enum import StrEnum
from typing import Any, get_type_hints

#: The data sets that need no file.
BUILT_IN = ("breast_cancer", "digits", "wine")
OPTIMIZERS = ("gd", "nesterov", "newton", "lbfgs")
#: The mechanism of differential privacy, and the optimizers that need noisy gradients alone.
PRIVACY = "gaussian"
PRIVATE_OPTIMIZERS = ("gd", "nesterov")
#: Bits of one number in a plaintext: sign, integer, fraction and room for the contributors.
SLOT_LIMIT = 64
#: Bits of the largest modulus that the crypto layer takes.
KEY_BITS_LIMIT = 8192


class ConfigError(ValueError):
    """A configuration that fl-he refuses."""


class Topology(StrEnum):
    """Who adds the ciphertexts: the coordinator (fold) or each hospital in turn (chain)."""

    fold = "fold"
    chain = "chain"


class PartitionScheme(StrEnum):
    """How the patients fall to the hospitals of a simulation."""

    even = "even"
    uneven = "uneven"
    by_label = "by_label"


class Scaling(StrEnum):
    """In which units the hospitals' features are: see :attr:`Config.scaling`."""

    federated = "federated"
    ranges = "ranges"
    local = "local"
    none = "none"


#: The scalings under which one row has no influence on the others, or one that is accounted for.
PRIVATE_SCALINGS = (Scaling.ranges, Scaling.federated, Scaling.none)


class ClassWeight(StrEnum):
    """How much an example weighs in the loss, by its class."""

    equal = "equal"
    balanced = "balanced"


class Backend(StrEnum):
    """Whether CaPC's votes are computed under encryption, or in plain for studies."""

    encrypted = "encrypted"
    plain = "plain"


class Tracking(StrEnum):
    """Where a run is logged beside its own files."""

    none = "none"
    mlflow = "mlflow"
    tensorboard = "tensorboard"
    both = "both"


@dataclass
class DataConfig:
    """Which table to learn from.

    Attributes
    ----------
    name : str
        ``breast_cancer``, ``digits``, ``wine``, ``grad_school`` or ``csv``.
    path : str or None
        The table's CSV or Parquet file, with a header; None for a data set that needs none.
    target : str or None
        Name of the column to predict.
    positive : str or None
        The label that counts as 1.
    threshold : float or None
        Makes a numeric target binary: 1 from this value on; excludes `positive`.
    classes : list of str
        Labels of more than two classes, in their order: ``"data.classes=[a,b,c]"``; excludes both.
    drop : list of str
        Columns that are not features: ``"data.drop=[id,name]"``.
    source : str or None
        Where such a file comes from, for the error when it is missing.
    """

    name: str = "breast_cancer"
    path: str | None = None
    target: str | None = None
    positive: str | None = None
    threshold: float | None = None
    classes: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    source: str | None = None


@dataclass
class PartitionConfig:
    """How a simulation divides the patients among the hospitals.

    Attributes
    ----------
    scheme : PartitionScheme
        Equal parts (``even``), parts of uneven size, or of uneven case mix (``by_label``).
    alpha : float
        Parameter of the symmetric Dirichlet distribution of the latter two, above 0; the smaller,
        the more uneven.
    """

    scheme: PartitionScheme = PartitionScheme.even
    alpha: float = 1.0


@dataclass
class OptimizerConfig:
    """The step that follows each total.

    Attributes
    ----------
    name : str
        ``gd``, gradient descent; ``nesterov``, with momentum; ``newton``, with the summed Hessian;
        ``lbfgs``, which learns the curvature from the gradients.
    lr : float
        Learning rate of the first two, above 0.
    """

    name: str = "gd"
    lr: float = 0.05


@dataclass
class PrivacyConfig:
    """Differential privacy for the patients; all of it or none.

    Attributes
    ----------
    name : str
        ``none``, or ``gaussian``: clipped gradients and a share of discrete Gaussian noise from
        each hospital.
    epsilon, delta : float or None
        The budget of the whole run; epsilon above 0, delta between 0 and 1.
    clip : float or None
        Largest L2 norm of one patient's gradient, above 0.
    scaling : float or None
        Share of the budget for the noisy sums of ``scaling=federated``, between 0 and 1; with
        another scaling there are none, and all of the budget is for the gradients.
    """

    name: str = "none"
    epsilon: float | None = None
    delta: float | None = None
    clip: float | None = None
    scaling: float | None = None


@dataclass
class CryptoConfig:
    """The Paillier key and the fixed-point numbers inside a ciphertext.

    Attributes
    ----------
    key_bits : int
        Bits of the modulus, from 1024 (which warns) to 8192; 3072 for 128-bit security.
    fraction_bits, integer_bits : int
        Bits after and before the binary point of one weighted value, at least 0 and 1. With the
        sign and the room for the contributors they must fit 64 bits.
    max_contributors : int
        The most updates that one sum has room for.
    """

    key_bits: int = 2048
    fraction_bits: int = 24
    integer_bits: int = 24
    max_contributors: int = 512


@dataclass
class CapcConfig:
    """Parties label each other's queries instead of training one model.

    Attributes
    ----------
    enabled : bool
        Whether the run is one of CaPC; ``experiment=capc_breast_cancer`` sets it.
    backend : Backend
        ``plain`` computes the same votes without any encryption.
    models : list of str
        Kinds of the parties' models; the parties take them in turn.
    querying : list of int
        The numbers of the hospitals that query, from 1. Each is answered by all others.
    queries : int
        How many cases each of them asks about, at least 1.
    selection : str
        Which ones: ``random``, ``entropy``, ``margin`` or ``k_center``.
    pool_size : float
        Share of the patients whose labels nobody has, between 0 and 1: they are asked about.
    examples : int or None
        How many examples a querying party has, at least 1; None for a share like the others'.
    weak_classes : list of int
        Classes of which a querying party has few examples.
    weak_ratio : float
        Share of those examples that it keeps, from 0 to 1.
    sigma_gnmax : float or None
        Standard deviation of the noise on each count, above 0; None for none.
    sigma_threshold : float or None
        Standard deviation of the noise of the threshold test, above 0; None for none.
    threshold : float or None
        The count that the largest one must reach, noise included; None: every query is answered.
    epsilon : float or None
        The budget of each answering party's patients, above 0; None for none.
    delta : float
        Above 0, below 1.
    value_bits : int
        Bits of a number that is compared, from 16 to 80.
    feature_fraction_bits, feature_integer_bits : int
        Fixed point of a feature.
    fourier_components : int
        Public random Fourier features, at least 1, for parties with the model ``fourier``.
    fourier_gamma : float or None
        Of their kernel ``exp(-gamma * distance**2)``, above 0; None for 1 / features.
    """

    enabled: bool = False
    backend: Backend = Backend.encrypted
    models: list[str] = field(default_factory=lambda: ["logistic", "lda", "linear_svc"])
    querying: list[int] = field(default_factory=lambda: [1])
    queries: int = 50
    selection: str = "random"
    pool_size: float = 0.3
    examples: int | None = None
    weak_classes: list[int] = field(default_factory=list)
    weak_ratio: float = 1.0
    sigma_gnmax: float | None = None
    sigma_threshold: float | None = None
    threshold: float | None = None
    epsilon: float | None = None
    delta: float = 1e-5
    value_bits: int = 32
    feature_fraction_bits: int = 12
    feature_integer_bits: int = 5
    fourier_components: int = 100
    fourier_gamma: float | None = None


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
        Share of the patients held out for the comparison, between 0 and 1.
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


def check(config: Config) -> None:  # noqa: PLR0912 - one rule after another
    """Refuse values that no run could use.

    Parameters
    ----------
    config : Config
        What to check.

    Raises
    ------
    ConfigError
        With the key, what it must be and the value that it has.
    """
    crypto = config.crypto
    for key, count, least in (
        ("hospitals", config.hospitals, 1),
        ("rounds", config.rounds, 1),
        ("min_contributors", config.min_contributors, 1),
        ("seed", config.seed, 0),
        ("crypto.key_bits", crypto.key_bits, 1024),
        ("crypto.fraction_bits", crypto.fraction_bits, 0),
        ("crypto.integer_bits", crypto.integer_bits, 1),
        ("crypto.max_contributors", crypto.max_contributors, 1),
    ):
        if count < least:
            raise ConfigError(f"{key} must be at least {least}, got {count}")
    if crypto.key_bits > KEY_BITS_LIMIT:
        raise ConfigError(
            f"crypto.key_bits must be at most {KEY_BITS_LIMIT}, got {crypto.key_bits}"
        )
    if config.output_dir is not None and not config.output_dir.strip():
        raise ConfigError(f"output_dir must be a folder or null, got {config.output_dir!r}")
    if config.seed >= 2**32:
        raise ConfigError(f"seed must be below 2**32, got {config.seed}")
    for key, number in (
        ("optimizer.lr", config.optimizer.lr),
        ("partition.alpha", config.partition.alpha),
        ("hop_timeout", config.hop_timeout),
        ("key_holder_timeout", config.key_holder_timeout),
        ("C", config.C),
    ):
        if number is not None and not (math.isfinite(number) and number > 0):
            raise ConfigError(f"{key} must be above 0 and finite, got {number}")
    if not (math.isfinite(config.tolerance) and config.tolerance >= 0):
        raise ConfigError(f"tolerance must be at least 0 and finite, got {config.tolerance}")
    if config.optimizer.name not in OPTIMIZERS:
        raise ConfigError(
            f"optimizer.name must be one of {', '.join(OPTIMIZERS)}, got {config.optimizer.name!r}"
        )
    if not 0 < config.test_size < 1:
        raise ConfigError(f"test_size must be between 0 and 1, got {config.test_size}")
    if config.segments != "auto" and not (
        isinstance(config.segments, int) and 1 <= config.segments <= config.hospitals
    ):
        raise ConfigError(
            f"segments must be auto or from 1 to hospitals ({config.hospitals}), "
            f"got {config.segments!r}"
        )
    if config.topology is not Topology.chain and config.segments != 1:
        raise ConfigError(f"segments must be 1 unless topology=chain, got {config.segments!r}")
    if config.capc.enabled:
        _check_capc(config)
    if config.sealed and (config.topology is not Topology.chain or config.segments != 1):
        raise ConfigError(
            "sealed=true must come with topology=chain and segments=1, got "
            f"topology={config.topology} segments={config.segments}"
        )
    if config.sealed:
        _check_sealed(config)
    if config.hospitals < config.min_contributors:
        raise ConfigError(
            f"hospitals must be at least min_contributors ({config.min_contributors}), got "
            f"{config.hospitals}: with fewer contributors each could compute the others' update; "
            f"set min_contributors={config.hospitals} if you accept that"
        )
    if crypto.max_contributors < config.hospitals:
        raise ConfigError(
            f"crypto.max_contributors must be at least hospitals ({config.hospitals}), got "
            f"{crypto.max_contributors}"
        )
    headroom = (crypto.max_contributors - 1).bit_length()
    slot = 1 + crypto.integer_bits + crypto.fraction_bits + headroom
    if slot > SLOT_LIMIT:
        raise ConfigError(
            f"crypto.fraction_bits + crypto.integer_bits must be at most "
            f"{SLOT_LIMIT - 1 - headroom} with crypto.max_contributors={crypto.max_contributors}, "
            f"got {slot - 1 - headroom}"
        )
    if crypto.key_bits % 2:
        raise ConfigError(f"crypto.key_bits must be even, got {crypto.key_bits}")
    _check_data(config.data)
    _check_privacy(config)
    private = config.privacy.name == PRIVACY
    needed = config.scaling is Scaling.ranges or (private and config.scaling is Scaling.federated)
    if (config.ranges is None) is needed:
        raise ConfigError(
            "ranges=FILE, a CSV file with the columns feature, low and high, must come with "
            f"scaling=ranges, and with scaling=federated and privacy={PRIVACY}, and with nothing "
            f"else, got privacy={config.privacy.name} scaling={config.scaling} "
            f"ranges={config.ranges or 'null'}"
        )


_PRIVATE = ("epsilon", "delta", "clip", "scaling")


def _check_privacy(config: Config) -> None:
    privacy = config.privacy
    values = {f"privacy.{key}": getattr(privacy, key) for key in _PRIVATE}
    if privacy.name not in ("none", PRIVACY):
        raise ConfigError(f"privacy must be none or {PRIVACY}, got {privacy.name!r}")
    if privacy.name == "none":
        for key, value in values.items():
            if value is not None:
                raise ConfigError(f"{key} must come with privacy={PRIVACY}, got {value} without it")
        return
    for key, value in values.items():
        if value is None or not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{key} must be above 0 and finite, got {value}")
    for key in ("privacy.delta", "privacy.scaling"):
        if values[key] >= 1:
            raise ConfigError(f"{key} must be below 1, got {values[key]}")
    if config.scaling not in PRIVATE_SCALINGS:
        raise ConfigError(
            f"scaling must be {' or '.join(PRIVATE_SCALINGS)} with privacy={PRIVACY}, got "
            f"{config.scaling}: each hospital's own mean and variance are not accounted for; "
            "declare what is publicly known of the features with scaling=ranges ranges=FILE"
        )
    for key, value, allowed in (
        ("optimizer.name", config.optimizer.name, PRIVATE_OPTIMIZERS),
        ("class_weight", config.class_weight, (ClassWeight.equal,)),
        ("evaluate", config.evaluate, (False,)),
    ):
        if value not in allowed:
            raise ConfigError(
                f"{key} must be {' or '.join(str(one).lower() for one in allowed)} with "
                f"privacy={PRIVACY}, got {str(value).lower()}: what else that releases of the data "
                "is not accounted for"
            )


def _check_sealed(config: Config) -> None:
    """Refuse what a coordinator would have to know the totals for."""
    if config.scaling is Scaling.federated:
        raise ConfigError(
            "scaling must be ranges, local or none with sealed=true, got federated: the "
            "coordinator would have to know the totals; set scaling=ranges ranges=FILE, or "
            "scaling=none for tables in common units, or scaling=local"
        )
    if config.evaluate:
        raise ConfigError("evaluate must be false with sealed=true, got true")
    if config.optimizer.name != "gd" or config.class_weight is not ClassWeight.equal:
        raise ConfigError(
            "sealed=true must come with optimizer=gd and class_weight=equal, got "
            f"optimizer={config.optimizer.name} class_weight={config.class_weight}"
        )


def _check_capc(config: Config) -> None:  # noqa: PLR0912 - one rule after another
    capc = config.capc
    if config.sealed or config.resume is not None:
        raise ConfigError("capc.enabled must be false with sealed or resume, got true")
    if config.privacy.name != "none":
        raise ConfigError(
            f"privacy must be none in CaPC, got {config.privacy.name}: what it releases has a "
            "budget of its own, capc.epsilon"
        )
    for key, count, least, most in (
        ("capc.queries", capc.queries, 1, 100_000),
        ("capc.examples", capc.examples or 1, 1, None),
        ("capc.value_bits", capc.value_bits, 16, 80),
        ("capc.feature_fraction_bits", capc.feature_fraction_bits, 0, 32),
        ("capc.feature_integer_bits", capc.feature_integer_bits, 1, 32),
        ("capc.fourier_components", capc.fourier_components, 1, 10_000),
    ):
        if count < least or (most is not None and count > most):
            bound = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ConfigError(f"{key} must be {bound}, got {count}")
    for key, number in (
        ("capc.sigma_gnmax", capc.sigma_gnmax),
        ("capc.sigma_threshold", capc.sigma_threshold),
        ("capc.epsilon", capc.epsilon),
        ("capc.fourier_gamma", capc.fourier_gamma),
    ):
        if number is not None and not (math.isfinite(number) and number > 0):
            raise ConfigError(f"{key} must be above 0 and finite, or null, got {number}")
    for key, share in (("capc.pool_size", capc.pool_size), ("capc.delta", capc.delta)):
        if not 0 < share < 1:
            raise ConfigError(f"{key} must be between 0 and 1, got {share}")
    if not 0 <= capc.weak_ratio <= 1:
        raise ConfigError(f"capc.weak_ratio must be from 0 to 1, got {capc.weak_ratio}")
    if capc.threshold is not None and not math.isfinite(capc.threshold):
        raise ConfigError(f"capc.threshold must be finite or null, got {capc.threshold}")
    if capc.threshold is None and capc.sigma_threshold is not None:
        raise ConfigError("capc.threshold must be set with capc.sigma_threshold, got null")
    if capc.epsilon is not None and (
        capc.sigma_gnmax is None or (capc.threshold is not None and capc.sigma_threshold is None)
    ):
        raise ConfigError("capc.epsilon must be null unless all that is released is noisy, got one")
    if not capc.models:
        raise ConfigError("capc.models must name at least one kind, got none")
    if not capc.querying or not all(1 <= number <= config.hospitals for number in capc.querying):
        raise ConfigError(
            f"capc.querying must hold numbers from 1 to hospitals ({config.hospitals}), got "
            f"{capc.querying}"
        )
    if len(set(capc.querying)) != len(capc.querying):
        raise ConfigError(f"capc.querying must hold no number twice, got {capc.querying}")
    if config.hospitals - 1 < config.min_contributors:
        raise ConfigError(
            f"hospitals must be above min_contributors ({config.min_contributors}) in CaPC, got "
            f"{config.hospitals}: whoever queries does not answer"
        )


def _check_data(data: DataConfig) -> None:
    keys = ("path", "target", "positive", "threshold", "classes", "drop")
    given = {key: getattr(data, key) for key in keys if getattr(data, key) not in (None, [])}
    if data.name in BUILT_IN:
        for key, value in given.items():
            raise ConfigError(
                f"data.{key} must be left out for data={data.name}, got {value!r}: "
                f"a table of your own is data=csv data.{key}=..."
            )
        return
    for key in ("path", "target"):
        if key not in given:
            raise ConfigError(
                f"data.{key} must be set for data={data.name}, got null: for example "
                "data=csv data.path=patients.csv data.target=outcome data.positive=yes"
            )
    meanings = given.keys() & {"positive", "threshold", "classes"}
    if len(meanings) != 1:
        count = ("neither", "", "both", "all")[len(meanings)]
        raise ConfigError(
            f"one of data.positive (the label of {data.target!r} that counts as 1) and "
            f"data.threshold (the number from which on it counts as 1), or data.classes (more "
            f"than two labels), must be set, got {count}"
        )
    if "classes" in given and (len(data.classes) < 3 or len(set(data.classes)) < len(data.classes)):
        raise ConfigError(
            f"data.classes must be at least 3 different labels, got {len(data.classes)} of which "
            f"{len(set(data.classes))} differ"
        )
    if data.threshold is not None and not math.isfinite(data.threshold):
        raise ConfigError(f"data.threshold must be finite, got {data.threshold}")
