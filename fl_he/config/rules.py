"""What the values of a configuration must be, beyond their types."""

from __future__ import annotations

import math

from fl_he.config.capc import check_capc
from fl_he.config.choices import ClassWeight, Scaling, Topology
from fl_he.config.crypto import check_crypto
from fl_he.config.data import check_data
from fl_he.config.optimizer import check_optimizer
from fl_he.config.privacy import PRIVACY, check_privacy
from fl_he.config.refusal import ConfigError, require_count, require_positive
from fl_he.config.run import Config


def check(config: Config) -> None:
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
    _check_run(config)
    check_optimizer(config.optimizer)
    require_positive("partition.alpha", config.partition.alpha)
    _check_segments(config)
    if config.capc.enabled:
        check_capc(config)
    if config.sealed:
        _check_sealed(config)
    _check_contributors(config)
    check_crypto(config.crypto)
    check_data(config.data)
    check_privacy(config)
    _check_ranges(config)


def _check_run(config: Config) -> None:
    require_count("hospitals", config.hospitals, 1)
    require_count("rounds", config.rounds, 1)
    require_count("min_contributors", config.min_contributors, 1)
    require_count("seed", config.seed, 0)
    if config.seed >= 2**32:
        raise ConfigError(f"seed must be below 2**32, got {config.seed}")
    require_positive("hop_timeout", config.hop_timeout)
    require_positive("key_holder_timeout", config.key_holder_timeout)
    if config.C is not None:
        require_positive("C", config.C)
    if not (math.isfinite(config.tolerance) and config.tolerance >= 0):
        raise ConfigError(f"tolerance must be at least 0 and finite, got {config.tolerance}")
    if not 0 <= config.test_size < 1:
        raise ConfigError(f"test_size must be at least 0 and below 1, got {config.test_size}")
    if config.test_size == 0 and config.evaluate:
        raise ConfigError(
            "test_size must be above 0 with evaluate=true, got 0: what is counted is held out"
        )
    if config.output_dir is not None and not config.output_dir.strip():
        raise ConfigError(f"output_dir must be a folder or null, got {config.output_dir!r}")


def _check_segments(config: Config) -> None:
    if config.segments != "auto" and not (
        isinstance(config.segments, int) and 1 <= config.segments <= config.hospitals
    ):
        raise ConfigError(
            f"segments must be auto or from 1 to hospitals ({config.hospitals}), "
            f"got {config.segments!r}"
        )
    if config.topology is not Topology.chain and config.segments != 1:
        raise ConfigError(f"segments must be 1 unless topology=chain, got {config.segments!r}")


def _check_sealed(config: Config) -> None:
    if config.topology is not Topology.chain or config.segments != 1:
        raise ConfigError(
            "sealed=true must come with topology=chain and segments=1, got "
            f"topology={config.topology} segments={config.segments}"
        )
    # What a coordinator would have to know the totals for.
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


def _check_contributors(config: Config) -> None:
    if config.hospitals < config.min_contributors:
        raise ConfigError(
            f"hospitals must be at least min_contributors ({config.min_contributors}), got "
            f"{config.hospitals}: with fewer contributors each could compute the others' update; "
            f"set min_contributors={config.hospitals} if you accept that"
        )
    most = config.crypto.max_contributors
    if 1 <= most < config.hospitals:
        raise ConfigError(
            f"crypto.max_contributors must be at least hospitals ({config.hospitals}), got {most}"
        )


def _check_ranges(config: Config) -> None:
    private = config.privacy.name == PRIVACY
    needed = config.scaling is Scaling.ranges or (private and config.scaling is Scaling.federated)
    if (config.ranges is None) is needed:
        raise ConfigError(
            "ranges=FILE, a CSV file with the columns feature, low and high, must come with "
            f"scaling=ranges, and with scaling=federated and privacy={PRIVACY}, and with nothing "
            f"else, got privacy={config.privacy.name} scaling={config.scaling} "
            f"ranges={config.ranges or 'null'}"
        )
