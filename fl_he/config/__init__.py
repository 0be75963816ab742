"""How Hydra composes the configuration, and how what it refuses is said.

With :mod:`fl_he.jobs`, which runs it from the command line, the only package that imports Hydra and
OmegaConf: everything else gets the plain dataclasses of :mod:`fl_he.config_schema`. The folder
``fl_he/conf`` holds the groups of which a run picks one choice each.
"""

from fl_he.config.composition import CONF, REFUSALS, compose, to_config
from fl_he.config.explanation import explain, refuse_flags

__all__ = ["CONF", "REFUSALS", "compose", "explain", "refuse_flags", "to_config"]
