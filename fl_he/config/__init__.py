"""The typed schema of the configuration and the rules that its values must follow.

Plain dataclasses: types, defaults and checks are here, :mod:`fl_he.config` fills them with Hydra.
``run`` has the settings of a run that are in no group; each group has a file of its name, with the
rules that are its own; ``rules`` has all others.
"""

from fl_he.config.capc import Backend, CapcConfig
from fl_he.config.choices import (
    PRIVATE_SCALINGS,
    ClassWeight,
    Scaling,
    Topology,
    Tracking,
)
from fl_he.config.crypto import KEY_BITS_LIMIT, CryptoConfig
from fl_he.config.data import BUILT_IN, DataConfig
from fl_he.config.optimizer import OPTIMIZERS, OptimizerConfig
from fl_he.config.partition import PartitionConfig, PartitionScheme
from fl_he.config.privacy import PRIVACY, PRIVATE_OPTIMIZERS, PrivacyConfig
from fl_he.config.refusal import ConfigError
from fl_he.config.rules import check
from fl_he.config.run import Config, schema_keys

__all__ = [
    "BUILT_IN",
    "KEY_BITS_LIMIT",
    "OPTIMIZERS",
    "PRIVACY",
    "PRIVATE_OPTIMIZERS",
    "PRIVATE_SCALINGS",
    "Backend",
    "CapcConfig",
    "ClassWeight",
    "Config",
    "ConfigError",
    "CryptoConfig",
    "DataConfig",
    "OptimizerConfig",
    "PartitionConfig",
    "PartitionScheme",
    "PrivacyConfig",
    "Scaling",
    "Topology",
    "Tracking",
    "check",
    "schema_keys",
]
