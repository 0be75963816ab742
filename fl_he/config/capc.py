"""``capc``: parties label each other's queries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from fl_he.config.refusal import ConfigError, require_count, require_positive

if TYPE_CHECKING:
    from fl_he.config.run import Config


class Backend(StrEnum):
    """Whether CaPC's votes are computed under encryption, or in plain for studies."""

    encrypted = "encrypted"
    plain = "plain"


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


def check_capc(config: Config) -> None:
    """Refuse what no run of CaPC could use; raises ConfigError."""
    capc = config.capc
    if config.sealed or config.resume is not None:
        raise ConfigError("capc.enabled must be false with sealed or resume, got true")
    if config.privacy.name != "none":
        raise ConfigError(
            f"privacy must be none in CaPC, got {config.privacy.name}: what it releases has a "
            "budget of its own, capc.epsilon"
        )
    if config.test_size == 0:
        raise ConfigError(
            "test_size must be above 0 in CaPC, got 0: models are compared before and after"
        )
    _check_numbers(capc)
    _check_release(capc)
    _check_parties(config)


def _check_numbers(capc: CapcConfig) -> None:
    for key, count, least, most in (
        ("capc.queries", capc.queries, 1, 100_000),
        ("capc.examples", capc.examples or 1, 1, None),
        ("capc.value_bits", capc.value_bits, 16, 80),
        ("capc.feature_fraction_bits", capc.feature_fraction_bits, 0, 32),
        ("capc.feature_integer_bits", capc.feature_integer_bits, 1, 32),
        ("capc.fourier_components", capc.fourier_components, 1, 10_000),
    ):
        require_count(key, count, least, most)
    for key, number in (
        ("capc.sigma_gnmax", capc.sigma_gnmax),
        ("capc.sigma_threshold", capc.sigma_threshold),
        ("capc.epsilon", capc.epsilon),
        ("capc.fourier_gamma", capc.fourier_gamma),
    ):
        require_positive(key, number, nullable=True)
    for key, share in (("capc.pool_size", capc.pool_size), ("capc.delta", capc.delta)):
        if not 0 < share < 1:
            raise ConfigError(f"{key} must be between 0 and 1, got {share}")
    if not 0 <= capc.weak_ratio <= 1:
        raise ConfigError(f"capc.weak_ratio must be from 0 to 1, got {capc.weak_ratio}")


def _check_release(capc: CapcConfig) -> None:
    """Check the threshold test, and that a budget is for what is noisy."""
    if capc.threshold is not None and not math.isfinite(capc.threshold):
        raise ConfigError(f"capc.threshold must be finite or null, got {capc.threshold}")
    if capc.threshold is None and capc.sigma_threshold is not None:
        raise ConfigError("capc.threshold must be set with capc.sigma_threshold, got null")
    if capc.epsilon is not None and (
        capc.sigma_gnmax is None or (capc.threshold is not None and capc.sigma_threshold is None)
    ):
        raise ConfigError("capc.epsilon must be null unless all that is released is noisy, got one")


def _check_parties(config: Config) -> None:
    capc = config.capc
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
